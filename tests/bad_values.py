"""Values and arrays that no caller should pass, and the cases that they make.

`VALUES` goes to every parameter, and `WRONG` says, by the kind of a parameter, of which of them a
result would be a fault: the others either are refused or have a meaning. Arrays come as the same
values in other clothes, which must not matter; as what is no array of numbers; and in other shapes.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from arrays import LAYOUTS


@dataclass
class Case:
    """One call, and what is known of it."""

    name: str
    run: Callable[[], Any]
    names: tuple[str, ...]  # arguments that a message may begin with
    wrong: bool = False  # whether a result would be a fault
    same: Callable[[], Any] | None = None  # what a result must equal
    inputs: dict[str, np.ndarray] = field(default_factory=dict)


# -- values ----------------------------------------------------------------------------------------


class Failing:
    """Every way to make a number, a sequence or an array of this raises something else."""

    def __index__(self):
        raise ZeroDivisionError("no index")

    def __len__(self):
        raise OverflowError("no length")

    def __iter__(self):
        raise KeyError("no items")

    def __float__(self):
        raise LookupError("no float")

    def __bool__(self):
        raise RuntimeError("no truth")

    def __array__(self, *args, **kwargs):
        raise OSError("no array")


class Subclass(np.ndarray):
    """An ndarray that fails where a subclass can."""

    def __array_function__(self, *args, **kwargs):
        raise RuntimeError("no function")

    def __array_ufunc__(self, *args, **kwargs):
        raise RuntimeError("no ufunc")

    def __array_finalize__(self, parent):
        if parent is not None and type(parent) is not np.ndarray:
            raise RuntimeError("no view")


def endless() -> Iterator[int]:
    while True:
        yield 1


RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)

# Of no use for any parameter.
JUNK = {
    "object": object(),
    "dict": {"a": 1},
    "set": {1, 2},
    "function": len,
    "slice": slice(None),
    "complex": 1j,
    "bytes": b"3",
    "failing": Failing(),
    "endless": endless(),
    "recursive": RECURSIVE,
    "text": "3",
    "no text": "",
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "datetime": np.datetime64("2020-01-01"),
    "object array": np.array([None, 1], object),
    "structured": np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "text array": np.array(["1", "2"]),
    "ragged": ((1, 2), (3,)),
}
FRACTIONS = {
    "1.0": 1.0, "1.5": 1.5, "nan": np.nan, "inf": np.inf, "-inf": -np.inf, "float32": np.float32(1),
    "10**400": 10**400,
}  # fmt: skip
NUMBERS = {
    "0": 0, "-1": -1, "2": 2, "2**20": 2**20, "2**31-1": 2**31 - 1, "2**31": 2**31,
    "2**32": 2**32, "2**40": 2**40, "2**62": 2**62, "2**63-1": 2**63 - 1, "2**63": 2**63,
    "2**64": 2**64, "-2**31": -(2**31), "-2**63": -(2**63), "int8": np.int8(1),
    "uint64": np.uint64(2**64 - 1), "0-d": np.array(1),
}  # fmt: skip
SEQUENCES = {
    "()": (), "[]": [], "(1,)": (1,), "(1,1)": (1, 1), "(1,2,3)": (1, 2, 3), "(0,1)": (0, 1),
    "(1,-1)": (1, -1), "(1,1.5)": (1, 1.5), "(1,True)": (1, True), "(1,None)": (1, None),
    "(2**32,2**32)": (2**32, 2**32), "pairs": ((1, 1), (1, 1)),
    "pairs of 2**40": ((2**40,) * 2,) * 2,
    "-pairs": ((0, 0), (-1, 0)), "four": (1, 1, 1, 1), "four of 2**16": (2**16,) * 4,
    "four of -536870912": (-536870912,) * 4, "four of 2**31": (2**31,) * 4, "four of 0": (0,) * 4,
    "deep": ((((1,),),),), "long": (1,) * 10**5, "array of ints": np.array([1, 1]),
    "array of floats": np.array([1.0, 1.0]), "nothing": np.zeros(0),
}  # fmt: skip
OTHERS = {"None": None, "True": True, "False": False, "numpy True": np.True_}
VALUES = {**JUNK, **FRACTIONS, **NUMBERS, **SEQUENCES, **OTHERS}

TOO_LARGE = {"2**62", "2**63-1", "2**63", "2**64", "uint64", "10**400"}
NEGATIVE = {"-1", "-2**31", "-2**63"}
NO_NUMBER = {*JUNK, *(SEQUENCES), "None", "nan"}
# Values of which a result would be a fault, by the kind of parameter.
WRONG: dict[str, set[str]] = {
    "count": {*JUNK, *FRACTIONS, *SEQUENCES, *OTHERS, *TOO_LARGE, *NEGATIVE, "0"},
    "pair": {
        *JUNK, *FRACTIONS, *TOO_LARGE, *NEGATIVE, *OTHERS, "0", "()", "[]", "(1,)", "(1,2,3)",
        "(0,1)", "(1,-1)", "(1,1.5)", "(1,True)", "(1,None)", "pairs", "-pairs", "four", "deep",
        "long", "array of floats", "nothing", "pairs of 2**40",
    },
    "border": {
        *JUNK, *FRACTIONS, *TOO_LARGE, *NEGATIVE, *OTHERS, "()", "[]", "(1,)", "(1,2,3)",
        "(1,-1)", "(1,1.5)", "(1,True)", "(1,None)", "-pairs", "four", "deep", "long",
        "array of floats", "nothing",
    },
    "shape": {*JUNK, *FRACTIONS, *NUMBERS, *OTHERS, *SEQUENCES},
    "switch": {*VALUES} - {"True", "False", "numpy True"},
    "choice": {*VALUES},
    "dtype": {*VALUES} - {"float32"},
    "sizes": {
        *JUNK, *FRACTIONS, *NUMBERS, *OTHERS, "(1,-1)", "(1,1.5)", "(1,True)", "(1,None)",
        "pairs", "pairs of 2**40", "-pairs", "four of -536870912", "deep", "long",
        "array of floats",
    },
    "number": {*NO_NUMBER, "True", "False", "numpy True", "10**400"},
    "array": {
        "None", "object", "dict", "set", "function", "slice", "complex", "bytes", "failing",
        "endless", "recursive", "text", "no text", "NUL", "surrogate", "datetime", "object array",
        "structured", "text array", "ragged", "10**400",
    },
    "out": {*VALUES} - {"None"},
    "any": set(),
}  # fmt: skip
KINDS = {
    "count": "groups filters units depth_multiplier k classes steps patience",
    "pair": "stride dilation size scale output_size kernel_size",
    "border": "padding output_padding",
    "shape": "input_shape kernel_shape shape",
    "switch": "ceil_mode count_include_pad return_indices return_moments align_corners need_dx "
    "channels_last bias_switch nesterov decay_vectors",
    "choice": "mode activation algorithm approximate padding_mode",
    "dtype": "dtype",
    "number": "epsilon slope value label_smoothing delta momentum rate learning_rate beta beta1 "
    "beta2 weight_decay clip_norm clip_value factor p",
    "out": "out",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


# What would be right, and take too long.
LARGE_NUMBERS = ("2**20", "2**31-1", "2**31", "2**32", "2**40")
LEFT_OUT = dict.fromkeys(("epochs", "steps_per_epoch"), LARGE_NUMBERS)
LEFT_OUT |= dict.fromkeys(("filters", "units", "depth_multiplier"), ("2**20",))
LEFT_OUT |= {"wavelengths": ("long",), "orientations": LARGE_NUMBERS}
# A function would be called, and fail as it likes.
LEFT_OUT["resume"] = ("bytes", "text", "no text", "NUL", "surrogate")  # names of files
LEFT_OUT |= dict.fromkeys(("learning_rate", "then", "loss", "augmentation"), ("function",))

# Shapes that no array of the call has to fit.
KIND_OF |= {"output_shape.input_shape": "sizes", "empty.shape": "sizes"}
# Numbers that may be NaN: what comes of it is what IEEE says.
IEEE = {
    "Pad2D": ("value",),
    "filter_image": ("value",),
    "sgd_update": ("rate", "momentum", "weight_decay"),
    "adam_update": ("rate", "beta1", "beta2", "epsilon"),
    "rmsprop_update": ("rate", "beta", "epsilon", "momentum", "weight_decay"),
}
KIND_OF |= {f"{label}.{name}": "filling" for label, names in IEEE.items() for name in names}
WRONG["filling"] = WRONG["number"] - {"nan"}
KIND_OF |= {"output_shape.kernel_shape": "window"}
WRONG["window"] = WRONG["pair"] - {"four"}


# -- arrays ----------------------------------------------------------------------------------------


class Told:
    """An object whose ``__array__`` gives what it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def __array__(self, *args, **kwargs):
        return self.answer


class Lent:
    """An object with ``__dlpack__`` only."""

    def __init__(self, answer):
        self.answer = answer

    def __dlpack__(self, *args, **kwargs):
        if self.answer is None:
            raise BufferError("on another device")
        return self.answer.__dlpack__(*args, **kwargs)

    def __dlpack_device__(self):
        return (1, 0) if self.answer is not None else (2, 0)


def same_values(array: np.ndarray) -> dict[str, Any]:
    """The array in other clothes: the result must be the one of a plain copy."""
    found: dict[str, Any] = {name: layout(array) for name, layout in LAYOUTS.items()}
    for axis in range(array.ndim):
        # One element seen in many places: other values, so the copy has them too.
        found[f"broadcast {axis}"] = np.broadcast_to(array.take([0], axis), array.shape)
    if array.ndim > 2:
        found["channels-last"] = np.moveaxis(np.moveaxis(array, -3, -1).copy(), -1, -3)
    found["list"] = array.tolist()
    found["told"] = Told(array)
    found["lent"] = Lent(array)
    found["subclass"] = np.array(array).view(Subclass)
    found["nothing masked"] = np.ma.array(array, mask=False)
    if array.ndim == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["matrix"] = np.matrix(array)
    if array.dtype.kind == "f":
        found["float64"] = array.astype(np.float64)
        found["float16"] = array.astype(np.float16)
        found["int64"] = array.astype(np.int64)
        found["big-endian int16"] = array.astype(">i2")
        found["bool"] = array.astype(bool)
    return found


def wrong_arrays(array: np.ndarray) -> dict[str, Any]:
    """Arrays of which no operation makes sense, in that place or anywhere."""
    shape, ndim = array.shape, array.ndim
    hidden = np.ma.array(array, mask=False)
    hidden[(0,) * ndim] = np.ma.masked
    found: dict[str, Any] = {
        "complex64": array.astype(np.complex64),
        "longdouble": array.astype(np.longdouble),
        "objects": array.astype(object),
        "objects none": np.full(shape, None),
        "str": array.astype("U8"),
        "bytes": array.astype("S8"),
        "datetimes": np.zeros(shape, "M8[s]"),
        "timedeltas": np.zeros(shape, "m8[s]"),
        "void": np.zeros(shape, "V4"),
        "void 0": np.zeros(shape, "V0"),
        "records": np.zeros(shape, [("a", "f4")]),
        "masked": hidden,
        "told None": Told(None),
        "told text": Told("x"),
        "told objects": Told(np.full(shape, None)),
        "lent nothing": Lent(None),
    }
    return found


def other_shapes(array: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of another shape: most operations refuse most of them, and none may die of one."""
    shape, ndim, dtype = array.shape, array.ndim, array.dtype
    zero = dtype.type(0)
    found = {
        "0-d": np.zeros((), dtype),
        "1-d": np.zeros(1, dtype),
        "flat": np.zeros(array.size, dtype),
        "one axis more": np.zeros((1, *shape), dtype),
        "one axis less": np.zeros(shape[1:], dtype),
        "32 axes": np.zeros((1,) * 32, dtype),
        "64 axes": np.zeros((1,) * 64, dtype) if np.lib.NumpyVersion(np.__version__) >= "2.0.0"
        else np.zeros((1,) * 32, dtype),
        "transposed": np.zeros(shape[::-1], dtype),
        "all 0": np.zeros((0,) * ndim, dtype),
        "all 1": np.zeros((1,) * ndim, dtype),
    }  # fmt: skip
    for axis in range(ndim):
        for label, length in (
            ("0", 0),
            ("1", 1),
            ("less", shape[axis] - 1),
            ("more", shape[axis] + 1),
        ):
            new = (*shape[:axis], length, *shape[axis + 1 :])
            found[f"axis {axis} {label}"] = np.zeros(new, dtype)
        # Too large for any result, and for any copy: one element, seen from everywhere.
        huge = (*shape[:axis], 2**45, *shape[axis + 1 :])
        found[f"axis {axis} 2**45"] = np.broadcast_to(zero, huge)
    if ndim:
        found["huge everywhere"] = np.broadcast_to(zero, (2 ** (56 // ndim),) * ndim)
        found["huge empty"] = np.broadcast_to(zero, (0, *(2 ** (56 // ndim),) * (ndim - 1)))
    return found


# -- cases -----------------------------------------------------------------------------------------


def kind_of(label: str, parameter: inspect.Parameter, valid: dict[str, Any]) -> str:
    if f"{label}.{parameter.name}" in KIND_OF:
        return KIND_OF[f"{label}.{parameter.name}"]
    if isinstance(valid.get(parameter.name), np.ndarray):
        return "array"
    if parameter.annotation in ("ArrayLike", "ArrayLike | None"):
        return "array"
    if parameter.annotation == "bool":
        return "switch"
    return KIND_OF.get(parameter.name, "any")


def is_wrong(kind: str, value_name: str, parameter: inspect.Parameter) -> bool:
    default = parameter.default
    if value_name == "None" and default is None:
        return False
    value = VALUES[value_name]
    if default is not inspect.Parameter.empty and type(value) is type(default):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if value == default:
                return False
    return value_name in WRONG[kind]


def value_cases(
    label: str,
    function: Callable[..., Any],
    valid: dict[str, Any],
    use: Callable[[Any], Any] = lambda result: result,
    also: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Each parameter of `function` with each of `VALUES`; `use` makes the most of its result.

    A message may also begin with one of the names `also`, arguments of what is called there.
    """
    parameters = inspect.signature(function).parameters
    names = (*parameters, *also)
    arrays = {k: v for k, v in valid.items() if isinstance(v, np.ndarray)}
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = kind_of(label, parameter, valid)
        for value_name, value in VALUES.items():
            if value_name in LEFT_OUT.get(parameter.name, ()):
                continue
            arguments = {**valid, parameter.name: value}
            yield Case(
                f"{label}({parameter.name}={value_name})",
                lambda arguments=arguments: use(function(**arguments)),
                names,
                is_wrong(kind, value_name, parameter),
                inputs=arrays,
            )


def array_cases(
    label: str,
    function: Callable[..., Any],
    valid: dict[str, Any],
    also: tuple[str, ...] = (),
    accepted: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Each array argument as every kind of array."""
    names = (*inspect.signature(function).parameters, *also)
    for argument, array in valid.items():
        if not isinstance(array, np.ndarray):
            continue

        def case(kind, value, wrong, plain=None, argument=argument):
            given = {**valid, argument: value}
            arrays = {k: v for k, v in given.items() if type(v) is np.ndarray and v.size < 10**6}
            return Case(
                f"{label}({argument}: {kind})",
                lambda: function(**given),
                names,
                wrong,
                None if plain is None else lambda: function(**{**valid, argument: plain}),
                arrays,
            )

        for kind, value in same_values(array).items():
            plain = np.array(
                value.answer if isinstance(value, (Told, Lent)) else value, subok=False
            )
            if plain.dtype.kind in "f" and plain.dtype != array.dtype and kind != "list":
                plain = plain.astype(plain.dtype.newbyteorder("="))
            yield case(kind, value, False, plain)
        for kind, value in wrong_arrays(array).items():
            yield case(kind, value, kind not in accepted)
        for kind, value in other_shapes(array).items():
            yield case(kind, value, False)

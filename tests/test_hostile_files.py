"""Files as strangers write them: nothing but ValueError and OSError, soon, and in little memory.

Everything runs in a process of its own, which may take 64 MB and the file's size more memory than
it has when it begins, and whose end by a signal would be seen.
"""

import gzip
import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import hostile
import numpy as np
import pytest
from processes import printed_by

import fastconv
from fastconv import Sequential
from fastconv.archive import read_arrays, write_arrays
from fastconv.callbacks import Checkpoint, EarlyStopping
from fastconv.data import load_folder, read_cifar, read_idx
from fastconv.interop import read_weights, write_weights
from fastconv.models import lenet5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")

MEGABYTE = 1 << 20
PICTURES = ("png", "jpeg", "gif")
SECONDS = 1.0


# ---- good files ---------------------------------------------------------------------------------


def small():
    return Sequential(
        [
            fastconv.Conv2D(3, 3, padding="same", bias=False, padding_mode="reflect"),
            fastconv.BatchNorm(activation="relu"),
            fastconv.Residual(
                Sequential([fastconv.Conv2D(3, (3, 1), padding=((1, 1), (0, 0))), fastconv.GELU()])
            ),
            fastconv.Concat(
                fastconv.MaxPool(2), fastconv.AvgPool(2), fastconv.Conv2D(2, 2, stride=2)
            ),
            fastconv.Pad2D(1, value=0.5),
            fastconv.Upsample(2, mode="bilinear"),
            fastconv.AdaptiveAvgPool(2),
            fastconv.Conv2DTranspose(2, 2, stride=2),
            fastconv.SeparableConv2D(2, 3, padding=1),
            fastconv.GroupNorm(2),
            fastconv.SpatialDropout(0.1),
            fastconv.LeakyReLU(0.1),
            fastconv.Flatten(),
            fastconv.Dense(3),
        ],
        seed=0,
    )


def training(path, **options):
    x = np.random.default_rng(0).random((12, 2, 8, 8))
    net = small()
    return net.fit(
        x, np.arange(12) % 3, batch_size=6, validation_split=0.3, progress=False,
        callbacks=[EarlyStopping("val_loss"), Checkpoint(path)], **options,
    )  # fmt: skip


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def good_files(folder):
    net = small()
    net.build((2, 8, 8))
    net.metadata = {"classes": ["a", "b"], "mean": 0.5}
    net.save(folder / "model")
    training(folder / "checkpoint")
    weights = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3, "i4"), "c": np.ones(0, "?")}
    for kind in ("npz", "safetensors"):
        write_weights(folder / f"weights.{kind}", weights)
        (folder / f"weights.{kind}").rename(folder / kind)
    rng = np.random.default_rng(1)
    (folder / "idx").write_bytes(idx(rng.integers(0, 256, (5, 4, 3))))
    (folder / "gz").write_bytes(gzip.compress(idx(rng.integers(0, 256, (5, 4, 3))), mtime=0))
    (folder / "cifar").write_bytes(bytes(3073 * 2))
    try:
        from PIL import Image
    except ImportError:
        return
    picture = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    for kind in ("png", "jpeg", "gif"):
        picture.save(folder / kind, kind)


def reader(kind, path):
    """A function that reads the file as what it is."""
    if kind == "model":
        return lambda: Sequential.load(path)
    if kind == "checkpoint":
        return lambda: training(path.parent / "again", resume=path, epochs=1)
    if kind in ("npz", "safetensors"):
        named = path.with_name(f"weights.{kind}")
        path.rename(named)
        return lambda: read_weights(named)
    if kind == "cifar":
        return lambda: read_cifar(path)
    if kind in ("idx", "gz"):
        return lambda: read_idx(path)
    inside = path.parent / "pictures" / "class"
    inside.mkdir(parents=True, exist_ok=True)
    path.rename(inside / "picture")
    return lambda: load_folder(inside.parent, validation_split=0.0)


# ---- in a process of its own --------------------------------------------------------------------


def limit_memory(more):
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def attack(folder, count, seed, pictures):
    """Read `count` mutated files; raise at the first that does anything but fail well."""
    import warnings

    warnings.simplefilter("ignore")  # Pillow's
    folder = Path(folder)
    good_files(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    kinds = [kind for kind in hostile.KNOWING if kind in files and (kind in PICTURES) == pictures]
    for kind in kinds:
        (folder / "tried").write_bytes(files[kind])
        reader(kind, folder / "tried")()
    limit_memory((1024 if pictures else 64) * MEGABYTE)
    rng = np.random.default_rng(seed)
    accepted = 0
    for number in range(count):
        kind = kinds[number % len(kinds)]
        data = hostile.mutated(rng, kind, files)
        path = folder / "tried"
        path.write_bytes(data)
        read = reader(kind, path)
        start = time.process_time()
        try:
            read()
            accepted += 1
        except (ValueError, OSError):
            pass
        except BaseException:
            (folder / "culprit").write_bytes(data)
            print(f"number {number} of seed {seed}, a {kind}: {folder / 'culprit'}", flush=True)
            raise
        seconds = time.process_time() - start
        what = f"number {number} of seed {seed}, a {kind}"
        assert pictures or seconds < SECONDS, f"{what}: {seconds} s"
    print(accepted, flush=True)


def alone(call, *arguments):
    """Run ``call(*arguments)`` of this file in its own process; return what it prints."""
    code = f"from test_hostile_files import *; {call}(*{arguments!r})"
    return printed_by(code, 600, cwd=Path(__file__).parent, OMP_NUM_THREADS="1")


def test_mutated_files_give_value_errors(tmp_path, count):
    rounds = count(1, 20)
    for seed in range(rounds):
        folder = tmp_path / str(seed)
        folder.mkdir()
        files = count(2000, 5000)
        accepted = int(alone("attack", str(folder), files, seed, False))
        assert 0.02 * files < accepted < 0.7 * files, "mutations hit something, and not everything"


def test_mutated_pictures_give_value_errors(tmp_path, count):
    """Pillow takes the memory that a picture's header asks for; there is a limit to that."""
    pytest.importorskip("PIL")
    alone("attack", str(tmp_path), count(200, 5000), 0, True)


# ---- memory -------------------------------------------------------------------------------------


def read_large(kind, path):
    path = Path(path)
    limit_memory(64 * MEGABYTE + path.stat().st_size)
    read = {
        "model": Sequential.load, "npz": read_weights, "safetensors": read_weights,
        "idx": read_idx, "cifar": read_cifar,
    }  # fmt: skip
    read[kind](path)


@pytest.mark.parametrize("kind", ["model", "npz", "safetensors", "idx", "cifar"])
def test_a_large_file_is_in_memory_once(kind, tmp_path):
    path = tmp_path / f"large.{kind}"
    size = 100 * MEGABYTE
    if kind == "model":
        Sequential([fastconv.Dense(size // 4000)], input_shape=(1000,)).save(path)
    elif kind == "idx":
        with open(path, "wb") as file:
            file.write(bytes([0, 0, 0x0D, 2, *(size // 400).to_bytes(4, "big"), 0, 0, 0, 100]))
            file.truncate(12 + size // 400 * 400)
    elif kind == "cifar":
        with open(path, "wb") as file:
            file.truncate(size // 3073 * 3073)
    else:
        write_weights(path, {"a": np.zeros((size // 800, 100))})
    alone("read_large", kind, str(path))


def described(layers, shape=(1, 8, 8), **more):
    return {
        "format": "fastconv.Sequential", "version": 1, "dtype": "float32", "input_shape": shape,
        "layers": layers, "metadata": {},
    } | more  # fmt: skip


def chain(layer, inner, depth):
    for _ in range(depth):
        inside = {"layers": [inner]} if layer == "Sequential" else {"body": inner}
        inner = {"layer": layer, **inside}
    return inner


RELU = {"layer": "ReLU"}
TEXTS = {
    "layers": json.dumps(described([RELU] * 10_000)),
    "more layers": json.dumps(described([RELU] * 50_000)),
    "poolings": json.dumps(described([{"layer": "MaxPool", "size": 1}] * 10_000)),
    "branches": json.dumps(described([{"layer": "Concat", "branches": [RELU] * 9_000}])),
    "chains": json.dumps(described([chain("Sequential", RELU, 17)] * 550)),
    "residuals": json.dumps(described([chain("Residual", RELU, 35)] * 270)),
    "deep chains": json.dumps(described([chain("Sequential", RELU, 100)] * 200)),
    "deep": json.dumps(described([chain("Residual", RELU, 300)])),
    "lists": json.dumps(described([[]] * 200_000)),
    "nested lists": json.dumps(described([[0]] * 150_000)),
    "objects": json.dumps(described([{}] * 200_000)),
    "metadata": json.dumps(described([RELU], metadata={str(i): 0 for i in range(80_000)})),
    "brackets": "[" * 900_000,
    "closed brackets": "[" * 450_000 + "]" * 450_000,
    "digits": "9" * 900_000,
    "numbers": json.dumps(described([RELU], shape=[1] * 400_000)),
    "escapes": '"' + "\\u00e9" * 150_000 + '"',
    "too long": json.dumps(described([RELU], metadata={"a": "x" * 1_000_000})),
    "upsample": json.dumps(described([{"layer": "Upsample", "scale": 10**5}] * 2)),
    "border": json.dumps(described([{"layer": "Pad2D", "padding": 10**9}])),
    "adaptive": json.dumps(described([{"layer": "AdaptiveAvgPool", "output_size": 10**9}])),
    "average": json.dumps(described([{"layer": "AvgPool", "size": 1}], (1, 10**9, 10**9))),
    "filters": json.dumps(described([{"layer": "Conv2D", "filters": 10**12, "kernel_size": 3}])),
    "kernel": json.dumps(described([{"layer": "Conv2D", "filters": 1, "kernel_size": 10**9}])),
    "units": json.dumps(described([{"layer": "Flatten"}, {"layer": "Dense", "units": 10**12}])),
    "channels": json.dumps(described([{"layer": "BatchNorm"}], (2**40, 1, 1))),
    "depthwise": json.dumps(
        described([{"layer": "DepthwiseConv2D", "kernel_size": 3, "depth_multiplier": 2**40}])
    ),
}  # fmt: skip


def read_descriptions(folder):
    limit_memory(65 * MEGABYTE)
    for path in sorted(Path(folder).iterdir()):
        start = time.process_time()
        try:
            Sequential.load(path)
        except ValueError as error:
            assert len(str(error)) < 10_000, f"{path}: {len(str(error))} characters of message"
        seconds = time.process_time() - start
        assert seconds < SECONDS, f"{path}: {seconds} s"


def test_descriptions_ask_for_little(tmp_path):
    for kind, text in TEXTS.items():
        write_arrays(tmp_path / kind, {"model": np.frombuffer(text.encode(), np.uint8)})
    alone("read_descriptions", str(tmp_path))


def test_many_entries_with_long_names(tmp_path):
    """Each has to find its layer."""
    text = np.frombuffer(json.dumps(described([RELU])).encode(), np.uint8)
    names = [f"{number}" + ".0" * 190 for number in range(9_999)]
    write_arrays(tmp_path / "model", {"model": text} | dict.fromkeys(names, np.zeros(0)))
    alone("read_descriptions", str(tmp_path))
    with pytest.raises(ValueError, match="expected at most 10000 arrays, got 10001"):
        write_arrays(tmp_path / "more", dict.fromkeys(map(str, range(10_001)), np.zeros(0)))
    with zipfile.ZipFile(tmp_path / "more", "w") as archive:
        for number in range(10_001):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(ValueError, match="expected at most 10000 entries, got 10001"):
        read_arrays(tmp_path / "more")


def set_off(folder):
    limit_memory(64 * MEGABYTE)
    for path in Path(folder).iterdir():
        try:
            read_idx(path)
        except ValueError:
            continue
        raise AssertionError(f"accepted {path.name}")


def test_compressed_bombs_are_not_set_off(tmp_path):
    """Headers that promise more than there is, and files that have more than was promised."""
    most = (2**31 - 1).to_bytes(4, "big")
    for name, data in (
        ("cube", bytes([0, 0, 8, 3]) + most * 3 + bytes(100)),
        ("row", bytes([0, 0, 8, 1]) + most + bytes(100)),
        ("rest", bytes([0, 0, 8, 1, 0, 0, 0, 10]) + bytes(200 * MEGABYTE)),
        ("axes", bytes([0, 0, 8, 255]) + bytes(255 * 4)),
    ):
        if name != "rest":
            (tmp_path / name).write_bytes(data)
        compressed = gzip.compress(data, 1)
        (tmp_path / f"{name}.gz").write_bytes(compressed)
        (tmp_path / f"{name}3.gz").write_bytes(compressed * 3)
    alone("set_off", str(tmp_path))


# ---- archives -----------------------------------------------------------------------------------


def packed(entries, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


ARRAY = hostile.npy(np.arange(3.0))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "too short"),
        (bytes(50), "does not end as a zip"),
        (packed([("a.npy", ARRAY)]) + b"x", "does not end as a zip"),
        (b"x" + packed([("a.npy", ARRAY)]), "does not end as a zip"),
        (packed([("a.npy", ARRAY)], compression=zipfile.ZIP_DEFLATED), "uncompressed"),
        (packed([("a", ARRAY)]), "expected arrays, .npy"),
        (packed([(".npy", ARRAY)]), "expected names"),
        (packed([("../a.npy", ARRAY)]), "expected names without"),
        (packed([("b/../../a.npy", ARRAY)]), "expected names without"),
        (packed([("/a.npy", ARRAY)]), "expected names without"),
        (packed([("c:a.npy", ARRAY)]), "expected names without"),
        (packed([("a.npy", ARRAY[:-1])]), "its size is not that of its shape"),
        (packed([("a.npy", ARRAY + b"x")]), "its size is not that of its shape"),
        (packed([("a.npy", b"")]), "not a plain array"),
        (packed([("a.npy", hostile.npy(np.array([True]))[:-1] + b"\2")]), "0 or 1"),
    ],
)  # fmt: skip
def test_what_an_archive_may_not_be(data, message, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_arrays(path)
    with pytest.raises(ValueError, match=f"weights.npz: cannot read weights: .*{message}"):
        read_weights(path)


def test_entries_may_not_be_listed_twice_or_overlap(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(packed([("a.npy", ARRAY), ("a.npy", ARRAY)]))
    with pytest.raises(ValueError, match="stands there twice"):
        read_arrays(path)
    data = packed([("a.npy", ARRAY), ("b.npy", ARRAY)])
    # The second entry of the directory points to the first array.
    directory = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: directory + 42] + bytes(4) + data[directory + 46 :])
    with pytest.raises(ValueError, match="one after the other"):
        read_arrays(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "w.npz"
    write_arrays(path, {"a": np.arange(1000.0)})
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a: damaged: its check sum is another one"):
        read_arrays(path)


def test_archives_beyond_32_bits(tmp_path, monkeypatch):
    """As they are written from 2 GB on: here from 100 bytes on."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    arrays = {f"array {number}": np.arange(100.0) + number for number in range(5)}
    path = tmp_path / "w.npz"
    write_arrays(path, arrays)
    assert b"PK\x06\x06" in path.read_bytes()
    for name, value in read_arrays(path).items():
        np.testing.assert_array_equal(value, arrays[name])
    with np.load(path) as file:
        assert set(file) == set(arrays)


def test_numpy_s_own_files_are_read_and_ours_by_numpy(tmp_path):
    arrays = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">i4"),
        "0d": np.array(2, ">f8"), "none": np.ones((3, 0, 2), "f2"), "yes": np.array([True, False]),
        "ünï": np.arange(3, dtype=np.uint64), "file": np.ones(1), "allow_pickle": np.ones(2),
    }  # fmt: skip
    taken = ("file", "allow_pickle")  # as arguments of NumPy's
    np.savez(tmp_path / "n.npz", **{k: v for k, v in arrays.items() if k not in taken})
    write_arrays(tmp_path / "o.npz", arrays)
    with np.load(tmp_path / "o.npz") as file:
        by_numpy = dict(file)
    assert by_numpy.keys() == arrays.keys()
    for read in (read_arrays(tmp_path / "n.npz"), read_arrays(tmp_path / "o.npz"), by_numpy):
        for name, value in read.items():
            assert value.shape == arrays[name].shape
            assert value.dtype == arrays[name].dtype.newbyteorder("=")
            np.testing.assert_array_equal(value, arrays[name])
    first = (tmp_path / "o.npz").read_bytes()
    write_arrays(tmp_path / "o.npz", arrays)
    assert (tmp_path / "o.npz").read_bytes() == first, "the same arrays give the same bytes"


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_what_is_no_number_is_not_written(kind, tmp_path):
    path = tmp_path / f"w.{kind}"
    kinds = (object, str, complex, np.longdouble)
    for value in (np.ones(2, kind) for kind in kinds):
        with pytest.raises(TypeError, match="a: expected real numbers"):
            write_weights(path, {"a": value})
    assert not path.exists()
    for name in ("../a", "", "__metadata__"):
        if (name == "__metadata__") == (kind == "safetensors"):
            with pytest.raises(ValueError):
                write_weights(path, {name: np.ones(1)})


# ---- safetensors --------------------------------------------------------------------------------


def test_safetensors_agree_with_their_makers(tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}.weight": np.asarray(100 * rng.standard_normal(shape)).astype(dtype)
        for name, shape, dtype in [
            ("a", (3, 4), "f4"), ("b", (1,), "f8"), ("c", (2, 0), "f2"), ("d", (7,), "i8"),
            ("e", (5,), "u1"), ("f", (3,), "?"), ("ü", (2, 2), "i2"), ("g", (1,), "u8"),
        ]
    }  # fmt: skip
    theirs.save_file(arrays, tmp_path / "t.safetensors", {"made": "by them"})
    write_weights(tmp_path / "o.safetensors", arrays)
    for read in (
        read_weights(tmp_path / "t.safetensors"),
        read_weights(tmp_path / "o.safetensors"),
        theirs.load_file(tmp_path / "o.safetensors"),
    ):
        assert read.keys() == arrays.keys()
        for name, value in read.items():
            assert (value.dtype, value.shape) == (arrays[name].dtype, arrays[name].shape)
            assert value.tobytes() == arrays[name].tobytes()


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "expected a description by names"),
        ('{"a": 1}', "a: expected dtype, shape and data_offsets"),
        ('{"a": {}, "a": {}}', "names something twice"),
        (json.dumps({"a": ONE | {"dtype": "BF16"}}), "expected a type of .*got 'BF16'"),
        (json.dumps({"a": ONE | {"shape": [3]}}), "its size is not that of its shape"),
        (json.dumps({"a": ONE | {"shape": [-2]}}), "expected lists of sizes"),
        (json.dumps({"a": ONE | {"shape": [2.0]}}), "expected lists of sizes"),
        (json.dumps({"a": ONE, "b": ONE}), "do not lie one after the other"),
        (json.dumps({"a": ONE | {"data_offsets": [8, 16]}}), "do not lie one after the other"),
        ("{}", "expected 0 bytes of arrays, got 8"),
        ("{" * 200, "cannot read weights"),
    ],
)  # fmt: skip
def test_what_safetensors_may_not_be(text, message, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(8))
    with pytest.raises(ValueError, match=message):
        read_weights(path)


# ---- checkpoints --------------------------------------------------------------------------------


def test_a_damaged_checkpoint_changes_nothing(tmp_path):
    """Neither the model, nor its random numbers, nor the optimizer, nor a callback."""
    good = tmp_path / "good"
    training(good)
    entries = read_arrays(good)
    text = json.loads(entries["checkpoint"].tobytes())
    net, optimizer = small(), fastconv.Adam()
    stopping = EarlyStopping("val_loss")
    net.build((2, 8, 8))
    x, y = np.zeros((12, 2, 8, 8)), np.arange(12) % 3

    def state():
        arrays = net.weights() | optimizer.state()
        return (
            {name: value.tobytes() for name, value in arrays.items()},
            net.rng.bit_generator.state, stopping.state(), optimizer.learning_rate,
        )  # fmt: skip

    before = state()
    for key, value in (
        ("epoch", -1), ("epoch", 10**30), ("epoch", True), ("split_seed", None), ("random", {}),
        ("learning_rate", "1"), ("learning_rate", -1.0), ("callbacks", [{"kind": "EarlyStopping"}]),
        ("callbacks", [{"kind": "EarlyStopping", "state": {"waited": 1}}]), ("input_shape", None),
        ("optimizer", "SGD"), ("version", 2), ("dtype", "float64"), (None, "0.kernel"),
    ):  # fmt: skip
        changed = dict(entries)
        if key is None:
            del changed[f"weights/{value}"]
        else:
            new = json.dumps({**text, key: value}).encode()
            changed["checkpoint"] = np.frombuffer(new, np.uint8)
        write_arrays(tmp_path / "bad", changed)
        if key == "input_shape":
            continue  # the model has its own
        with pytest.raises(ValueError, match="cannot resume from it"):
            net.fit(x, y, optimizer=optimizer, callbacks=[stopping], resume=tmp_path / "bad",
                    progress=False)  # fmt: skip
        assert state() == before, (key, value)
    # A model that has no shapes yet takes those of the file only with all its arrays.
    fresh = small()
    new = json.dumps({**text, "input_shape": [2, 10**6, 10**6]}).encode()
    write_arrays(tmp_path / "bad", entries | {"checkpoint": np.frombuffer(new, np.uint8)})
    with pytest.raises(ValueError, match="cannot resume from it"):
        fresh.fit([(x, y)], callbacks=[stopping], resume=tmp_path / "bad", progress=False)
    assert fresh.input_shape is None
    fresh.build((2, 8, 8))


def test_no_layer_of_a_network_is_too_large_to_load(tmp_path):
    net = lenet5(seed=0)
    net.save(tmp_path / "m")
    assert repr(Sequential.load(tmp_path / "m")) == repr(net)

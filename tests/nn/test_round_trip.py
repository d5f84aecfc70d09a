"""Random models come back from their files with the same bits, whatever is in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import Sequential
from fastconv.archive import read_arrays, write_arrays
from fastconv.interop import read_weights, write_weights
from fastconv.nn import Layer


class Holder(Layer):
    """Arrays of any shape, a single number and none at all among them."""

    def __init__(self, shapes, tag=None):
        super().__init__()
        self.shapes = shapes
        self.tag = tag

    def build(self, input_shape, rng, dtype):
        for number, shape in enumerate(self.shapes):
            self.add_parameter(f"p{number}", tuple(shape), lambda s=shape: np.ones(s, dtype))
            self.add_state(f"s.{number}", tuple(shape), lambda s=shape: np.zeros(s, dtype))
        return input_shape

    def forward(self, x, *, training=False):
        return x


@st.composite
def layers(draw, depth=2):
    """A layer that takes and gives images of 4 channels and at least 4 x 4 pixels."""
    activation = draw(st.sampled_from([None, "relu"]))
    bias = draw(st.booleans())
    size = draw(st.sampled_from([1, 3, (3, 1), (1, 3)]))
    kinds = [
        lambda: fc.Conv2D(
            4, size, padding="same", bias=bias, activation=activation,
            groups=draw(st.sampled_from([1, 2, 4])), dilation=draw(st.sampled_from([1, 2])),
            padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        ),
        lambda: fc.DepthwiseConv2D(size, padding="same", bias=bias, activation=activation),
        lambda: fc.SeparableConv2D(4, size, padding="same", bias=bias, activation=activation),
        lambda: fc.Conv2DTranspose(4, 2, stride=(2, 1), bias=bias, activation=activation),
        lambda: fc.BatchNorm(momentum=draw(st.floats(0, 1)), activation=activation),
        lambda: fc.GroupNorm(draw(st.sampled_from([1, 2, 4])), epsilon=draw(st.floats(0, 1))),
        lambda: fc.LayerNorm(activation=activation),
        lambda: fc.Pad2D(draw(st.integers(0, 3)), value=draw(st.floats(width=32, allow_nan=False))),
        lambda: fc.Upsample(draw(st.sampled_from([1, 2, (1, 2)])), mode="bilinear"),
        lambda: fc.AvgPool(2, stride=1, padding=1, count_include_pad=bias),
        lambda: fc.MaxPool(3, stride=1, padding=1),
        lambda: fc.AdaptiveAvgPool((draw(st.integers(4, 9)), 4)),
        lambda: fc.LeakyReLU(draw(st.floats(0, 10))),
        lambda: fc.Dropout(draw(st.floats(0, 0.99))),
        lambda: draw(st.sampled_from([fc.ReLU, fc.GELU, fc.SiLU, fc.Sigmoid, fc.Tanh]))(),
        lambda: Holder(draw(SHAPES), draw(TAGS)),
    ]  # fmt: skip
    if depth:
        inner = layers(depth - 1)
        kinds += [
            lambda: Sequential(draw(st.lists(inner, min_size=1, max_size=3))),
            lambda: fc.Concat(fc.Conv2D(2, 1), Sequential([fc.Conv2D(2, 1, bias=bias)])),
            lambda: fc.Residual(
                Sequential([fc.Conv2D(4, 3, padding="same"), fc.BatchNorm()]), activation=activation
            ),
        ]
    return draw(st.sampled_from(kinds))()


SHAPES = st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=3).map(tuple)
TAGS = st.none() | st.booleans() | st.integers(-100, 2**40) | st.text(max_size=8) | st.floats(-9, 9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def bits(dtype):
    """Any bits at all: NaNs with all payloads, infinities, denormals, zeros of both signs."""
    return st.integers(0, 2 ** (8 * np.dtype(dtype).itemsize) - 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("models") / "model.npz"


@pytest.fixture
def tries(count):
    return count(50, 1000)


def test_random_models_come_back(path, tries):
    @settings(max_examples=tries)
    @given(
        st.lists(layers(), min_size=1, max_size=5),
        st.sampled_from(["float32", "float64"]),
        st.dictionaries(st.text(), JSON, max_size=3),
        st.data(),
    )
    def come_back(chain, dtype, metadata, data):
        model = Sequential(chain, input_shape=(4, 6, 5), seed=0, dtype=dtype)
        model.metadata = metadata
        for _, value in model.named_arrays():
            pattern = data.draw(st.lists(bits(dtype), min_size=1, max_size=4))
            raw = np.resize(np.array(pattern, f"u{value.dtype.itemsize}"), value.size)
            value.reshape(-1).view(raw.dtype)[...] = raw
        model.save(path)
        copy = Sequential.load(path, layers=[Holder])
        assert repr(copy) == repr(model)
        assert (copy.metadata, copy.dtype) == (metadata, model.dtype)
        assert (copy.input_shape, copy.output_shape) == (model.input_shape, model.output_shape)
        ours, theirs = dict(model.named_arrays()), dict(copy.named_arrays())
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert theirs[name].shape == value.shape
            assert theirs[name].tobytes() == value.tobytes()
        first = path.read_bytes()
        copy.save(path)
        assert path.read_bytes() == first

    come_back()


DTYPES = ["?", "i1", "u2", "<i4", ">i4", "<u8", ">i8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]


def test_random_arrays_come_back(path, tries):
    @settings(max_examples=tries)
    @given(
        st.dictionaries(
            st.text("abcé/. 0", min_size=1, max_size=9).filter(
                lambda name: ".." not in name and name[0] != "/"
            ),
            st.tuples(
                st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4), st.integers(0, 9)
            ),
            max_size=5,
        ),
        st.sampled_from(["npz", "safetensors"]),
    )
    def come_back(described, suffix):
        arrays = {}
        for name, (dtype, shape, seed) in described.items():
            raw = np.random.default_rng(seed).bytes(np.dtype(dtype).itemsize * int(np.prod(shape)))
            if dtype == "?":
                raw = bytes(byte & 1 for byte in raw)
            array = np.frombuffer(raw, dtype).reshape(shape)
            if seed % 3 == 1:
                array = array.T
            elif seed % 3 == 2:
                array = array[::-1] if array.ndim else array
            arrays[name] = array
        file = path.with_suffix(f".{suffix}")
        write_weights(file, arrays)
        read = read_weights(file)
        assert read.keys() == arrays.keys()
        for name, value in arrays.items():
            assert read[name].dtype == value.dtype.newbyteorder("=")
            assert read[name].shape == value.shape
            native = value.astype(value.dtype.newbyteorder("="))
            assert read[name].tobytes() == native.tobytes()

    come_back()


def test_checkpoints_keep_what_callbacks_remember(tmp_path):
    """To the bit, and with its sign."""

    class Keeps(fc.callbacks.Callback):
        def __init__(self):
            self.array, self.number = np.zeros(0), 0

        def state(self):
            return {"array": self.array, "number": self.number}

    x, y = np.random.default_rng(0).random((8, 3)), np.arange(8) % 2
    for array in (np.array([-1, 2**62]), np.array(np.nan, ">f4"), np.array([[True], [False]])):
        keeps, again = Keeps(), Keeps()
        keeps.array, keeps.number = array, -(2**70)
        options = {"progress": False, "epochs": 1}
        checkpoint = fc.callbacks.Checkpoint(tmp_path / "c.npz")
        Sequential([fc.Dense(2)]).fit(x, y, callbacks=[keeps, checkpoint], **options)
        Sequential([fc.Dense(2)]).fit(x, y, callbacks=[again], resume=tmp_path / "c.npz", **options)
        assert again.number == keeps.number
        assert (again.array.shape, again.array.dtype.kind) == (array.shape, array.dtype.kind)
        np.testing.assert_array_equal(again.array, array)


def test_an_archive_of_nothing(tmp_path):
    write_arrays(tmp_path / "w.npz", {})
    assert read_arrays(tmp_path / "w.npz") == {}
    write_weights(tmp_path / "w.safetensors", {})
    assert read_weights(tmp_path / "w.safetensors") == {}

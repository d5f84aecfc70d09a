"""Saved models: the same bits back, and nothing but ValueError from a file that is not one."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from fastconv import SGD, Conv2D, Dense, Dropout, Flatten, MaxPool, ReLU, Sequential, Softmax
from fastconv.nn import Layer


def model(dtype="float32"):
    return Sequential(
        [
            Conv2D(4, (3, 2), stride=(1, 2), padding=((1, 0), (2, 1)), dilation=2, bias=False),
            ReLU(),
            MaxPool((2, 1), padding=(1, 0)),
            Dropout(0.5),
            Flatten(),
            Dense(np.int64(6), activation="relu"),
            Dense(3),
            Softmax(),
        ],
        input_shape=(2, 9, 9),
        seed=0,
        dtype=dtype,
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.npz"
    model().save(path)
    return path


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Pass the file's entries, as a dict of bytes, through `change`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def described(**changes):
    """A change that edits the description."""

    def change(entries):
        array = np.load(io.BytesIO(entries["model.npy"]))
        text = json.dumps(json.loads(array.tobytes()) | changes)
        entries["model.npy"] = npy(np.frombuffer(text.encode(), np.uint8))

    return change


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_to_the_bit(tmp_path, dtype):
    x = np.random.default_rng(1).standard_normal((5, 2, 9, 9))
    original = model(dtype)
    original.layers[5].params["kernel"][0, 0] = np.nan
    original.metadata = {"mean": 0.1, "classes": ["a", "b", "ü"]}
    original.save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"], "the path is used as it is given"
    copy = Sequential.load(str(tmp_path / "model"))
    assert repr(copy) == repr(original)
    assert copy.metadata == original.metadata
    assert (copy.dtype, copy.input_shape) == (original.dtype, original.input_shape)
    for ours, theirs in zip(copy.parameters(), original.parameters(), strict=True):
        assert ours.value.tobytes() == theirs.value.tobytes()
    np.testing.assert_array_equal(copy.predict(x), original.predict(x))
    assert copy.summary() == original.summary()


def test_a_loaded_model_trains_on(saved):
    x, y = np.ones((8, 2, 9, 9)), np.zeros((8, 3))
    losses = [
        Sequential.load(saved, seed=4).train_batch(x, y, optimizer=SGD(0.1), loss="mse")
        for _ in range(2)
    ]
    assert losses[0] == losses[1]


def test_numpy_reads_the_file(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert set(file) == {"model", "0.kernel", "5.kernel", "5.bias", "6.kernel", "6.bias"}
        assert json.loads(file["model"].tobytes())["version"] == 1
        np.testing.assert_array_equal(file["0.kernel"], model().layers[0].params["kernel"])


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")
def test_saving_keeps_permissions_and_follows_links(saved):
    saved.chmod(0o640)
    link = saved.parent / "latest"
    link.symlink_to(saved.name)
    model().save(link)
    assert link.is_symlink()
    assert saved.stat().st_mode & 0o777 == 0o640


def test_a_model_without_shapes_has_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="save: the model has no parameters yet"):
        Sequential([Dense(3)]).save(tmp_path / "model")
    assert not os.listdir(tmp_path)


def test_layers_of_ones_own_are_named_on_loading(tmp_path):
    class Scale(Layer):
        def __init__(self, start=1.0):
            super().__init__()
            self.start = start

        def build(self, input_shape, rng, dtype):
            self.add_parameter("scale", (), lambda: np.full((), self.start, dtype))
            return input_shape

        def forward(self, x, *, training=False):
            return x * self.params["scale"]

    original = Sequential([Scale(start=2.0)], input_shape=(3,))
    original.layers[0].params["scale"][...] = 5
    original.save(tmp_path / "model")
    with pytest.raises(ValueError, match="unknown layer 'Scale'; a class of your own is named by"):
        Sequential.load(tmp_path / "model")
    copy = Sequential.load(tmp_path / "model", layers=[Scale])
    assert copy.layers[0].start == 2.0
    np.testing.assert_array_equal(copy.predict(np.ones((1, 3))), [[5, 5, 5]])


HUGE = [{"layer": "Flatten"}, {"layer": "Dense", "units": 10**12}]


@pytest.mark.parametrize(
    "change, message",
    [
        (described(format="other"), "expected fastconv.Sequential version 1, got 'other'"),
        (described(version=2), "got 'fastconv.Sequential' version 2"),
        (described(dtype="object"), "dtype: expected"),
        (described(dtype="float64"), "expected a C-contiguous array of float64"),
        (described(layers=[{"layer": "eval"}]), "unknown layer 'eval'"),
        (described(layers=[{"layer": "Dense", "units": 3, "bias": 1, "x": 1}]), "unexpected key"),
        (described(layers=[]), "layers: expected at least one"),
        (described(layers=HUGE), "parameter 'kernel': missing in the file"),
        (described(layers=None), "not a saved model"),
        (described(layers=[3]), "not a saved model"),
        (described(metadata=3), "not a saved model"),
        (described(input_shape=[2, 10**18, 9]), "not a saved model"),
        (described(input_shape=[2, 3, 3]), "not a saved model"),
        (lambda e: e.pop("model.npy"), "not a saved model"),
        (lambda e: e.pop("5.bias.npy"), "Dense: parameter 'bias': missing in the file"),
        (lambda e: e.update({"5.scale.npy": e["5.bias.npy"]}), "has no parameter 'scale'"),
        (lambda e: e.update({"9.bias.npy": e["5.bias.npy"]}), "unexpected entry '9.bias'"),
        (lambda e: e.update({"../x.npy": e["5.bias.npy"]}), "expected names without"),
        (lambda e: e.update({"5.bias": e["5.bias.npy"]}), "expected arrays, .npy, got '5.bias'"),
        (lambda e: e.update({"5.bias.npy": npy(np.ones(7, "f4"))}), r"expected shape \(6,\)"),
        (lambda e: e.update({"5.bias.npy": npy(np.array([None] * 6))}), "not a plain array"),
        (lambda e: e.update({"5.bias.npy": npy(np.ones(6, "c8"))}), "not a plain array"),
        (lambda e: e.update({"5.bias.npy": npy(np.ones((2, 3), "f4", order="F"))}), "shape"),
        (lambda e: e.update({"5.bias.npy": e["5.bias.npy"][:-1]}), "size is not that of its"),
        (lambda e: e.update({"5.bias.npy": e["5.bias.npy"].replace(b"6,", b"7,")}), "size is not"),
        (lambda e: e.update({"model.npy": npy(np.frombuffer(b"[" * 10**5, "u1"))}), "not a saved"),
    ],
)  # fmt: skip
def test_a_file_that_disagrees_with_itself_is_refused(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=message):
        Sequential.load(saved)


def test_compressed_entries_are_refused(saved):
    rewrite(saved, lambda entries: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="expected uncompressed entries"):
        Sequential.load(saved)


def test_damage_is_noticed(saved):
    whole = saved.read_bytes()
    x = np.ones((1, 2, 9, 9))
    expected = Sequential.load(saved).predict(x)
    rng = np.random.default_rng(0)
    refused = 0
    for length in rng.integers(0, len(whole), 30):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a saved model"):
            Sequential.load(saved)
    for place in rng.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        saved.write_bytes(damaged)
        try:  # some bytes mean nothing: dates, alignment
            np.testing.assert_array_equal(Sequential.load(saved).predict(x), expected)
        except ValueError:
            refused += 1
    assert refused > 200


def test_a_missing_file_is_an_operating_system_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Sequential.load(tmp_path / "none")

"""Reading labelled images."""

import gzip
import struct

import numpy as np
import pytest

from fastconv.data import load_digits, load_idx_folder, read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_folder(
    folder,
    names=(
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ),
):
    rng = np.random.default_rng(0)
    arrays = []
    for name in names:
        count = 40 if "train" in name else 10
        array = (
            rng.integers(0, 256, (count, 9, 8), np.uint8)
            if "images" in name
            else (rng.integers(0, 4, count, np.uint8))
        )
        data = idx(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        arrays.append(array)
    return arrays


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 28, 28), ()])
def test_idx_files_come_back(tmp_path, shape, dtype, compress):
    array = np.asarray(np.random.default_rng(0).uniform(0, 100, shape)).astype(dtype)
    path = tmp_path / "file"
    path.write_bytes(compress(idx(array)))
    result = read_idx(path)
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.writeable


WHOLE = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected an IDX file"),
        (b"PNG, or something", "expected an IDX file.*got 50 4e 47 2c"),
        (b"\0\0\x0a\x01" + WHOLE[4:], "expected an IDX file"),
        (WHOLE[:9], "expected .* bytes of elements"),
        (WHOLE[:-1], r"expected 12 bytes of elements for shape \(3, 4\), got 11"),
        (WHOLE + b"x", r"expected 12 bytes of elements for shape \(3, 4\), got more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected .* bytes of elements"),
        (gzip.compress(WHOLE)[:-9], "damaged gzip file"),
        (gzip.compress(WHOLE)[:-8] + b"12345678", "damaged gzip file"),
        (gzip.compress(WHOLE)[:10] + b"\xff" * 20, "damaged gzip file"),
    ],
)
def test_damaged_files_are_named(tmp_path, data, message):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
        ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
         "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
        ["emnist-train-images.idx3-ubyte", "emnist-train-labels.idx1-ubyte",
         "emnist-test-images.idx3-ubyte.gz", "emnist-test-labels.idx1-ubyte"],
    ],
    ids=["plain", "gzip", "other names"],
)  # fmt: skip
def test_a_folder_is_found_out(tmp_path, names):
    x_train, y_train, x_test, y_test = write_folder(tmp_path, names)
    (tmp_path / "README").touch()
    data = load_idx_folder(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, x_train[:, None])
    np.testing.assert_array_equal(data.x_test, x_test[:, None])
    np.testing.assert_array_equal(data.y_train, y_train)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert data.y_train.dtype == np.int64


def test_a_plain_file_stands_for_its_compressed_twin(tmp_path):
    x_train, *_ = write_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"never read")
    np.testing.assert_array_equal(load_idx_folder(tmp_path).x_train[:, 0], x_train)


def test_what_is_missing_or_wrong_in_a_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_idx_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"expected one file like train-images-idx\*.*got none"):
        load_idx_folder(tmp_path)
    write_folder(tmp_path)
    (tmp_path / "my-train-images-idx3-ubyte").touch()
    with pytest.raises(ValueError, match=r"got \['my-train-images-idx3-ubyte', 'train-images"):
        load_idx_folder(tmp_path)
    (tmp_path / "my-train-images-idx3-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(9, np.uint8)))
    with pytest.raises(ValueError, match=r"for 't10k', got \(10, 9, 8\) and \(9,\)"):
        load_idx_folder(tmp_path)


def test_digits_are_split_evenly_and_always_alike():
    pytest.importorskip("sklearn")
    data = load_digits()
    assert data.x_train.shape == (1437, 1, 8, 8)
    assert data.x_test.shape == (360, 1, 8, 8)
    assert data.x_train.dtype == np.uint8
    assert data.x_train.max() == 16
    assert np.ptp(np.bincount(data.y_test)) <= 2
    np.testing.assert_array_equal(data.x_test, load_digits().x_test)

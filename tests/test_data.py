"""Reading labelled images."""

import gzip
import re
import struct

import numpy as np
import pytest

from fastconv.data import (
    load_cifar_folder,
    load_digits,
    load_folder,
    load_idx_folder,
    read_cifar,
    read_idx,
)

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


# -- CIFAR -----------------------------------------------------------------------------------------


def records(rng, count, *classes):
    """Bytes of CIFAR records, their images, and one array of labels for each number of classes."""
    labels = [rng.integers(0, limit, count, np.uint8) for limit in classes]
    images = rng.integers(0, 256, (count, 3, 32, 32), np.uint8)
    rows = [
        bytes(label[i] for label in labels) + images[i].tobytes() for i in range(count)
    ]
    return b"".join(rows), images, labels


def test_cifar_10(tmp_path):
    rng = np.random.default_rng(0)
    x, y = [], []
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        data, images, (labels,) = records(rng, 5, 10)
        (tmp_path / name).write_bytes(data)
        got = read_cifar(tmp_path / name)
        np.testing.assert_array_equal(got[0], images)
        np.testing.assert_array_equal(got[1], labels)
        x.append(images)
        y.append(labels)
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    data = load_cifar_folder(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, np.concatenate(x[:2]))
    np.testing.assert_array_equal(data.y_train, np.concatenate(y[:2]))
    np.testing.assert_array_equal(data.x_test, x[2])
    np.testing.assert_array_equal(data.y_test, y[2])
    assert data.class_names == tuple("abcdefghij")
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    with pytest.raises(ValueError, match=r"^coarse: .* has no train\.bin"):
        load_cifar_folder(tmp_path, coarse=True)
    (tmp_path / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt: expected 10 names, got 2"):
        load_cifar_folder(tmp_path)


@pytest.mark.parametrize("coarse", [False, True])
def test_cifar_100(tmp_path, coarse):
    rng = np.random.default_rng(0)
    train, x_train, y_train = records(rng, 7, 20, 100)
    test, x_test, y_test = records(rng, 3, 20, 100)
    (tmp_path / "train.bin").write_bytes(train)
    (tmp_path / "test.bin").write_bytes(test)
    data = load_cifar_folder(tmp_path, coarse=coarse)
    np.testing.assert_array_equal(data.x_train, x_train)
    np.testing.assert_array_equal(data.x_test, x_test)
    np.testing.assert_array_equal(data.y_train, y_train[0 if coarse else 1])
    np.testing.assert_array_equal(data.y_test, y_test[0 if coarse else 1])
    assert data.class_names == ()


@pytest.mark.parametrize(("classes", "data", "message"), [
    (10, b"", "expected records of 3073 bytes, got 0 bytes"),
    (10, bytes(3073 * 2 - 1), "expected records of 3073 bytes, got 6145 bytes"),
    (100, bytes(3073), "expected records of 3074 bytes, got 3073 bytes"),
    (10, bytes(3073) + b"\x0a" + bytes(3072), "expected labels below 10, got 10 in record 1"),
    (100, b"\x14" + bytes(3073), "expected labels below 20, got 20 in record 0"),
    (20, b"\0\x64" + bytes(3072), "expected labels below 100, got 100 in record 0"),
])  # fmt: skip
def test_what_is_no_cifar_file_is_named(tmp_path, classes, data, message):
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}$"):
        read_cifar(path, classes)


def test_cifar_arguments_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"^classes: expected 10, 20 or 100, got 50"):
        read_cifar(tmp_path / "file", 50)
    with pytest.raises(ValueError, match=r"expected data_batch_\*\.bin .*, got none"):
        load_cifar_folder(tmp_path)
    (tmp_path / "train.bin").touch()
    with pytest.raises(ValueError, match=r"expected .*, got \['train\.bin'\]"):
        load_cifar_folder(tmp_path)


# -- pictures --------------------------------------------------------------------------------------


def write_pictures(folder, shape=(6, 5, 3), suffix="png"):
    """Five cats and ten dogs, and their pixels by name."""
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    pixels = {}
    for name, count in (("dog", 10), ("cat", 5)):
        (folder / name).mkdir()
        for i in range(count):
            values = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(values).save(folder / name / f"{i}.{suffix}")
            pixels[name, i] = values
    return pixels


def test_pictures_in_folders(tmp_path):
    pixels = write_pictures(tmp_path)
    (tmp_path / "readme.txt").touch()  # beside the classes, in none of them
    (tmp_path / "cat" / ".hidden").touch()
    data = load_folder(str(tmp_path), validation_split=0)
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data.y_train, [0] * 5 + [1] * 10)
    for image, pair in zip(data.x_train, sorted(pixels), strict=True):
        np.testing.assert_array_equal(image, pixels[pair].transpose(2, 0, 1))
    assert data.x_test.shape == (0, 3, 6, 5)
    assert data.x_train.transpose(0, 2, 3, 1).flags.c_contiguous


def test_every_class_is_split_alike_and_by_the_seed(tmp_path):
    write_pictures(tmp_path)
    data = load_folder(tmp_path, validation_split=0.4, seed=1)
    np.testing.assert_array_equal(np.bincount(data.y_test), [2, 4])
    np.testing.assert_array_equal(np.bincount(data.y_train), [3, 6])
    everything = {image.tobytes() for image in (*data.x_train, *data.x_test)}
    assert len(everything) == 15
    again = load_folder(tmp_path, validation_split=0.4, seed=1)
    np.testing.assert_array_equal(again.x_test, data.x_test)
    others = load_folder(tmp_path, validation_split=0.4, seed=2)
    assert not np.array_equal(others.x_test, data.x_test)


def test_pictures_are_scaled_and_turned_grey(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    write_pictures(tmp_path)
    Image.new("P", (20, 30), 7).save(tmp_path / "cat" / "palette.gif")
    data = load_folder(tmp_path, size=(8, 4), grey=True, validation_split=0)
    assert data.x_train.shape == (16, 1, 8, 4)
    assert load_folder(tmp_path, size=7, validation_split=0).x_train.shape == (16, 3, 7, 7)
    flat = np.full((9, 9, 3), 77, np.uint8)
    Image.fromarray(flat).save(tmp_path / "dog" / "a.png")
    data = load_folder(tmp_path, size=5, grey=True, validation_split=0)
    assert (data.x_train[data.y_train == 1][-1] == 77).all()


def test_pictures_stand_upright(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "cat").mkdir()
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # held so that the first row is on the right
    Image.fromarray(values).save(tmp_path / "cat" / "a.png", exif=exif)
    data = load_folder(tmp_path, grey=True, validation_split=0)
    np.testing.assert_array_equal(data.x_train[0, 0], np.rot90(values, -1))


def test_bad_pictures_are_named(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    with pytest.raises(FileNotFoundError):
        load_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="expected a subfolder for each class, got none"):
        load_folder(tmp_path)
    write_pictures(tmp_path)
    odd = tmp_path / "dog" / "odd.png"
    Image.new("RGB", (9, 6)).save(odd)
    with pytest.raises(ValueError, match=r"odd\.png: expected 6 x 5 pixels .*, got 6 x 9; size="):
        load_folder(tmp_path)
    odd.write_bytes((tmp_path / "dog" / "1.png").read_bytes()[:70])
    with pytest.raises(ValueError, match=r"odd\.png: expected an image"):
        load_folder(tmp_path, size=4)
    odd.write_text("never an image")
    with pytest.raises(ValueError, match=r"odd\.png: expected an image .*: not an image"):
        load_folder(tmp_path)
    odd.unlink()
    (tmp_path / "eel").mkdir()
    with pytest.raises(ValueError, match="eel: expected images, got an empty folder"):
        load_folder(tmp_path)
    for wrong in (1, -0.1):
        with pytest.raises(ValueError, match=r"^validation_split: expected a number in"):
            load_folder(tmp_path, validation_split=wrong)
    with pytest.raises(ValueError, match=r"^size: expected a positive integer, got 0"):
        load_folder(tmp_path, size=0)

"""Arrays by name in one file: an ``.npz``, read as if a stranger had written it.

The file is a zip of ``.npy`` arrays, uncompressed, so ``numpy.load`` opens it and so does any zip
tool. Reading is done here, since a zip's directory and an array's header say how much memory to ask
for: both are compared with the bytes that are really there first. Entries have to follow each other
as the directory lists them, without holes or overlaps; nothing is compressed, nothing stands there
twice, no name leads out of a folder, no header is evaluated, no object is unpickled. Every byte
counts in a check sum. So reading takes the arrays' memory, once, and that of the directory, which
is bounded (`MOST_ENTRIES`).

    local header, name, extra, array     for every entry
    central header, name, extra          for every entry: the directory
    end                                  22 bytes; more before it, where 32 bits do not do
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.atomic import write_whole

MOST_ENTRIES = 10_000
LONGEST_NAME = 400  # bytes
ARRAY = re.compile(
    rb"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\), \} *\n"
)
LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LARGE_END = struct.Struct("<4sQ2H2I4Q")
LARGE_LOCATOR = struct.Struct("<4sIQI")
LARGE_SIZES = 1  # the kind of extra field that has them
NO_ROOM = 0xFFFFFFFF
UTF8 = 0x800
CHUNK = 1 << 24  # bytes read between two looks at Ctrl-C


class Entry(NamedTuple):
    """What the directory says of an array."""

    name: str
    offset: int
    size: int
    checksum: int


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, NDArray]) -> None:
    """Write an archive, whole or not at all; the same arrays give the same bytes.

    Values of NumPy's numeric types only, little-endian in the file.
    """
    for name, value in arrays.items():
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise TypeError(f"{name}: expected real numbers of at most 8 bytes, got {value.dtype}")
        _check_name(name)
    if len(arrays) > MOST_ENTRIES:
        raise ValueError(f"expected at most {MOST_ENTRIES} arrays, got {len(arrays)}")

    def write(file: IO[bytes]) -> None:
        archive = zipfile.ZipFile(file, "w")
        try:
            for name, value in arrays.items():
                plain = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
                member = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, plain, version=(1, 0), allow_pickle=False)
            archive.close()
        except BaseException:
            # Half an archive cannot be closed, and its complaint would hide a Ctrl-C.
            archive.fp = None
            raise

    write_whole(path, write)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read an archive: its arrays by name, in the file's order, native.

    Raises
    ------
    ValueError
        If the file is not such an archive, or is damaged.
    """
    with open(os.fsdecode(path), "rb") as file:
        try:
            return {entry.name: _read_array(file, entry) for entry in _directory(file)}
        except (ArithmeticError, EOFError, struct.error, UnicodeError) as error:
            raise ValueError(str(error)) from error


def _check_name(name: str) -> None:
    """Refuse a name that would leave the folder where a tool unpacks it, or that zips change."""
    if (
        not 0 < len(name.encode()) <= LONGEST_NAME
        or name.startswith("/")
        or ".." in name.split("/")
        or any(character in name for character in "\\:\0")
    ):
        raise ValueError(f"expected names without '\\', ':', '..' and a '/' in front, got {name!r}")


def _directory(file: IO[bytes]) -> list[Entry]:
    """Read the list of entries and see that they fill the file."""
    size = os.fstat(file.fileno()).st_size
    begin, length, count = _find_directory(file, size)
    if count > MOST_ENTRIES or length > count * (CENTRAL.size + 2 * LONGEST_NAME):
        raise ValueError(f"expected at most {MOST_ENTRIES} entries, got {count}")
    file.seek(begin)
    data = _exactly(file, length)
    entries: list[Entry] = []
    at = expected = 0
    for _ in range(count):
        (signature, _, _, flags, method, _, _, checksum, stored, full, n_name, n_extra, n_comment,
         disk, _, _, offset) = CENTRAL.unpack_from(data, at)  # fmt: skip
        at += CENTRAL.size
        name, extra = data[at : at + n_name], data[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra
        if signature != b"PK\x01\x02" or n_comment or disk:
            raise ValueError("its directory is damaged")
        if method:
            raise ValueError("expected uncompressed entries")
        full, stored, offset = _large(extra, [full, stored, offset])
        if stored != full or offset != expected:
            raise ValueError("its entries do not lie one after the other")
        start = _skip_local(file, offset, name, flags, checksum, full)
        expected = start + full
        if expected > begin:
            raise ValueError("its entries are larger than the file")
        entries.append(Entry(_name(name, flags), start, full, checksum))
    if at != length or expected != begin:
        raise ValueError("its directory does not list all of it")
    if len({entry.name for entry in entries}) < count:
        raise ValueError("an entry stands there twice")
    return entries


def _find_directory(file: IO[bytes], size: int) -> tuple[int, int, int]:
    """Where the directory begins, its length, and the number of entries."""
    if size < END.size:
        raise ValueError("it is too short")
    file.seek(size - END.size)
    signature, *rest = END.unpack(_exactly(file, END.size))
    disk, first_disk, here, count, length, begin, comment = rest
    if signature != b"PK\x05\x06" or comment or disk or first_disk or here != count:
        raise ValueError("it does not end as a zip does")
    end = size - END.size
    file.seek(max(end - LARGE_LOCATOR.size, 0))
    signature, _, large, _ = LARGE_LOCATOR.unpack(_exactly(file, LARGE_LOCATOR.size))
    if signature == b"PK\x06\x07":
        end -= LARGE_LOCATOR.size + LARGE_END.size
        if large != end:
            raise ValueError("it does not end as a zip does")
        file.seek(end)
        signature, *_, here, count, length, begin = LARGE_END.unpack(_exactly(file, LARGE_END.size))
        if signature != b"PK\x06\x06" or here != count:
            raise ValueError("it does not end as a zip does")
    if begin + length != end:
        raise ValueError("it does not end as a zip does")
    return begin, length, count


def _skip_local(
    file: IO[bytes], offset: int, name: bytes, flags: int, checksum: int, size: int
) -> int:
    """Compare what stands before an array with the directory; return where the array begins."""
    file.seek(offset)
    (signature, _, local_flags, method, _, _, local_checksum, stored, full, n_name,
     n_extra) = LOCAL.unpack(_exactly(file, LOCAL.size))  # fmt: skip
    local_name, extra = _exactly(file, n_name), _exactly(file, n_extra)
    full, stored = _large(extra, [full, stored])
    if signature != b"PK\x03\x04" or flags & ~UTF8 or method or (
        local_name, local_flags, local_checksum, stored, full
    ) != (name, flags, checksum, size, size):  # fmt: skip
        raise ValueError("an entry is not what the directory says")
    return offset + LOCAL.size + n_name + n_extra


def _large(extra: bytes, values: list[int]) -> list[int]:
    """The values, those from the extra field that 32 bits had no room for."""
    if NO_ROOM not in values:
        return values
    kind, length = struct.unpack_from("<2H", extra)
    if kind != LARGE_SIZES or length != len(extra) - 4 or length % 8:
        raise ValueError("an entry's size is missing")
    found = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
    large = [next(found, -1) if value == NO_ROOM else value for value in values]
    if min(large) < 0:
        raise ValueError("an entry's size is missing")
    return large


def _name(data: bytes, flags: int) -> str:
    """An entry's name without its ending."""
    name = data.decode("utf-8" if flags & UTF8 else "ascii")
    if not name.endswith(".npy"):
        raise ValueError(f"expected arrays, .npy, got {name!r}")
    name = name.removesuffix(".npy")
    _check_name(name)
    return name


def _read_array(file: IO[bytes], entry: Entry) -> NDArray:
    """Decode one array; memory is asked for when its size is known to be there."""
    file.seek(entry.offset)
    magic = _exactly(file, min(10, entry.size))
    length = int.from_bytes(magic[8:], "little")
    if magic[:8] != b"\x93NUMPY\x01\x00" or length > entry.size - 10:
        raise ValueError(f"{entry.name}: not a plain array")
    head = _exactly(file, length)
    header = ARRAY.fullmatch(head)
    if header is None:
        raise ValueError(f"{entry.name}: not a plain array")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[3].split(b",") if size.strip())
    count = math.prod(shape)
    if 10 + length + count * dtype.itemsize != entry.size:
        raise ValueError(f"{entry.name}: its size is not that of its shape {shape}")
    flat = np.empty(count, dtype)
    checksum = zlib.crc32(head, zlib.crc32(magic))
    if fill(file, flat, checksum) != entry.checksum:
        raise ValueError(f"{entry.name}: damaged: its check sum is another one")
    if not dtype.isnative:
        flat = flat.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if header[2] == b"True" else "C")


def fill(file: IO[bytes], flat: NDArray, checksum: int = 0) -> int:
    """Read a flat array's bytes; return the check sum that they bring `checksum` to."""
    view = flat.view(np.uint8).data
    for start in range(0, len(view), CHUNK):
        part = view[start : start + CHUNK]
        if file.readinto(part) != len(part):  # type: ignore[attr-defined]
            raise EOFError("it ends too early")
        checksum = zlib.crc32(part, checksum)
    if flat.dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError("expected booleans that are 0 or 1")
    return checksum


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError("it ends too early")
    return data

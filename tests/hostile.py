"""Damaged and malicious files: mutations of good ones.

Blind ones change bytes; the others know what they change: the fields of a zip, the header of an
array, the values of a JSON text, with all check sums right again.
"""

import copy
import io
import json
import re
import zipfile
import zlib

import numpy as np

NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
ODD = [
    None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"),
    2**31, 2**40, 2**62, 2**63, 2**64, 10**12, 10**30, 10**400, "", "a", "relu", "same", "0.kernel",
    "float64", "object", "../x", "\0", "x" * 5000, [], {}, [1], [2, 2], [[1, 2], [3, 4]],
    [10**9] * 2, [[[]]], [0], [-1, -1], {"layer": "ReLU"}, {"layer": "Dense", "units": 10**12},
    {"layer": []}, {"layer": "Sequential", "layers": []},
    {"layer": "Conv2D", "filters": 10**12, "kernel_size": 3},
    {"layer": "Upsample", "scale": 10**9}, {"layer": "Flatten", "x": 1}, {"__class__": "os.system"},
]  # fmt: skip

NAMES = [
    "../x.npy", "/x.npy", "x", "x.npy", "0.kernel.npy", "C:x.npy", "é.npy", "model.npy",
    "a" * 5000 + ".npy", "0" + ".0" * 190 + ".npy",
]  # fmt: skip


def blind(rng, data, others):
    """Change bytes at random places, cut, double, or mix with another file."""
    data = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        at = int(rng.integers(len(data) + 1))
        length = int(rng.choice([1, 1, 2, 4, 8, 64, 1000]))
        kind = rng.integers(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and at < len(data):
            data[at] = int(rng.integers(256))
        elif kind == 2:
            width = int(rng.choice([1, 2, 4, 8]))
            number = NUMBERS[rng.integers(len(NUMBERS))] % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, str(rng.choice(["little", "big"])))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length]
        elif kind == 6:
            data[at:at] = rng.bytes(length)
        else:
            other = others[rng.integers(len(others))]
            begin = int(rng.integers(len(other)))
            data[at : at + length] = other[begin : begin + length]
        if not data:
            break
    return bytes(data)


def places(value):
    """Everything inside a value of JSON: (holder, key)."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def json_text(rng, data):
    """Change what a text says, or how it says it."""
    found = json.loads(data)
    for _ in range(int(rng.choice([1, 1, 2, 5]))):
        options = list(places(found))
        if not options:
            break
        holder, key = options[rng.integers(len(options))]
        kind = rng.integers(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(rng.choice(["x", "layer", "bias", "steps", "best", ""]))] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder[:] = holder * int(rng.choice([2, 3, 50]))
        elif kind == 3:
            other, where = options[rng.integers(len(options))]
            holder[key] = json.loads(json.dumps(other[where]))
        else:
            # A copy: what holds itself is no JSON.
            holder[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
    text = json.dumps(found)
    kind = rng.integers(20)
    if kind == 0:
        text = text.replace(": ", ": " + "[" * int(rng.choice([50, 200, 100_000])), 1)
    elif kind == 1:
        at = int(rng.integers(len(text)))
        text = text[:at] + str(rng.choice(["[", "]", "{", "}", '"', ",", "9" * 5000, "\\u", "1e"]))
    elif kind == 2:
        text = text.replace("{", '{"layer": "ReLU", "layer": 1, ', 1)
    return text.encode(errors="surrogatepass")


def array_header(rng, data):
    """Change the header of an ``.npy``."""
    length = int.from_bytes(data[8:10], "little")
    magic, header, rest = data[:8], data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    kind = rng.integers(7)
    if kind == 0:
        numbers = re.findall(r"\d+", header)
        large = [2**31, 2**62, 10**18, "9" * 30, "9" * 5000]
        new = str(rng.choice([0, 1, -1, 7, 111, "1,1", *large]))
        header = header.replace(str(rng.choice(numbers)), new, 1)
    elif kind == 1:
        descr = str(rng.choice(["O", "|O8", "<f2", ">f8", "<f4", "<f16", "<c8", "|S1", "<M8[ns]",
                                "|b1", "<i8", "|u1", "|V8", "<b1", "<f3"]))  # fmt: skip
        header = re.sub(r"'descr': '[^']*'", f"'descr': '{descr}'", header)
    elif kind == 2:
        header = header.replace("False", "True")
    elif kind == 3:
        header = header.replace("(", "(" + "1, " * int(rng.choice([1, 70, 5000])), 1)
    elif kind == 4:
        header = header.replace("(", "__import__('os').system('false') or (", 1)
    elif kind == 5:
        magic = magic[:6] + bytes(rng.integers(0, 4, 2).tolist())
    else:
        length = NUMBERS[rng.integers(len(NUMBERS))] % 2**16
        return magic + length.to_bytes(2, "little") + header.encode("latin-1") + rest
    encoded = header.encode("latin-1")[:65535]
    return magic + len(encoded).to_bytes(2, "little") + encoded + rest


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(rng, data, others):
    """Change what an archive holds, and write it anew."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = [(name, file.read(name)) for name in file.namelist()]
    at = int(rng.integers(len(entries)))
    name, content = entries[at]
    kind = rng.integers(10)
    described = [i for i, (name, _) in enumerate(entries) if name in DESCRIPTIONS]
    compression = zipfile.ZIP_STORED
    if kind < 5 and described:
        name, content = entries[described[0]]
        text = json_text(rng, np.load(io.BytesIO(content)).tobytes())
        entries[described[0]] = name, npy(np.frombuffer(text, np.uint8))
    elif kind < 7:
        entries[at] = name, array_header(rng, content)
    elif kind == 7:
        new = str(rng.choice(NAMES))
        entries[at : at + int(rng.integers(2))] = [(new, content)]
    elif kind == 8:
        compression = int(rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    elif rng.integers(2):
        del entries[at]
    else:
        entries[at] = name, blind(rng, content, others)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in dict(entries).items():
            file.writestr(name, content)
    return stream.getvalue()


def zip_fields(rng, data, others):
    """Change numbers in the headers of a zip."""
    signatures = [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"]
    starts = [m.start() for s in signatures for m in re.finditer(re.escape(s), data)]
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = starts[rng.integers(len(starts))] + int(rng.integers(4, 46))
        width = int(rng.choice([1, 2, 4]))
        number = NUMBERS[rng.integers(len(NUMBERS))] % (1 << 8 * width)
        data[at : at + width] = number.to_bytes(width, "little")
    return bytes(data)


def tensors(rng, data, others):
    """Change the text of a ``.safetensors`` file."""
    length = int.from_bytes(data[:8], "little")
    text = json_text(rng, data[8 : 8 + length])
    wrong = NUMBERS[rng.integers(len(NUMBERS))] if rng.integers(10) == 0 else len(text)
    return wrong.to_bytes(8, "little") + text + data[8 + length :]


def repacked(rng, data, others):
    """Change what a gzip file holds."""
    import gzip

    inner = blind(rng, gzip.decompress(data), others)
    return gzip.compress(inner, 1, mtime=0)


def png(rng, data, others):
    """Change a chunk of a PNG, whose check sum is right again."""
    at, chunks = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    where = int(rng.integers(len(chunks)))
    kind, content = chunks[where]
    chunks[where] = kind, blind(rng, content or b"\0", others)
    return data[:8] + b"".join(
        len(content).to_bytes(4, "big") + kind + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )  # fmt: skip


DESCRIPTIONS = ("model.npy", "checkpoint.npy")
KNOWING = {
    "model": [archive, archive, zip_fields],
    "checkpoint": [archive, archive, zip_fields],
    "npz": [archive, zip_fields],
    "safetensors": [tensors],
    "idx": [],
    "gz": [repacked],
    "cifar": [],
    "png": [png],
    "jpeg": [],
    "gif": [],
}


def mutated(rng, kind, files):
    """A mutation of the good file of this kind."""
    others = list(files.values())
    choices = [blind, *KNOWING[kind]]
    return choices[rng.integers(len(choices))](rng, files[kind], others)

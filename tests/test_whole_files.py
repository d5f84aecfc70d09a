"""Files are written whole or not at all: kills, full disks, missing permissions, interruptions."""

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from fastconv import Dense, Sequential
from fastconv.archive import read_arrays, write_arrays
from fastconv.atomic import write_whole
from fastconv.callbacks import CSVLog
from fastconv.interop import read_weights, write_weights

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX's")

ROOT = pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() != 0, reason="only root can become another user"
)


def run(code, *arguments, **options):
    """A Python process that runs `code`; returns it, unfinished."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def write_text(path, text):
    write_whole(path, lambda file: file.write(text))


# ---- kills --------------------------------------------------------------------------------------

SAVES = """
import sys
import numpy as np
from fastconv import Dense, Sequential
from fastconv.interop import write_weights
model = Sequential([Dense(200)], input_shape=(300,), seed=0)
kernel = model.layers[0].params["kernel"]
print("ready", flush=True)
number = 0
while True:
    number += 1
    kernel[...] = number
    model.metadata["number"] = number
    model.save(sys.argv[1] + "/model.npz")
    for suffix in ("npz", "safetensors"):
        write_weights(f"{sys.argv[1]}/weights.{suffix}", {"one": kernel, "two": kernel})
"""


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, count, rng):
    leftovers = 0
    Sequential([Dense(200)], input_shape=(300,)).save(tmp_path / "model.npz")
    for suffix in ("npz", "safetensors"):
        write_weights(tmp_path / f"weights.{suffix}", {"one": np.zeros((200, 300), "f4")})
    for _ in range(count(10, 200)):
        process = run(SAVES, tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        model = Sequential.load(tmp_path / "model.npz")
        kernel = model.layers[0].params["kernel"]
        if "number" in model.metadata:
            assert (kernel == model.metadata["number"]).all()
        for suffix in ("npz", "safetensors"):
            weights = read_weights(tmp_path / f"weights.{suffix}")
            assert all((value == weights["one"][0, 0]).all() for value in weights.values())
        found = {path.name for path in tmp_path.iterdir()}
        leftovers += len(found) - 3
        assert len(found) <= 4, "the save after a kill has cleaned up"
    write_text(tmp_path / "other", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.npz", "other", "weights.npz", "weights.safetensors",
    ]  # fmt: skip
    assert leftovers, "no kill came while a file was being written"


HOLDS = """
import sys, time
from fastconv.atomic import write_whole
def write(file):
    file.write(b"new")
    print("writing", flush=True)
    sys.stdin.readline()
write_whole(sys.argv[1], write)
"""


def test_what_another_process_writes_is_left_alone(tmp_path):
    process = run(HOLDS, tmp_path / "slow", stdin=subprocess.PIPE)
    assert process.stdout.readline() == "writing\n"
    write_text(tmp_path / "quick", b"text")
    process.communicate("go on\n")
    assert process.returncode == 0
    assert (tmp_path / "slow").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_the_same_process_writes_is_left_alone(tmp_path):
    def write(file):
        write_text(tmp_path / "inner", b"1")
        file.write(b"2")

    write_whole(tmp_path / "outer", write)
    assert (tmp_path / "inner").read_bytes() == b"1"
    assert (tmp_path / "outer").read_bytes() == b"2"
    assert len(list(tmp_path.iterdir())) == 2


def test_without_locks_nothing_is_deleted(tmp_path, monkeypatch):
    """On a file system that has none, a leftover may be what somebody still writes."""
    fcntl = pytest.importorskip("fcntl")

    def refused(*arguments):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    left = tmp_path / ".fastconv-0123456789abcdef.tmp"
    left.write_bytes(b"half")
    write_text(tmp_path / "file", b"new")
    assert left.read_bytes() == b"half"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_leftovers_are_deleted_and_nothing_that_looks_a_bit_like_them(tmp_path):
    kept = [
        ".fastconv-0123456789abcdef.tmp.bak",
        ".fastconv-0123456789ABCDEF.tmp",
        ".fastconv-012345.tmp",
        "fastconv-0123456789abcdef.tmp",
        ".fastconv.tmp",
    ]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".fastconv-aaaaaaaaaaaaaaaa.tmp").mkdir()
    (tmp_path / ".fastconv-bbbbbbbbbbbbbbbb.tmp").symlink_to("elsewhere")
    os.mkfifo(tmp_path / ".fastconv-cccccccccccccccc.tmp")
    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / ".fastconv-0123456789abcdef.tmp").write_bytes(b"half")
    write_text(tmp_path / "file", b"text")
    assert {path.name for path in tmp_path.iterdir()} == before | {"file"}


# ---- no room ------------------------------------------------------------------------------------

WRITERS = {
    "model": lambda path: Sequential([Dense(300)], input_shape=(300,)).save(path),
    "npz": lambda path: write_weights(f"{path}.npz", {"a": np.zeros((300, 300))}),
    "safetensors": lambda path: write_weights(f"{path}.safetensors", {"a": np.zeros((300, 300))}),
    "log": lambda path: CSVLog(path).on_train_begin(long_run()),
}


def long_run():
    from fastconv.callbacks import History, Run

    numbers = np.arange(30_000.0).tolist()
    return Run(None, None, 1, None, History(loss=numbers, val_loss=numbers))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file(kind, tmp_path):
    """A limit on the size of files stands for it: it fails the same calls."""
    WRITERS[kind](tmp_path / "file")
    (old,) = tmp_path.iterdir()
    content = old.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 100, len(content) // 2, len(content) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError):
                WRITERS[kind](tmp_path / "file")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == [old]
        assert old.read_bytes() == content


def test_a_disk_that_is_really_full(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                WRITERS["model"](tmp_path / "file")
                content = (tmp_path / "file").read_bytes()
                with pytest.raises(OSError, match="No space left"):
                    WRITERS["model"](tmp_path / "other")
                assert [path.name for path in tmp_path.iterdir()] == ["file"]
                with pytest.raises(OSError, match="No space left"):
                    WRITERS["model"](tmp_path / "file")
                assert [path.name for path in tmp_path.iterdir()] == ["file"]
                assert (tmp_path / "file").read_bytes() == content
            finally:
                subprocess.run(["umount", str(tmp_path)], check=True)
            return
    pytest.skip("nothing can be mounted here")


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_whatever_fails_the_old_file_is_there(call, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, b"old")

    def broken(*arguments):
        raise OSError("broken")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(OSError, match="broken"):
        write_text(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_sync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        calls.append((kind, os.fstat(descriptor).st_size if kind == "file" else None))
        fsync(descriptor)

    def noted_replace(source, target):
        calls.append((os.path.dirname(source), target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_text(path, b"12345")
    assert calls == [("file", 5), (str(tmp_path), str(path)), ("folder", None)]


# ---- interruptions ------------------------------------------------------------------------------


def test_an_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.npz"
    write_arrays(path, {"a": np.ones(3)})
    content = path.read_bytes()

    def write(file):
        file.write(b"half")
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, write)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_is_not_hidden(tmp_path, monkeypatch):
    """Ctrl-C while an entry of an archive ends: the archive cannot be closed then."""
    opened = zipfile.ZipFile.open

    def interrupted(archive, *arguments, **keywords):
        stream = opened(archive, *arguments, **keywords)
        end = stream.close

        def close():
            stream.close = end
            raise KeyboardInterrupt

        stream.close = close
        return stream

    path = tmp_path / "file.npz"
    write_arrays(path, {"a": np.ones(3)})
    content = path.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(path, {"a": np.zeros(3)})
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


INTERRUPTED = """
import sys
import numpy as np
from fastconv import Dense, Sequential
model = Sequential([Dense(1000)], input_shape=(2000,), seed=0)
model.save(sys.argv[1])
print("ready", flush=True)
try:
    while True:
        model.save(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_while_saving(tmp_path, count, rng):
    for _ in range(count(4, 50)):
        process = run(INTERRUPTED, tmp_path / "model.npz")
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "interrupted\n"
        Sequential.load(tmp_path / "model.npz")
        assert os.listdir(tmp_path) == ["model.npz"]


# ---- permissions, links, devices ----------------------------------------------------------------

FORBIDDEN = """
import os, sys
import numpy as np
from fastconv.interop import write_weights
os.setgid(65534)
os.setuid(65534)
try:
    write_weights(sys.argv[1], {"a": np.ones(3)})
except PermissionError:
    print("refused")
"""


@ROOT
@pytest.mark.parametrize("folder, file", [(0o755, 0o666), (0o777, 0o644)])
def test_without_permission_nothing_changes(folder, file):
    """A folder that others cannot write into, and a file that they cannot write."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = os.path.join(name, "w.npz")
        write_weights(path, {"a": np.zeros(3)})
        os.chmod(path, file)
        os.chmod(name, folder)
        process = run(FORBIDDEN, path)
        assert process.communicate()[0] == "refused\n"
        assert os.listdir(name) == ["w.npz"]
        np.testing.assert_array_equal(read_weights(path)["a"], np.zeros(3))


def test_permissions_are_the_old_ones_or_what_the_umask_leaves(tmp_path):
    path = tmp_path / "file"
    umask = os.umask(0o027)
    try:
        write_text(path, b"1")
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o7777 == 0o640
    path.chmod(0o604)
    write_text(path, b"2")
    assert path.stat().st_mode & 0o7777 == 0o604


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "folder" / "file")
    for text in (b"new", b"newer"):  # first it leads nowhere
        write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "folder" / "file").read_bytes() == text
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError):
        write_text(loop, b"")
    assert loop.is_symlink()


def test_only_files_are_replaced(tmp_path):
    """As root, moving a file over /dev/null would take it from everyone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, os.devnull):
        with pytest.raises(OSError, match="expected the name of a file"):
            write_text(path, b"")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "file", b"")
    with pytest.raises(TypeError):
        write_text(1, b"")


def test_any_name_that_a_file_can_have(tmp_path):
    for name in ("a" * 255, "ü" * 100, "with space", ".hidden", b"bytes\xff"):
        folder = os.fsencode(tmp_path) if isinstance(name, bytes) else str(tmp_path)
        path = os.path.join(folder, name)
        write_arrays(path, {"a": np.arange(3)})
        np.testing.assert_array_equal(read_arrays(path)["a"], np.arange(3))
    assert len(os.listdir(tmp_path)) == 5

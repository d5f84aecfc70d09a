"""Files that are written whole or not at all.

What is new is written beside the target, forced to disk, and moved into the target's place in one
step; the folder is forced to disk after it. Whatever happens, power cuts included, the target is
the old file or the new one.

**Leftovers.** A process that is killed meanwhile leaves what it was writing, under a name like
``.fastconv-0123456789abcdef.tmp``. The next save into the same folder takes such files away, but
never one that is still being written, in this process or another, on this machine or on one that
shares the folder: whoever writes holds a lock on the file, which the system drops with the
process, and only what can be locked is deleted. (Where there are no such locks, nothing is.)
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, which deletes no open file: that is lock enough
    fcntl = None  # type: ignore[assignment]

LEFTOVER = re.compile(r"\.fastconv-[0-9a-f]{16}\.tmp")


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that then takes the place of `path`, with the old one's permissions.

    A link is followed. If anything fails or interrupts, `path` is as it was.

    Parameters
    ----------
    path : str or path
    write : callable
        Given the open file, which can seek.

    Raises
    ------
    OSError
        If there is no permission (a file that cannot be written is not replaced either), no room,
        or something other than a file at `path`.
    """
    target = os.path.realpath(os.fsdecode(path))
    old = _mode(target)
    folder = os.path.dirname(target)
    _clean(folder)
    temporary = os.path.join(folder, f".fastconv-{os.urandom(8).hex()}.tmp")
    try:
        with _locked(temporary) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if old is not None:
                os.chmod(temporary, old)
            if fcntl is None:
                file.close()
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync(folder)


def _mode(path: str) -> int | None:
    """The permissions of the file at `path`, if there is one, and it may be replaced."""
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise OSError(f"{path}: expected the name of a file, got that of a folder or a device")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path}: no permission to write")
    return stat.S_IMODE(found)


def _locked(path: str) -> IO[bytes]:
    """Make a file and lock it."""
    while True:
        file = open(path, "xb")  # noqa: SIM115
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # not on every file system
                    fcntl.flock(file, fcntl.LOCK_EX)
            # Before it was locked, it was anyone's.
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _clean(folder: str) -> None:
    """Delete what killed processes have left in the folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _delete(entry.path)


def _delete(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    # Neither a link nor a pipe that has just taken the file's place is followed or waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _sync(folder: str) -> None:
    """Force the new name to disk, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

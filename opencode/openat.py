"""Opening files name by name from the root of the file system, and never through a symlink.

A path that was checked may lead elsewhere by the time it is opened, when somebody puts a symlink in the place of one of
its folders. Here such a path leads nowhere.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that was put in a file's place must not wait for its writer.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# On the way it is enough that a folder may be entered; it need not be one that may be read.
_WAY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(directory: Path, parts: Sequence[str] = (), *, create: bool = False) -> int:
    """A descriptor of the folder `parts` below `directory`, which is absolute and resolved.

    With `create`, folders that are missing in `parts` are made.

    Raises:
        OSError: there is none, or one of the names is a symlink.
    """
    names = [*directory.parts[1:], *parts]
    made_from = len(directory.parts) - 1
    folder = os.open(directory.anchor, _WAY if names else FOLDER)
    for number, name in enumerate(names):
        try:
            if create and number >= made_from:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
            inner = os.open(name, FOLDER if number == len(names) - 1 else _WAY, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def read_start(path: Path, limit_bytes: int) -> bytes:
    """The beginning of the regular file `path`, which is absolute and resolved.

    Raises:
        OSError: there is none, it is something else than a regular file, or a name on the way is a symlink.
    """
    folder = open_folder(path.parent)
    try:
        # Asked before opening: to open a device or a FIFO is to do something to it.
        _require_file(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)
        descriptor = os.open(path.name, FILE, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        _require_file(os.fstat(descriptor).st_mode)
        return file.read(limit_bytes)


def entrance(folder: int, path: Path) -> str:
    """A name of the open folder that no symlink can be put in the place of, where the system has one."""
    name = Path(f"/proc/self/fd/{folder}")
    return str(name if name.exists() else path)


def identity(folder: int) -> str:
    """What tells the open folder from every other one, as `stat -c %d:%i` prints it."""
    status = os.fstat(folder)
    return f"{status.st_dev}:{status.st_ino}"


def _require_file(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError("not a regular file")

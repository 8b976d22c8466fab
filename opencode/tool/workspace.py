"""A session's directory, and the only door to the files in it."""

import difflib
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from opencode.cancel import Cancel
from opencode.errors import ToolError
from opencode.openat import FILE, open_folder
from opencode.tool.arguments import printable

PATH_CHARS = 4096
#: So many names of a folder are looked at for one that was perhaps meant.
NAMES_COMPARED = 5000

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is, or goes through, something that is not a folder",
    errno.EISDIR: "is a folder",
    errno.ELOOP: "goes through a symlink that loops or has just changed",
    errno.EACCES: "may not be accessed (permission denied)",
    errno.EPERM: "may not be changed (operation not permitted)",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENOSPC: "cannot be written: the disk is full",
    errno.EROFS: "cannot be written: the file system is read-only",
}

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symlink that has just changed",
}


# Between the last look at a file and its replacement no other thread may replace it: its change would be lost.
_replacing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside the workspace, every symlink in it resolved. `path` is how to show it."""

    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        return printable("/".join(self.parts)) or "."

    def child(self, name: str) -> "Place":
        return Place((*self.parts, name))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file as it was read."""

    data: bytes
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder; symlinks are not followed."""

    name: str
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


class Workspace:
    """Opens, lists and replaces files below one directory, and nothing elsewhere, nor what is private.

    A path is resolved first, so that symlinks which stay inside work. What is opened is then the resolved path, folder
    by folder and never through a symlink: one that is put there after the check leads nowhere. `directory` itself is
    absolute and resolved already, and is opened in the same way: no symlink can be put in its place, either.
    """

    def __init__(self, directory: Path, private: Iterable[Path] = ()) -> None:
        self.root = directory
        self._private = {path.relative_to(directory).parts for path in private if path.is_relative_to(directory)}

    def locate(self, path: str) -> Place:
        """Where `path` is, whether or not there is something; ToolError when that is not inside."""
        if not path or "\0" in path or len(path) > PATH_CHARS:
            raise ToolError("A path must not be empty, hold a NUL character or be longer than 4096 characters.")
        try:
            real = (self.root / path).resolve()
        except (RuntimeError, OSError):  # a loop of symlinks; a name that is too long
            raise ToolError(f"{printable(path)} cannot be resolved: a symlink loops, or a name is too long.") from None
        if not real.is_relative_to(self.root):
            raise ToolError(f"{printable(path)} is outside the session's directory; only what is inside can be used.")
        place = Place(real.relative_to(self.root).parts)
        if any(place.parts[: len(parts)] == parts for parts in self._private):
            raise ToolError(f"{printable(path)} belongs to the server itself and is closed to tools.")
        return place

    def private_below(self, place: Place) -> list[str]:
        """The paths below a folder that are closed to tools, relative to it."""
        depth = len(place.parts)
        return ["/".join(parts[depth:]) for parts in self._private if parts[:depth] == place.parts]

    @contextmanager
    def folder(self, place: Place) -> Iterator[int]:
        """The folder as a descriptor, open as long as the block runs."""
        with self._told(place):
            descriptor = self._open_folder(place.parts)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def entries(self, place: Place) -> list[Entry]:
        """What is in a folder, in no order."""
        found = []
        with self.folder(place) as folder, os.scandir(folder) as entries:
            for entry in entries:
                if (*place.parts, entry.name) in self._private:
                    continue
                with suppress(FileNotFoundError):  # gone since
                    found.append(Entry(entry.name, entry.stat(follow_symlinks=False)))
        return found

    def is_folder(self, place: Place) -> bool:
        """True for a folder, False for a file; ToolError for anything else, and for nothing."""
        if not place.parts:
            return True
        with self._told(place), self._parent(place) as folder:
            mode = os.stat(place.parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            _require_file(place, mode)
        return stat.S_ISDIR(mode)

    @contextmanager
    def stream(self, place: Place) -> Iterator[BinaryIO]:
        """The file, open for reading. Anything but a regular file is refused and never waited for."""
        with self._told(place):
            descriptor = self._open_file(place)
        with os.fdopen(descriptor, "rb") as stream:
            yield stream

    def snapshot(self, place: Place, *, size_limit: int) -> Snapshot | None:
        """The file in memory; None when there is none."""
        try:
            descriptor = self._open_file(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise self._error(place, exc) from exc
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if status.st_size > size_limit:
                raise ToolError(f"{place.path} has {status.st_size:,} bytes, over the limit of {size_limit:,}.")
            return Snapshot(stream.read(size_limit), status)

    def replace(self, place: Place, data: bytes, before: Snapshot | None) -> None:
        """Put `data` in the file's place, whole or not at all, and make the folders that are missing.

        The file keeps its mode. ToolError when it is no longer what `before` says.
        """
        if not place.parts:
            raise ToolError("The session's directory is a folder, not a file.")
        if before and not before.status.st_mode & 0o222:
            raise ToolError(f"{place.path} is read-only.")
        with self._told(place), self._parent(place, create=True) as folder:
            temporary = f".opencode-{secrets.token_hex(8)}.tmp"
            descriptor = os.open(temporary, _NEW, 0o666, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    if before:
                        _copy_status(descriptor, before.status)
                    stream.write(data)
                with _replacing:
                    self._require_unchanged(place, folder, before)
                    os.replace(temporary, place.parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    @contextmanager
    def _parent(self, place: Place, *, create: bool = False) -> Iterator[int]:
        descriptor = self._open_folder(place.parts[:-1], create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_folder(self, parts: tuple[str, ...], *, create: bool = False) -> int:
        try:
            return open_folder(self.root, parts, create=create)
        except (FileNotFoundError, NotADirectoryError):
            try:
                os.close(open_folder(self.root))
            except OSError:
                raise ToolError("The session's directory does not exist any more, or was replaced.") from None
            raise

    def _open_file(self, place: Place) -> int:
        if not place.parts:
            raise ToolError("The session's directory is a folder, not a file.")
        with self._parent(place) as folder:
            name = place.parts[-1]
            # Asked before opening too: to open a device or a FIFO is to do something to it.
            _require_file(place, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            descriptor = os.open(name, FILE, dir_fd=folder)
        try:
            _require_file(place, os.fstat(descriptor).st_mode)
        except ToolError:
            os.close(descriptor)
            raise
        return descriptor

    def _require_unchanged(self, place: Place, folder: int, before: Snapshot | None) -> None:
        try:
            now = os.stat(place.parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            now = None
        was = before.status if before else None
        if _stamp(now) != _stamp(was):
            raise ToolError(f"{place.path} was changed by something else in this moment; read it again.")

    @contextmanager
    def _told(self, place: Place) -> Iterator[None]:
        """What the operating system refuses, said of this place."""
        try:
            yield
        except OSError as exc:
            raise self._error(place, exc) from exc

    def _error(self, place: Place, exc: OSError) -> ToolError:
        reason = _REASONS.get(exc.errno or 0, exc.strerror or "cannot be used")
        similar = self._similar(place) if exc.errno == errno.ENOENT else []
        hint = f" Did you mean {' or '.join(similar)}?" if similar else ""
        return ToolError(f"{place.path} {reason}.{hint}")

    def _similar(self, place: Place) -> list[str]:
        """Paths of the same folder whose names are like this one's."""
        try:
            with self._parent(place) as folder:
                names = {name.lower(): name for name in os.listdir(folder)[:NAMES_COMPARED]}  # noqa: PTH208 - a descriptor
        except OSError:
            return []
        close = difflib.get_close_matches(place.parts[-1].lower() if place.parts else "", names, n=3)
        return [Place((*place.parts[:-1], names[name])).path for name in close]


def breathe(cancel: Cancel) -> None:
    """Between two steps of a long loop: stop when told to, and let other greenlets run."""
    cancel.check()
    time.sleep(0)


def _require_file(place: Place, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ToolError(f"{place.path} is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file.")


def _copy_status(descriptor: int, status: os.stat_result) -> None:
    with suppress(PermissionError):  # only root may give a file away
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o777)


def _stamp(status: os.stat_result | None) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else ()

"""Atomic file writes, lines that are appended whole, bounded reads, and checks of output paths before long work.

Nothing here leaves a file half-written, on a full disk neither. What is written is for its owner alone (0600, in new
folders of 0700), since it may be a site's state or contribution; results are `shared`, with whom the umask lets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from fednet.errors import DiskFull, UsageError

OPEN_PATIENCE = 2.0
"""Seconds that a file to write waits for a descriptor: a burst of connections takes the last ones for a moment."""

PART = ".part"
"""The ending of a file that is not whole yet; its name begins with a dot."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
"""What libraries say that keep the number of the error to themselves (safetensors, torch)."""


def write_whole(path: Path, content: bytes | memoryview, *, durable: bool = False, shared: bool = False) -> None:
    """Writes a file atomically: to a temporary file in the same folder, then renamed; creates missing folders.

    Concurrent readers, and readers after a crash, see the old file or the new one. Threads of one process must not
    write the same path at the same time.

    Args:
        path: where to.
        content: all of it.
        durable: whether it survives a loss of power once this returns: file and folders are flushed to the disk.
        shared: whether others than its owner may read it and enter the folders.

    Raises:
        OSError: it cannot be written; the temporary file is removed.
    """
    make_folder(path.parent, durable=durable, shared=shared)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        temporary.unlink(missing_ok=True)  # of a process of this number that was killed, with other permissions
        with _open(temporary, os.O_EXCL, shared=shared) as file:
            _write_all(file, content)
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing a file between reading and writing, by a lock beside it.

    Raises:
        OSError: the lock cannot be created.
    """
    make_folder(path.parent, durable=True)
    with _open(path.with_name(f"{path.name}.lock"), 0, shared=False) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_folder(path: Path, *, durable: bool = False, shared: bool = False) -> None:
    """Creates a folder, and those above it, where they are missing; one that exists keeps its permissions.

    Raises:
        OSError: one cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(_permissions(0o777, shared=shared), exist_ok=True)
    path.mkdir(exist_ok=True)  # raises where it is no folder
    for folder in missing if durable else ():
        flush_folder(folder.parent)


def _permissions(all_of: int, *, shared: bool) -> int:
    """What the owner and, where `shared`, others may do: bits of a mode, which the umask narrows."""
    return all_of if shared else all_of & stat.S_IRWXU


def _open(path: Path, flag: int, *, shared: bool) -> FileIO:
    """Opens a file to write, and creates it with its permissions where it is missing."""

    def opener(name: str, flags: int) -> int:
        return open_descriptor(name, (flags & ~os.O_TRUNC) | flag, _permissions(0o666, shared=shared))

    return FileIO(path, "wb", opener=opener)


def open_descriptor(path: str | Path, flags: int, mode: int = 0o666) -> int:
    """Opens a file as `os.open` does, and waits a moment where no descriptor is left."""
    deadline = time.monotonic() + OPEN_PATIENCE
    while True:
        try:
            return os.open(path, flags, mode)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or time.monotonic() >= deadline:
                raise
        time.sleep(0.005)


def _write_all(file: FileIO, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def flush_folder(path: Path) -> None:
    """The names in a folder are on the disk when this returns."""
    folder = open_descriptor(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class LineFile:
    """A text file to which lines are appended, each at once and whole or not at all; a context manager.

    Args:
        path: of the file, in a folder that exists.
        durable: whether a line survives a loss of power once it is appended.
        shared: whether others than its owner may read it, if it is new.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, durable: bool = False, shared: bool = False) -> None:
        self._path, self._durable = path, durable
        self._file = _open(path, os.O_APPEND, shared=shared)
        if durable:
            flush_folder(path.parent)

    def append(self, line: str) -> None:
        """Appends a line; its end is added.

        Raises:
            OSError: it cannot be written; the file ends with the line before.
        """
        content, end = f"{line}\n".encode(), os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Closes it; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file to which lines are appended; what a kill has left of a last one is removed.

    Raises:
        OSError: it cannot be read, or not be shortened.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return content[:whole].split(b"\n")[:-1]


def disk_full(error: BaseException) -> DiskFull | None:
    """The full disk behind an error: itself, its cause, or an error of its group; None if there is none behind it."""
    if isinstance(error, DiskFull):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskFull(str(error.filename or ""))
    if any(words in str(error) for words in _FULL_WORDS):
        return DiskFull()
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    behind = [*inner, *filter(None, (error.__cause__ or (None if error.__suppress_context__ else error.__context__),))]
    return next(filter(None, map(disk_full, behind)), None)


def require_writable(path: Path, argument: str, suffix: str = "") -> Path:
    """The path of a file to write, checked before the work whose result it takes.

    Args:
        path: where to.
        argument: the option or argument that named it, for the message.
        suffix: how its name ends, of a file of one format; empty for any.

    Raises:
        UsageError: its name ends otherwise, its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"{argument} {path}", "a file in a folder that exists")
    if suffix and path.suffix.lower() != suffix:
        raise UsageError(f"{argument} {path}", f"a {suffix} file")
    return path


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file that the operator named.

    Raises:
        UsageError: it is no regular file, cannot be read, or has more than `max_bytes` bytes.
    """
    if not path.is_file():
        raise UsageError(str(path), "an existing file")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(str(path), "a readable file", error.strerror or str(error)) from error
    if len(content) > max_bytes:
        raise UsageError(str(path), f"a file of at most {max_bytes} bytes")
    return content

"""The bytes of a state's file: on a site's disk where it has a folder and they are many, in memory otherwise.

A file on the disk is read through a mapping, whose pages the system may drop and read again: so no state need fit in
memory. It has no name until it is kept (open(2) on O_TMPFILE), so that nothing of it stays if nobody keeps it, however
its process ends. Its room is taken when it is made: a full disk is an error then, not a signal while a page is written.
Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
import weakref
from pathlib import Path

import torch

from fednet.files import PART, flush_folder, make_folder, open_descriptor, write_whole

Bytes = bytes | memoryview

IN_MEMORY = 256 << 20
"""Bytes of the largest state that is held in memory even so: a contribution on the disk is flushed with the outcome."""


class StateStorage:
    """The bytes of one state.

    Args:
        data: all of them, which must not change; they are not copied.

    Attributes:
        data: all of them, read-only.
    """

    def __init__(self, data: Bytes) -> None:
        self.data = memoryview(data).toreadonly()

    @staticmethod
    def opened(path: Path) -> StateStorage:
        """A file that was kept.

        Raises:
            OSError: it cannot be read.
            ValueError: it is empty.
        """
        with path.open("rb") as file:
            return StateStorage(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))

    def keep(self, path: Path) -> None:
        """Gives it a name that survives a loss of power once this returns, in the folder where it lies, if in any.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(path, self.data, durable=True)


class WritableStorage(StateStorage):
    """Bytes that are filled range by range, in memory; what is written shows in `data` at once.

    Args:
        size: how many, > 0.
    """

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8).numpy().data
        super().__init__(self._memory)

    def write(self, offset: int, content: Bytes) -> None:
        """Fills a range.

        Raises:
            OSError: the disk fails.
        """
        self._memory[offset : offset + len(content)] = content


class DiskStorage(WritableStorage):
    """The same on the disk.

    Args:
        size: how many, > 0.
        folder: where; created if it is missing.

    Raises:
        OSError: there is no room for it.
    """

    def __init__(self, size: int, folder: Path) -> None:
        make_folder(folder, durable=True)
        self._file = _unnamed(folder)
        self._close = weakref.finalize(self, os.close, self._file)
        try:
            os.posix_fallocate(self._file, 0, size)
            self.data = memoryview(mmap.mmap(self._file, size, prot=mmap.PROT_READ))
        except OSError as error:
            error.filename = str(folder)
            raise

    def write(self, offset: int, content: Bytes) -> None:
        """Fills a range.

        Raises:
            OSError: the disk fails.
        """
        rest = memoryview(content)
        while rest:
            count = os.pwrite(self._file, rest, offset)
            rest, offset = rest[count:], offset + count

    def keep(self, path: Path) -> None:
        """Names it; where a file cannot be named any more, a copy."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
        os.fsync(self._file)
        try:
            temporary.unlink(missing_ok=True)  # of a process of this number that was killed
            # An absolute path needs no folder; without one Python calls link(2), which would name the symbolic link.
            os.link(f"/proc/self/fd/{self._file}", temporary, src_dir_fd=self._file, follow_symlinks=True)
            temporary.replace(path)
            flush_folder(path.parent)
        except OSError:
            super().keep(path)


def allocated(size: int, folder: Path | None) -> WritableStorage:
    """Room for so many bytes, in a folder if there is one and they are more than `IN_MEMORY`.

    Raises:
        OSError: there is none.
    """
    return WritableStorage(size) if folder is None or size <= IN_MEMORY else DiskStorage(size, folder)


def _unnamed(folder: Path) -> int:
    """A file without a name, which is gone when nobody has it open."""
    try:
        return open_descriptor(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            raise
    path = folder / f".{os.getpid()}-{time.monotonic_ns():x}{PART}"  # a file system without such files
    file = open_descriptor(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    return file

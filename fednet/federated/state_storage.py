"""The bytes of a state's file: on a site's disk where it has a folder, in memory otherwise.

A file on the disk is read through a mapping, whose pages the system may drop and read again: so no state need fit in
memory. It has a temporary name until it is kept, and is gone with its last reader if nobody keeps it. Its room is taken
when it is made: a full disk is an error then, not a signal while a page is written. Knows nothing of what bytes mean.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

import torch

from fednet.files import PART, flush_folder, make_folder, open_descriptor, write_whole

Bytes = bytes | memoryview


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
        self._path = folder / f".{os.getpid()}-{id(self):x}{PART}"
        self._path.unlink(missing_ok=True)  # of a process of this number that was killed
        self._file = open_descriptor(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._discard = weakref.finalize(self, _discard, self._file, self._path)
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
        """Names it; once it has a name, further ones are given to copies."""
        if not self._discard.alive:
            super().keep(path)
            return
        try:
            os.fsync(self._file)
            self._path.replace(path)
            flush_folder(path.parent)
        except OSError as error:
            error.filename = str(path)
            raise
        self._discard()


def allocated(size: int, folder: Path | None) -> WritableStorage:
    """Room for so many bytes, in a folder or in memory.

    Raises:
        OSError: there is none.
    """
    return WritableStorage(size) if folder is None else DiskStorage(size, folder)


def discard_parts(folder: Path) -> None:
    """Removes what processes that were killed have left in a folder without a name."""
    for path in folder.glob(f".*{PART}"):
        path.unlink(missing_ok=True)


def _discard(file: int, path: Path) -> None:
    os.close(file)
    path.unlink(missing_ok=True)

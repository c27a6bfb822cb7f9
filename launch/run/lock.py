"""The lock of a run's folder, and who holds it: a lock of an open file description (fcntl(2)) on a file in it.

The kernel releases it when the process that holds it is gone, however it ended, so that a stale one does not exist; and
it tells whether the lock is held without taking it, which would be in the way of a launch. The file says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

LOCK: Final = ".launch.lock"

_FLOCK = "hhqqi4x"
"""`struct flock` on 64-bit Linux: type, whence, start, length, process."""
_WHOLE = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_BYTES = 512
"""Of the file, which is written at once."""


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a run's folder.

    Attributes:
        pid: its number; 0 while it is not known yet.
        host: the machine on which it runs.
        created: seconds since the epoch at which the process was started.
        handles_signals: whether a signal ends the launch; of one within a program its own code does.
    """

    pid: int = 0
    host: str = ""
    created: float = 0.0
    handles_signals: bool = False

    @classmethod
    def here(cls) -> LockHolder:
        """This process, on whose main thread alone signals arrive."""
        process = psutil.Process()
        main = threading.current_thread() is threading.main_thread()
        return cls(process.pid, socket.gethostname(), process.create_time(), main)

    @property
    def process(self) -> psutil.Process | None:
        """The process; None where it is not on this machine, or not known yet."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            return found if found.create_time() == self.created else None
        except psutil.Error:
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"


def take_lock(folder: Path) -> int:
    """Takes a folder's lock for as long as the descriptor that is returned is open.

    Raises:
        BlockingIOError: it is held.
        OSError: the folder cannot be written.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE)
        os.pwrite(descriptor, json.dumps(asdict(LockHolder.here())).ljust(_BYTES).encode(), 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock_holder(folder: Path) -> LockHolder | None:
    """Who holds a folder's lock; None if nobody does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        kind, *_ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE))
        return None if kind == fcntl.F_UNLCK else _parse(os.pread(descriptor, _BYTES, 0))
    finally:
        os.close(descriptor)


def _parse(content: bytes) -> LockHolder:
    try:
        fields = json.loads(content)
        return LockHolder(**fields) if isinstance(fields, dict) else LockHolder()
    except (ValueError, TypeError):
        return LockHolder()

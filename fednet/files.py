"""Atomic file writes, bounded reads, and checks of output paths before long work."""

from __future__ import annotations

import os
from pathlib import Path

from fednet.errors import UsageError


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: to a temporary file in the same folder, then renamed; creates missing folders.

    Concurrent readers, and readers after a crash, see the old file or the new one. Threads of one process must not
    write the same path at the same time.

    Raises:
        OSError: it cannot be written; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path, argument: str) -> Path:
    """The path of a file to write, checked before the work whose result it takes.

    Args:
        path: where to.
        argument: the option or argument that named it, for the message.

    Raises:
        UsageError: its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"{argument} {path}", "a file in a folder that exists")
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

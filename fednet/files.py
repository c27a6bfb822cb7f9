"""Files that are there whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it there; makes the folders above it.

    Whoever reads meanwhile, and whoever comes after a crash, finds the old file or the new one. Several threads of
    one process must not write the same path at once.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""The log of a node that runs elsewhere: what comes from there, in a file of the run's folder. Knows no engine."""

from __future__ import annotations

from pathlib import Path

from fednet.files import LineFile, make_folder
from launch.run.child import EXIT_MESSAGE_PREFIX

MAX_LINE_BYTES = 1 << 16
"""Bytes of a line at most: a longer one becomes several."""


class NodeLog:
    """Appends what a node writes, line by line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent, shared=True)
        self._file = LineFile(path, shared=True)
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Takes what has come; what is no whole line yet waits for its end."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._append(line)
        while len(self._rest) > MAX_LINE_BYTES:
            self._append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]

    def end(self, message: str = "") -> None:
        """Writes the rest, and why the node has ended where it did not say so itself."""
        if self._rest:
            self._append(self._rest)
        if message:
            self._file.append(f"{EXIT_MESSAGE_PREFIX}{message}")
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.append(line.decode("utf-8", "replace"))

"""The logs of a run's nodes as one stream, in the order of time, each line with its node.

A line begins with the time at which it was written; those that do not (a traceback, a library's own output) belong to
the one before. Knows files, no process.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUFFIX: Final = ".log"

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


class LogTail:
    """Reads the logs of a folder while they grow, also of nodes whose log comes later.

    Args:
        folder: of the logs.
        node: whose log alone; None: all.
    """

    def __init__(self, folder: Path, node: str | None = None) -> None:
        self._folder, self._node = folder, node
        self._offsets: dict[str, int] = {}

    def names(self) -> list[str]:
        """Whose logs there are."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))

    def read(self, *, last: bool = False) -> list[tuple[str, str]]:
        """(node, line) of what has come since the last time; with `last` also a line that has no end."""
        wanted = [name for name in self.names() if self._node in {None, name}]
        timed = [list(_timed(name, self._lines(name, last=last))) for name in wanted]
        return [(name, line) for _, name, line in heapq.merge(*timed, key=lambda each: each[0])]

    def _lines(self, name: str, *, last: bool) -> list[str]:
        with (self._folder / f"{name}{SUFFIX}").open("rb") as file:
            file.seek(self._offsets.get(name, 0))
            content = file.read()
        whole = content if last else content[: content.rfind(b"\n") + 1]
        self._offsets[name] = self._offsets.get(name, 0) + len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _timed(name: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    time = ""
    for line in lines:
        match = _TIME.match(line)
        time = match[0] if match else time
        yield time, name, line

"""Standard output and error that cannot end a command: what cannot be encoded is replaced, what cannot be written lost.

The screen shows how a run goes and never decides how it ends: a pipe that nobody reads, a full disk behind `> file` or
an encoding without box characters is no reason to lose hours of training. Knows streams, not what is shown on them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

log = logging.getLogger(__name__)


class Screen:
    """A text stream whose writing never fails; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> int:
        """Writes what can be written, with a replacement for what the encoding lacks."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._attempt(lambda: self._stream.write(text.encode(encoding, "replace").decode(encoding)))
        return len(text)

    def flush(self) -> None:
        """Flushes what was written."""
        self._attempt(self._stream.flush)

    def _attempt(self, work: Any) -> None:
        if self._broken:
            return
        try:
            work()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._broken = True
            log.warning("nothing more is shown on the screen: %s", error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_console(*, stderr: bool = False, quiet: bool = False, plain: bool = False) -> Console:
    """A console of rich on standard output or error, whose writing never fails; brackets in a text are brackets.

    A `plain` one has no colours, wherever it writes.
    """
    from rich.console import Console  # noqa: PLC0415 - neither a node's process nor a help text needs it

    stream = cast("TextIO", Screen(sys.stderr if stderr else sys.stdout))
    return Console(
        file=stream,
        stderr=stderr,
        quiet=quiet,
        color_system=None if plain else "auto",
        force_jupyter=False,
        markup=False,
        emoji=False,
    )


def print_json(value: Any) -> None:
    """Writes a value on standard output as JSON, for programs; a full disk is an error here.

    In ASCII: what is in the value moves no cursor, whoever looks.
    """
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def open_table(*columns: str) -> Table:
    """A table of rich without lines, whose columns are two spaces apart; without `columns` it has no head."""
    from rich.table import Table  # noqa: PLC0415 - help texts need not wait for it

    return Table(*columns, box=None, show_header=bool(columns), header_style="dim", padding=(0, 2, 0, 0))


def tolerate_encoding() -> None:
    """From now on standard output and error replace what they cannot encode, whoever writes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def settle() -> None:
    """Before the end: what is still buffered is written, or given up; the interpreter would exit with 120 for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # it is no file, or closed
        return

"""Log records as lines that no content can forge: a record begins a line, and nothing else does. Knows no handler."""

from __future__ import annotations

import logging

from protocol.text import plain_text

INDENT = "    | "
"""Before every line of a traceback."""


class PlainFormatter(logging.Formatter):
    """Formats a record in one line, without control characters; the lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The record's line."""
        return plain_text(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - as above
        """The lines of a traceback."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(INDENT + line[: len(line) - len(line.lstrip())] + plain_text(line.strip()) for line in lines)


def log_to_stderr() -> None:
    """From now on this process logs to standard error, from level INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])

"""A record is one line, whatever a peer put into it; a traceback's lines cannot pass for records."""

from __future__ import annotations

import logging
import sys

from nodes.log_lines import INDENT, PlainFormatter

FORGED = "x\n2026-01-01 00:00:00,000 INFO nodes.node: all is well\x1b[2J"


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord("nodes", logging.INFO, "", 0, message, args, sys.exc_info() if error else None)


def test_a_record_is_one_line() -> None:
    line = PlainFormatter().format(record("%s is lost: %s", "a1", FORGED))
    assert line.isprintable()
    assert line.endswith("a1 is lost: x 2026-01-01 00:00:00,000 INFO nodes.node: all is well\ufffd[2J")


def test_a_traceback_is_indented() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        first, *rest = PlainFormatter().format(record("failed", error=True)).split("\n")
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith(INDENT) and line.isprintable() for line in rest)

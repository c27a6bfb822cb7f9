"""Errors carry values, through which a peer can neither flood nor forge a log."""

from __future__ import annotations

import pytest

from protocol.errors import EncodingError, LimitError, ProtocolError, WireError


def test_an_error_shows_its_reason_and_values() -> None:
    error = WireError("tensor frame has the wrong size", bytes=3, expected=4)
    assert str(error) == "tensor frame has the wrong size (bytes=3, expected=4)"
    assert (error.reason, error.fields) == ("tensor frame has the wrong size", {"bytes": 3, "expected": 4})
    assert str(LimitError("too much")) == "too much"


def test_families_can_be_caught() -> None:
    assert issubclass(LimitError, WireError)
    assert issubclass(WireError, ProtocolError)
    assert issubclass(EncodingError, ProtocolError)
    assert not issubclass(EncodingError, WireError)


@pytest.mark.parametrize("hostile", ["x\nERROR forged line", "\x1b[2J", "x" * 10_000, b"\xff" * 10_000, "\u202e"])
def test_values_are_one_short_line_of_printable_ascii(hostile: object) -> None:
    text = str(WireError("unknown kind", kind=hostile))
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 200

"""What others have written is cleaned, text by text and line by line, and so is JSON."""

from __future__ import annotations

import pytest

from fednet.text import MAX_DEPTH, plain_json, plain_lines, plain_text


def test_white_space_is_one_space_and_what_is_unseen_replaced() -> None:
    assert plain_text("a\tb\n\nc  d") == "a b c d"
    assert plain_text("a\x1b[2Jb\u202ec") == "a\ufffd[2Jb\ufffdc"
    assert plain_text("two  spaces") == "two  spaces"


def test_lines_stay_lines_and_keep_their_indent() -> None:
    assert plain_lines("x:\n  y\x1b[31m\n\n    z") == "x:\n  y\ufffd[31m\n\n    z"


def test_every_text_of_json_is_cleaned() -> None:
    value = {"classes": ["cat\x07", "dog"], "n\x00": 3, "own": True, "nested": [{"x": "\x1b"}]}
    expected = {"classes": ["cat\ufffd", "dog"], "n\ufffd": 3, "own": True, "nested": [{"x": "\ufffd"}]}
    assert plain_json(value) == expected


def test_json_that_hides_something_is_refused() -> None:
    with pytest.raises(ValueError, match="keys that differ"):
        plain_json({"a\x00": 1, "a\x01": 2})
    deep: object = "x"
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ValueError, match="at most 32 levels"):
        plain_json(deep)

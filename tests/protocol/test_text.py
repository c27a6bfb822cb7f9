"""Words of a peer are one line that can neither steer a terminal nor forge a log, in every message."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies
from pydantic import TypeAdapter, ValidationError

from fednet import text as fednet_text
from protocol.messages import Goodbye, ProgressReport, QueryRefusal
from protocol.messages.base import Label
from protocol.text import plain_text

HOSTILE = {
    "osc 52, which sets the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "one C1 character does the same": "\x9d52;c;ZXZpbA==\x9c",
    "a second line of a log": "bye\n2026-01-01 00:00:00,000 INFO nodes.node: all is well",
    "a return to the line's beginning": "bad\rgood",
    "a word that is turned round": "\u202etxt.exe",
    "an isolate that never ends": "\u2066x",
    "Unicode's own separators of lines": "one\u2028two\u2029three\x85four",
    "a surrogate": "\ud800",
    "a tag character": "\U000e0041",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_seen_does_not_get_in(text: str) -> None:
    assert plain_text(text).isprintable()
    assert Goodbye(reason=text).reason == plain_text(text)
    assert QueryRefusal(query=1, reason=text).reason.isprintable()
    assert ProgressReport(phase="p", done=0, total=1, values={}, note=text).note.isprintable()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_name_that_cannot_be_seen_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ProgressReport(phase=text, done=0, total=1, values={})
    with pytest.raises(ValidationError):
        ProgressReport(phase="p", done=0, total=1, values={text: 1.0})


@pytest.mark.parametrize("text", ["[/x]", "[bold]1[/bold]", "été 日本語 👍", "क्\u200dष", "epsilon: 1e-3, 'a' <b>"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert plain_text(text) == text
    assert ProgressReport(phase=text, done=0, total=1, values={}).phase == text


@given(strategies.text(max_size=64))
def test_both_packages_clean_alike_and_once(text: str) -> None:
    once = plain_text(text)
    assert fednet_text.plain_text(text) == once
    assert plain_text(once) == once


KNOWN = strategies.characters(max_codepoint=0x3000, exclude_categories=("Cn", "Cs"))
"""Characters of this Python's Unicode, which may be older than that of pydantic's patterns."""


@given(strategies.text(alphabet=KNOWN, min_size=1, max_size=64))
def test_a_name_is_refused_exactly_where_text_would_be_cleaned(text: str) -> None:
    kept = " ".join(text.split(" ")) if plain_text(text.replace(" ", "_")) == text.replace(" ", "_") else None
    try:
        assert TypeAdapter(Label).validate_python(text) == kept
    except ValidationError:
        assert kept is None

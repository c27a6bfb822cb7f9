"""Words, options and cards."""

from __future__ import annotations

import pytest

from fednet.errors import MethodError
from fednet.methods.novelty.messages import (
    NoveltyCapabilities,
    choice_option,
    integer_option,
    number_option,
    read_novelty_capabilities,
)


def card(**changes) -> str:
    values = {"histogram": (1, 0), "held_out": (1, 0), "classes": ("a", "b"), "shape": (1, 8, 8)}
    return NoveltyCapabilities(**{**values, **changes}).model_dump_json()


def test_cards_must_fit_each_other() -> None:
    assert list(read_novelty_capabilities({"b": card(), "a": card()})) == ["a", "b"]
    with pytest.raises(MethodError, match="nobody"):
        read_novelty_capabilities({})
    with pytest.raises(MethodError, match="a shows no card"):
        read_novelty_capabilities({"a": "{}"})
    with pytest.raises(MethodError, match="b and a differ in shape"):
        read_novelty_capabilities({"a": card(), "b": card(shape=(3, 8, 8))})


def test_options_are_read_or_refused() -> None:
    options = {"n": 3, "x": 0.5, "w": "this", "yes": True, "text": "3"}
    assert (integer_option(options, "n", 1), integer_option(options, "m", 1)) == (3, 1)
    assert (number_option(options, "x"), number_option(options, "n"), number_option(options, "m")) == (0.5, 3.0, None)
    assert choice_option(options, "w", ("this", "that"), "that") == "this"
    assert choice_option(options, "v", ("this", "that"), "that") == "that"
    for read in (
        lambda: integer_option(options, "yes", 1),
        lambda: integer_option(options, "x", 1),
        lambda: integer_option(options, "text", 1),
    ):
        with pytest.raises(MethodError, match="whole number"):
            read()
    for name in ("yes", "text"):
        with pytest.raises(MethodError, match="at least 0"):
            number_option(options, name)
    with pytest.raises(MethodError, match="one of this, that"):
        choice_option(options, "n", ("this", "that"), "that")

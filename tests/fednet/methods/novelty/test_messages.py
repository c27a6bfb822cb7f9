"""Capabilities of sites are read together."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.errors import MethodError
from fednet.methods.novelty.messages import NoveltyCapabilities, read_novelty_capabilities


def site(**changes: Any) -> str:
    values: dict[str, Any] = {"histogram": (1, 0), "held_out": (1, 0), "classes": ("a", "b"), "shape": (1, 8, 8)}
    return NoveltyCapabilities(**{**values, **changes}).model_dump_json()


def test_capabilities_must_fit_each_other() -> None:
    assert list(read_novelty_capabilities({"b": site(), "a": site()})) == ["a", "b"]
    with pytest.raises(MethodError, match="no site answers"):
        read_novelty_capabilities({})
    with pytest.raises(MethodError, match="a has no capabilities"):
        read_novelty_capabilities({"a": "{}"})
    with pytest.raises(MethodError, match="b and a differ in shape"):
        read_novelty_capabilities({"a": site(), "b": site(shape=(3, 8, 8))})

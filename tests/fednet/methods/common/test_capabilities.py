"""Capabilities are read in one order, and what does not fit is named with what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.errors import MethodError
from fednet.methods.common.capabilities import ImageCapabilities, read_capabilities


class Pictures(ImageCapabilities):
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: tuple[str, ...] = ("a", "b")
    pictures: int = 1


def read(*capabilities: Pictures, **texts: str) -> dict[str, Pictures]:
    shown = {f"a{k + 1}": site.model_dump_json() for k, site in enumerate(capabilities)}
    return read_capabilities({**texts, **shown}, Pictures, "images", {"shape": "ask them", "classes": "agree"})


def test_they_come_back_in_the_order_of_their_names() -> None:
    many, few = Pictures(pictures=9), Pictures(pictures=2)
    texts = {"b": many.model_dump_json(), "a": few.model_dump_json()}
    assert list(read_capabilities(texts, Pictures, "images", {}).items()) == [("a", few), ("b", many)]


def test_fields_that_nobody_compares_may_differ() -> None:
    assert [site.pictures for site in read(Pictures(), Pictures(pictures=5)).values()] == [1, 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (3, 8, 8)}, r"a2 and a1 differ in shape \(\(3, 8, 8\) and \(1, 8, 8\)\): ask them"),
        ({"classes": ("a", "c")}, r"a2 and a1 differ in classes .*: agree"),
    ],
)
def test_a_field_that_differs_is_named_with_its_remedy(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        read(Pictures(), Pictures().model_copy(update=change))


def test_what_is_long_is_cut_in_a_message() -> None:
    with pytest.raises(MethodError) as raised:
        read(Pictures(), Pictures(classes=tuple(f"class-{k}" for k in range(1000))))
    assert len(str(raised.value)) < 300


def test_no_site_and_nonsense_are_refused() -> None:
    with pytest.raises(MethodError, match="start clients of the method images"):
        read()
    with pytest.raises(MethodError, match="a0 has no capabilities of the method images"):
        read(Pictures(), a0="{]")

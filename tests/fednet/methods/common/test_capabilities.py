"""Cards are read in one order, and what does not fit is named with what to do about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from fednet.data.datasets import ImageSet, Splits
from fednet.errors import DataError, MethodError
from fednet.methods.common.capabilities import read_capabilities, require_matching_data


class PictureCard(BaseModel):
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: tuple[str, ...] = ("a", "b")
    pictures: int = 1


def read(*capabilities: PictureCard, **texts: str) -> dict[str, PictureCard]:
    shown = {f"a{k + 1}": card.model_dump_json() for k, card in enumerate(capabilities)}
    return read_capabilities({**texts, **shown}, PictureCard, "painting", {"shape": "ask them", "classes": "agree"})


def test_they_come_back_in_the_order_of_their_names() -> None:
    many, few = PictureCard(pictures=9), PictureCard(pictures=2)
    texts = {"b": many.model_dump_json(), "a": few.model_dump_json()}
    assert list(read_capabilities(texts, PictureCard, "painting", {}).items()) == [("a", few), ("b", many)]


def test_fields_that_nobody_compares_may_differ() -> None:
    assert [card.pictures for card in read(PictureCard(), PictureCard(pictures=5)).values()] == [1, 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": (3, 8, 8)}, r"a2 and a1 differ in shape \(\(3, 8, 8\) and \(1, 8, 8\)\): ask them"),
        ({"classes": ("a", "c")}, r"a2 and a1 differ in classes .*: agree"),
    ],
)
def test_a_field_that_differs_is_named_with_its_remedy(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MethodError, match=said):
        read(PictureCard(), PictureCard().model_copy(update=change))


def test_what_is_long_is_cut_in_a_message() -> None:
    with pytest.raises(MethodError) as raised:
        read(PictureCard(), PictureCard(classes=tuple(f"class-{k}" for k in range(1000))))
    assert len(str(raised.value)) < 300


def test_nobody_and_nonsense_are_refused() -> None:
    with pytest.raises(MethodError, match="start clients of the method painting"):
        read()
    with pytest.raises(MethodError, match="a0 shows no card of the method painting"):
        read(PictureCard(), a0="{]")


def test_the_data_must_look_like_what_the_sites_have() -> None:
    part = ImageSet(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ("a", "b"))
    splits = Splits(part, part, part)
    assert require_matching_data(splits, read(PictureCard())) is splits
    for other in (replace(part, classes=("a", "c")), replace(part, images=torch.zeros(2, 3, 8, 8))):
        with pytest.raises(DataError, match=r"a1 has .*: set data to what the sites have"):
            require_matching_data(Splits(part, part, other), read(PictureCard()))

"""What a site keeps comes back as it was, under the same terms only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.conversations import Offer
from fednet.errors import ModelError
from fednet.methods.cmtii.keeping import COLUMNS, Keeper, by_class


def test_words_come_back_with_their_versions(tmp_path: Path) -> None:
    offers = (Offer("a1", "3", 2, torch.rand(1, 4)), Offer("a1", "7", 1, torch.rand(2, 4)))
    Keeper(tmp_path, "a1", "terms").keep_words(offers)
    found = Keeper(tmp_path, "a1", "terms").words()
    assert [(one.origin, one.subject, one.version) for one in found] == [("a1", "3", 2), ("a1", "7", 1)]
    assert all(torch.equal(one.words, two.words) for one, two in zip(found, offers, strict=True))
    assert Keeper(tmp_path, "a1", "other").words() == ()
    assert Keeper(tmp_path, "a2", "terms").words() == ()


def test_adapters_come_back(tmp_path: Path) -> None:
    keeper, state = Keeper(tmp_path, "a1", "terms"), {"x": torch.rand(3)}
    assert keeper.adapter("local") is None
    keeper.keep_adapter("local", state)
    found = keeper.adapter("local")
    assert found is not None
    assert torch.equal(found["x"], state["x"])
    assert Keeper(tmp_path, "a1", "other").adapter("local") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "a1", "terms")
    keeper.keep_words(())
    keeper.place("words.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"words.safetensors is damaged"):
        keeper.words()


def test_a_row_a_class() -> None:
    images, labels = -torch.ones(5, 1, 8, 8), torch.tensor([7, 2, 2, 2, 7])
    height, width, _ = by_class(images, labels).shape
    assert height * COLUMNS == 2 * (width - 1) + COLUMNS

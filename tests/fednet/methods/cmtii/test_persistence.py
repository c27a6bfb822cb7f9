"""A site's files are read as they were written, under the same configuration only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.api import Offer, OfferBatch
from fednet.errors import ModelError
from fednet.methods.cmtii.persistence import GRID_COLUMNS, LearnedOffers, SiteStore, class_grid

THEIRS = (Offer("a2", "3", 2, torch.rand(1, 4)), Offer("a3", "3", 1, torch.rand(1, 4)))
OFFERS = (Offer("a1", "3", 2, torch.rand(1, 4)), Offer("a1", "7", 1, torch.rand(2, 4)))


def rows(offers: tuple[Offer, ...]) -> list[tuple[str, str, int, list[list[float]]]]:
    return [(one.origin, one.subject, one.version, one.embeddings.tolist()) for one in offers]


def test_words_come_back_with_what_was_learnt_last(tmp_path: Path) -> None:
    SiteStore(tmp_path, "a1", "digest").save_words(LearnedOffers(2, OFFERS, ("3",), {"loss": 0.1}))
    found = SiteStore(tmp_path, "a1", "digest").words()
    assert rows(found.offers) == rows(OFFERS)
    assert found.number == 2
    assert rows(found.batch.offers) == rows(OFFERS[:1])
    assert found.batch.values == {"loss": 0.1}
    assert SiteStore(tmp_path, "a1", "other").words() == LearnedOffers()
    assert SiteStore(tmp_path, "a2", "digest").words() == LearnedOffers()


def test_another_round_replaces_words_of_its_subjects() -> None:
    newer = Offer("a1", "3", 3, torch.rand(1, 4))
    after = LearnedOffers(2, OFFERS, ("3",), {"loss": 0.1}).after(3, OfferBatch((newer,), {"loss": 0.2}))
    assert after == LearnedOffers(3, (newer, OFFERS[1]), ("3",), {"loss": 0.2})


def test_words_of_others_come_back_the_newest_of_each(tmp_path: Path) -> None:
    store, offers = SiteStore(tmp_path, "a1", "digest"), (Offer("a2", "3", 1, torch.rand(1, 4)), *THEIRS)
    for offer in offers:
        store.save_received(offer)
    found = SiteStore(tmp_path, "a1", "digest").received()
    assert sorted(rows(found)) == sorted(rows(THEIRS))
    assert SiteStore(tmp_path, "a1", "other").received() == ()
    assert SiteStore(tmp_path, "a2", "digest").received() == ()


def test_no_name_of_a_subject_is_a_path(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "run", "a1", "digest")
    store.save_received(Offer("../a2", "../../x", 1, torch.rand(1, 4)))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [tmp_path / "run" / "sites" / "a1" / "received"]


def test_adapters_come_back(tmp_path: Path) -> None:
    store, state = SiteStore(tmp_path, "a1", "digest"), {"x": torch.rand(3)}
    assert store.adapter("local") is None
    store.save_adapter("local", state)
    found = store.adapter("local")
    assert found is not None
    assert torch.equal(found["x"], state["x"])
    assert SiteStore(tmp_path, "a1", "other").adapter("local") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = SiteStore(tmp_path, "a1", "digest")
    store.save_words(LearnedOffers(1, OFFERS))
    store.save_received(THEIRS[0])
    store.path("words.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"words.safetensors cannot be used"):
        store.words()
    (received,) = store.path("received").iterdir()
    received.write_bytes(received.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"received/.*.safetensors cannot be used"):
        store.received()


def test_a_row_a_class() -> None:
    images, labels = -torch.ones(5, 1, 8, 8), torch.tensor([7, 2, 2, 2, 7])
    height, width, _ = class_grid(images, labels).shape
    assert height * GRID_COLUMNS == 2 * (width - 1) + GRID_COLUMNS

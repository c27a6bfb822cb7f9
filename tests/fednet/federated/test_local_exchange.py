"""Exchanges within one process: everybody works before anybody absorbs, bad offers are named, and a key is a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import ExchangePlan, NullProgress, Offer, OfferBatch, Progress
from fednet.errors import MethodError
from fednet.federated.local_exchange import LocalExchange, refusal
from fednet.federated.local_network import local_network


class Pupil:
    """Offers its number plus all that it has absorbed; takes words of three values."""

    def __init__(self, name: str, number: float) -> None:
        self.name, self.number, self.version = name, number, 0
        self.heard: list[Offer] = []
        self.calls: list[ExchangePlan] = []
        self.known: tuple[Offer, ...] = ()
        self.spoil: Callable[[Tensor], Tensor] = lambda words: words

    def initial_offers(self) -> tuple[Offer, ...]:
        return self.known

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        if call.options.get("balks") in {self.name, "all"}:
            raise MethodError("no pictures")
        progress.report(call.work, 1, 1)
        self.calls.append(call)
        self.version += 1
        total = sum(float(offer.embeddings.sum()) for offer in self.heard)
        words = self.spoil(torch.full((1, 3), self.number + total))
        return OfferBatch((Offer(self.name, "n", self.version, words),), {"number": self.number})

    def absorb(self, offer: Offer) -> None:
        if offer.embeddings.shape[1] != 3:
            raise MethodError(f"words have {offer.embeddings.shape[1]} values, 3 are needed")
        self.heard.append(offer)

    def sums(self) -> dict[str, float]:
        return {offer.origin: float(offer.embeddings.sum()) for offer in self.heard}


def pupils(count: int = 3) -> dict[str, Pupil]:
    return {f"p{index}": Pupil(f"p{index}", float(index + 1)) for index in range(count)}


def market(traders: dict[str, Pupil]) -> LocalExchange:
    return LocalExchange(traders, NullProgress())


def test_everybody_works_before_anybody_absorbs() -> None:
    traders = pupils()
    record = market(traders).exchange(ExchangePlan("k", "learn"))
    assert {name: each.sums() for name, each in traders.items()} == {
        "p0": {"p1": 6.0, "p2": 9.0},
        "p1": {"p0": 3.0, "p2": 9.0},
        "p2": {"p0": 3.0, "p1": 6.0},
    }
    assert record.offered == {name: {"n": 1} for name in traders}
    assert record.absorbed == {"p0": ("p1", "p2"), "p1": ("p0", "p2"), "p2": ("p0", "p1")}
    assert record.values == {name: {"number": each.number} for name, each in traders.items()}
    assert record.sent == dict.fromkeys(traders, 12)
    assert (record.key, record.refused, record.late, record.lost) == ("k", {}, (), {})
    assert record.seconds >= 0


def test_a_call_is_made_once_and_another_one_is_another() -> None:
    traders = pupils()
    held = market(traders)
    assert held.exchange(ExchangePlan("k", "learn")) is held.exchange(ExchangePlan("k", "learn"))
    assert held.exchange(ExchangePlan("l", "learn")).offered == {name: {"n": 2} for name in traders}
    assert [call.key for call in traders["p0"].calls] == ["k", "l"]
    assert traders["p0"].sums() == {"p1": 6.0 + 3 * 12, "p2": 9.0 + 3 * 9}


def test_what_stands_is_absorbed_before_the_first_call() -> None:
    traders = pupils(2)
    traders["p1"].known = (Offer("p1", "old", 3, torch.full((1, 3), 2.0)),)
    market(traders).exchange(ExchangePlan("k", "learn"))
    assert [(offer.subject, offer.version) for offer in traders["p0"].heard] == [("old", 3), ("n", 1)]
    assert traders["p1"].sums() == {"p0": 3 * (1 + 6.0)}


def test_who_declines_is_named_and_absorbs_all_the_same() -> None:
    traders = pupils()
    record = market(traders).exchange(ExchangePlan("k", "learn", {"balks": "p1"}))
    assert record.lost == {"p1": "declined: no pictures"}
    assert list(record.offered) == list(record.absorbed) == ["p0", "p2"]
    assert record.absorbed["p0"] == ("p2",)
    assert traders["p1"].sums() == {"p0": 3.0, "p2": 9.0}


def test_an_exchange_of_nothing_says_why() -> None:
    with pytest.raises(MethodError, match="nobody offers anything under 'k': p0 declined: no pictures; p1 declined"):
        market(pupils(2)).exchange(ExchangePlan("k", "learn", {"balks": "all"}))
    with pytest.raises(MethodError, match="the method has no traders"):
        local_network({}, {}).exchange(ExchangePlan("k", "learn"))


def test_words_of_another_width_are_refused_by_name_at_everybody() -> None:
    traders = pupils()
    traders["p1"].spoil = lambda words: torch.cat([words, words], 1)
    record = market(traders).exchange(ExchangePlan("k", "learn"))
    why = {"p1/n": "words have 6 values, 3 are needed"}
    assert record.refused == {"p0": why, "p2": why}
    assert record.absorbed == {"p0": ("p2",), "p1": ("p0", "p2"), "p2": ("p0",)}


@pytest.mark.parametrize("spoilt", [torch.full((1, 3), torch.nan), torch.ones(1, 3, 8, 8), torch.ones(100, 3)])
def test_what_is_no_offer_never_leaves(spoilt: Tensor) -> None:
    traders = pupils()
    traders["p1"].spoil = lambda _words: spoilt
    record = market(traders).exchange(ExchangePlan("k", "learn"))
    assert "p1's offer 'n' has words" in record.lost["p1"]
    assert all("p1" not in each.sums() for each in traders.values())


def test_a_version_that_says_other_words_is_refused() -> None:
    traders = pupils(2)
    held = market(traders)
    held.exchange(ExchangePlan("k", "learn"))
    traders["p0"].version = 0
    record = held.exchange(ExchangePlan("l", "learn"))
    assert record.refused == {"p1": {"p0/n": "version 1 has said other words before: a change is a new version"}}
    assert record.absorbed == {"p0": ("p1",), "p1": ()}


def test_agents_that_are_no_traders_have_no_part() -> None:
    traders: dict[str, Any] = {**pupils(2), "z": object()}
    assert list(local_network(traders, {}).exchange(ExchangePlan("k", "learn")).offered) == ["p0", "p1"]


def test_a_refusal_without_words_has_its_name() -> None:
    class Mute(Pupil):
        def absorb(self, offer: Offer) -> None:
            raise MethodError

    assert refusal(Mute("m", 1.0), Offer("a", "s", 1, torch.ones(1, 3))) == "MethodError"
    assert refusal(Pupil("m", 1.0), Offer("a", "s", 1, torch.ones(1, 3))) == ""

"""Exchanges within one process: tasks run before offers are absorbed, invalid offers are named, a key runs once."""

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


class EmbeddingLearner:
    """Offers its number plus the sum of what it has absorbed; absorbs embeddings of width 3."""

    def __init__(self, name: str, number: float) -> None:
        self.name, self.number, self.version = name, number, 0
        self.absorbed: list[Offer] = []
        self.plans: list[ExchangePlan] = []
        self.known: tuple[Offer, ...] = ()
        self.corrupt: Callable[[Tensor], Tensor] = lambda embeddings: embeddings

    def initial_offers(self) -> tuple[Offer, ...]:
        return self.known

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        if plan.options.get("declines") in {self.name, "all"}:
            raise MethodError("no pictures")
        progress.report(plan.task, 1, 1)
        self.plans.append(plan)
        self.version += 1
        total = sum(float(offer.embeddings.sum()) for offer in self.absorbed)
        embeddings = self.corrupt(torch.full((1, 3), self.number + total))
        return OfferBatch((Offer(self.name, "n", self.version, embeddings),), {"number": self.number})

    def absorb(self, offer: Offer) -> None:
        if offer.embeddings.shape[1] != 3:
            raise MethodError(f"embeddings have {offer.embeddings.shape[1]} values, 3 are needed")
        self.absorbed.append(offer)

    def sums(self) -> dict[str, float]:
        return {offer.origin: float(offer.embeddings.sum()) for offer in self.absorbed}


def learners(count: int = 3) -> dict[str, EmbeddingLearner]:
    return {f"p{index}": EmbeddingLearner(f"p{index}", float(index + 1)) for index in range(count)}


def local_exchange(exchangers: dict[str, EmbeddingLearner]) -> LocalExchange:
    return LocalExchange(exchangers, NullProgress())


def test_every_site_offers_before_any_site_absorbs() -> None:
    exchangers = learners()
    record = local_exchange(exchangers).exchange(ExchangePlan("k", "learn"))
    assert {name: each.sums() for name, each in exchangers.items()} == {
        "p0": {"p1": 6.0, "p2": 9.0},
        "p1": {"p0": 3.0, "p2": 9.0},
        "p2": {"p0": 3.0, "p1": 6.0},
    }
    assert record.offered == {name: {"n": 1} for name in exchangers}
    assert record.absorbed == {"p0": ("p1", "p2"), "p1": ("p0", "p2"), "p2": ("p0", "p1")}
    assert record.values == {name: {"number": each.number} for name, each in exchangers.items()}
    assert record.bytes_sent == dict.fromkeys(exchangers, 12)
    assert (record.key, record.refused, record.late, record.lost) == ("k", {}, (), {})
    assert record.seconds >= 0


def test_a_key_is_run_once() -> None:
    exchangers = learners()
    exchanges = local_exchange(exchangers)
    assert exchanges.exchange(ExchangePlan("k", "learn")) is exchanges.exchange(ExchangePlan("k", "learn"))
    assert exchanges.exchange(ExchangePlan("l", "learn")).offered == {name: {"n": 2} for name in exchangers}
    assert [plan.key for plan in exchangers["p0"].plans] == ["k", "l"]
    assert exchangers["p0"].sums() == {"p1": 6.0 + 3 * 12, "p2": 9.0 + 3 * 9}


def test_initial_offers_are_absorbed_before_the_first_exchange() -> None:
    exchangers = learners(2)
    exchangers["p1"].known = (Offer("p1", "old", 3, torch.full((1, 3), 2.0)),)
    local_exchange(exchangers).exchange(ExchangePlan("k", "learn"))
    assert [(offer.subject, offer.version) for offer in exchangers["p0"].absorbed] == [("old", 3), ("n", 1)]
    assert exchangers["p1"].sums() == {"p0": 3 * (1 + 6.0)}


def test_a_site_that_declines_is_named_and_still_absorbs() -> None:
    exchangers = learners()
    record = local_exchange(exchangers).exchange(ExchangePlan("k", "learn", {"declines": "p1"}))
    assert record.lost == {"p1": "declined: no pictures"}
    assert list(record.offered) == list(record.absorbed) == ["p0", "p2"]
    assert record.absorbed["p0"] == ("p2",)
    assert exchangers["p1"].sums() == {"p0": 3.0, "p2": 9.0}


def test_an_exchange_without_offers_is_refused_with_the_reasons() -> None:
    with pytest.raises(
        MethodError, match="no site offers anything in exchange 'k': p0 declined: no pictures; p1 declined"
    ):
        local_exchange(learners(2)).exchange(ExchangePlan("k", "learn", {"declines": "all"}))
    with pytest.raises(MethodError, match="the method has no exchangers"):
        local_network({}, {}).exchange(ExchangePlan("k", "learn"))


def test_embeddings_of_another_width_are_refused_by_name_at_everybody() -> None:
    exchangers = learners()
    exchangers["p1"].corrupt = lambda embeddings: torch.cat([embeddings, embeddings], 1)
    record = local_exchange(exchangers).exchange(ExchangePlan("k", "learn"))
    reasons = {"p1/n": "embeddings have 6 values, 3 are needed"}
    assert record.refused == {"p0": reasons, "p2": reasons}
    assert record.absorbed == {"p0": ("p2",), "p1": ("p0", "p2"), "p2": ("p0",)}


@pytest.mark.parametrize("corrupted", [torch.full((1, 3), torch.nan), torch.ones(1, 3, 8, 8), torch.ones(100, 3)])
def test_an_invalid_offer_never_leaves_its_site(corrupted: Tensor) -> None:
    exchangers = learners()
    exchangers["p1"].corrupt = lambda _embeddings: corrupted
    record = local_exchange(exchangers).exchange(ExchangePlan("k", "learn"))
    assert "p1's offer 'n' has embeddings" in record.lost["p1"]
    assert all("p1" not in each.sums() for each in exchangers.values())


def test_a_version_that_says_other_embeddings_is_refused() -> None:
    exchangers = learners(2)
    exchanges = local_exchange(exchangers)
    exchanges.exchange(ExchangePlan("k", "learn"))
    exchangers["p0"].version = 0
    record = exchanges.exchange(ExchangePlan("l", "learn"))
    assert record.refused == {
        "p1": {"p0/n": "version 1 was offered before with other embeddings: a change needs a new version"}
    }
    assert record.absorbed == {"p0": ("p1",), "p1": ()}


def test_sites_that_are_not_exchangers_take_no_part() -> None:
    exchangers: dict[str, Any] = {**learners(2), "z": object()}
    assert list(local_network(exchangers, {}).exchange(ExchangePlan("k", "learn")).offered) == ["p0", "p1"]


def test_a_refusal_without_embeddings_has_its_name() -> None:
    class Silent(EmbeddingLearner):
        def absorb(self, offer: Offer) -> None:
            raise MethodError

    assert refusal(Silent("m", 1.0), Offer("a", "s", 1, torch.ones(1, 3))) == "MethodError"
    assert refusal(EmbeddingLearner("m", 1.0), Offer("a", "s", 1, torch.ones(1, 3))) == ""

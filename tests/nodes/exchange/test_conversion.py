"""Plans, offers and records of methods as messages, and back."""

from __future__ import annotations

import pytest
import torch

from fednet.api import ExchangePlan, Offer, OfferBatch
from fednet.errors import MethodError
from nodes.exchange.conversion import (
    from_exchange_request,
    from_offer_message,
    to_exchange_record,
    to_exchange_request,
    to_offer_list,
    to_offer_message,
    to_offer_verdict,
)
from protocol.exchange import ExchangeTracker
from protocol.quorum import DeadlineEstimator, QuorumPolicy


def test_plans_and_offers_come_back_as_they_were() -> None:
    plan = ExchangePlan("k", "learn", {"rate": 0.5, "steps": 3, "merge": True, "mode": None})
    assert from_exchange_request(to_exchange_request(plan)) == plan
    offer = Offer("a", "s", 3, torch.ones(2, 4))
    message = to_offer_message(offer, "k")
    back = from_offer_message(message)
    assert (message.key, back.origin, back.subject, back.version) == ("k", "a", "s", 3)
    assert back.embeddings is offer.embeddings


def test_an_invalid_plan_is_the_methods_error() -> None:
    with pytest.raises(MethodError, match="exchange 'k' cannot be requested"):
        to_exchange_request(ExchangePlan("k", "learn", {"x": torch.ones(1)}))  # type: ignore[dict-item]


def test_reasons_are_cut_to_what_fits() -> None:
    message = to_offer_verdict("k", "a", {"s": 1000 * "x"})
    assert message.refused == {"s": 300 * "x"}


def test_the_record_is_sorted_and_names_the_missing() -> None:
    policy = QuorumPolicy()
    tracker = ExchangeTracker.open(
        ("c", "a", "b", "d"), 10.0, policy, (DeadlineEstimator(policy), DeadlineEstimator(policy))
    )
    for name in ("c", "a"):
        offers = tuple(Offer(name, subject, 1, torch.ones(1, 2)) for subject in ("s", "t"))
        tracker.offered(name, to_offer_list("k", OfferBatch(offers, {"loss": 1.0}), 7), 11.0)
    tracker.offered("e", to_offer_list("k", OfferBatch(), 0), 11.0)
    tracker.lose("b", "declined: no", 12.0)
    tracker.lose("d", "lost: silent", 12.0)
    assert tracker.progress(12.0).absorbing
    tracker.absorbed("c", "a", {"s": "of no use"}, 13.0)
    tracker.absorbed("a", "c", {"s": "of no use", "t": "nor this"}, 13.0)
    for name, origin in (("a", "e"), ("c", "e"), ("e", "a"), ("e", "c")):
        tracker.absorbed(name, origin, {}, 13.0)
    assert tracker.progress(13.0).closed
    record = to_exchange_record("k", tracker, {"f": "never seen", "b": "not ready yet"}, 10.0, 13.0)
    assert record.offered == {"a": {"s": 1, "t": 1}, "c": {"s": 1, "t": 1}, "e": {}}
    assert record.absorbed == {"a": (), "c": ("a",), "e": ("a", "c")}
    assert record.refused == {"a": {"c/s": "of no use", "c/t": "nor this"}, "c": {"a/s": "of no use"}}
    assert record.values == {"a": {"loss": 1.0}, "c": {"loss": 1.0}, "e": {}}
    assert record.bytes_sent == {"a": 7, "c": 7, "e": 0}
    assert record.lost == {"b": "declined: no", "d": "lost: silent", "f": "never seen"}
    assert (record.key, record.late, record.seconds) == ("k", (), 3.0)
    assert all(list(each) == sorted(each) for each in (record.offered, record.absorbed, record.lost))

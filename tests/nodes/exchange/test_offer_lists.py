"""Lists of offers: one verdict on each, once all of it has come and was absorbed or refused."""

from __future__ import annotations

import pytest
import torch

from fednet.api import Offer
from fednet.federated.offers import OfferStore
from nodes.exchange import offer_lists
from nodes.exchange.offer_lists import OfferLists
from protocol.messages.exchange import OfferVerdict


def put(store: OfferStore, subject: str, version: int = 1, reason: str = "") -> None:
    offer = Offer("anna", subject, version, torch.full((1, 2), float(version)))
    assert store.add(offer)
    store.record_outcome(offer, reason)


def absorbed(key: str, **refused: str) -> OfferVerdict:
    return OfferVerdict(key=key, origin="anna", refused=refused)


def test_one_verdict_is_given_on_each_list() -> None:
    lists = OfferLists(store := OfferStore())
    lists.add("k", "anna", {"one": 1, "two": 1})
    lists.add("k", "bert", {"one": 1})
    assert lists.new_verdicts("anna") == []
    assert lists.incomplete_origins() == ["anna", "bert"]
    put(store, "one")
    assert lists.new_verdicts("anna") == []
    put(store, "two", reason="no use")
    assert lists.incomplete_origins() == ["bert"]
    assert lists.new_verdicts("anna") == [absorbed("k", two="no use")]
    assert lists.new_verdicts("anna") == []
    lists.add("k", "anna", {"one": 1, "two": 1})
    assert lists.new_verdicts("anna") == []
    assert lists.verdicts("k") == [absorbed("k", two="no use")]
    assert lists.verdicts("other") == []


def test_an_empty_list_has_its_verdict_at_once() -> None:
    lists = OfferLists(OfferStore())
    lists.add("k", "anna", {})
    assert lists.incomplete_origins() == []
    assert lists.new_verdicts("anna") == [absorbed("k")]


def test_the_list_of_a_later_incarnation_is_another_list() -> None:
    lists = OfferLists(store := OfferStore())
    put(store, "one")
    lists.add("k", "anna", {"one": 1})
    lists.add("l", "anna", {"one": 1})
    assert lists.new_verdicts("anna") == [absorbed("k"), absorbed("l")]
    lists.add("k", "anna", {"one": 2})
    assert lists.new_verdicts("anna") == []
    put(store, "one", 2)
    assert lists.new_verdicts("anna") == [absorbed("k")]


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_lists, "MAX_LISTS", 2)
    lists = OfferLists(OfferStore())
    for key in "klm":
        lists.add(key, "anna", {})
    assert [verdict.key for verdict in lists.new_verdicts("anna")] == ["l", "m"]

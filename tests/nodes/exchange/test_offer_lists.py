"""What origins list under calls: said of each once, when everything in it has come and was judged."""

from __future__ import annotations

import pytest
import torch

from fednet.api import Offer
from fednet.federated.offers import OfferStore
from nodes.exchange import offer_lists
from nodes.exchange.offer_lists import OfferLists
from protocol.messages.exchange import OfferVerdict


def put(shelf: OfferStore, subject: str, version: int = 1, reason: str = "") -> None:
    offer = Offer("anna", subject, version, torch.full((1, 2), float(version)))
    assert shelf.add(offer)
    shelf.record_outcome(offer, reason)


def absorbed(key: str, **refused: str) -> OfferVerdict:
    return OfferVerdict(key=key, origin="anna", refused=refused)


def test_of_each_list_is_said_once_what_became_of_it() -> None:
    listed = OfferLists(shelf := OfferStore())
    listed.add("k", "anna", {"one": 1, "two": 1})
    listed.add("k", "bert", {"one": 1})
    assert listed.decided("anna") == []
    assert listed.lacking() == ["anna", "bert"]
    put(shelf, "one")
    assert listed.decided("anna") == []
    put(shelf, "two", reason="no use")
    assert listed.lacking() == ["bert"]
    assert listed.decided("anna") == [absorbed("k", two="no use")]
    assert listed.decided("anna") == []
    listed.add("k", "anna", {"one": 1, "two": 1})
    assert listed.decided("anna") == []
    assert listed.said("k") == [absorbed("k", two="no use")]
    assert listed.said("other") == []


def test_who_offers_nothing_is_done_with_at_once() -> None:
    listed = OfferLists(OfferStore())
    listed.add("k", "anna", {})
    assert listed.lacking() == []
    assert listed.decided("anna") == [absorbed("k")]


def test_the_list_of_another_life_is_another_list() -> None:
    listed = OfferLists(shelf := OfferStore())
    put(shelf, "one")
    listed.add("k", "anna", {"one": 1})
    listed.add("l", "anna", {"one": 1})
    assert listed.decided("anna") == [absorbed("k"), absorbed("l")]
    listed.add("k", "anna", {"one": 2})
    assert listed.decided("anna") == []
    put(shelf, "one", 2)
    assert listed.decided("anna") == [absorbed("k")]


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_lists, "MOST_LISTED", 2)
    listed = OfferLists(OfferStore())
    for key in "klm":
        listed.add(key, "anna", {})
    assert [said.key for said in listed.decided("anna")] == ["l", "m"]

"""Offers between their arrival and their verdict: what waits for what, and that the queue is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import Offer
from fednet.federated.offers import OfferSource
from nodes.exchange.offer_queue import REQUEST_TIMEOUT, OfferQueue

Play = Callable[..., Any]


class SlowWorker:
    """Takes `seconds` to absorb."""

    def __init__(self, seconds: float = 1.0, reason: str = "") -> None:
        self.seconds, self.reason = seconds, reason
        self.absorbed: list[tuple[str, int]] = []

    def absorb(self, offer: Offer) -> asyncio.Future[str]:
        self.absorbed.append((offer.subject, offer.version))
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def finish() -> None:
            if not done.cancelled():
                done.set_result(self.reason)

        asyncio.get_running_loop().call_later(self.seconds, finish)
        return done


def offer(version: int = 1, subject: str = "s") -> Offer:
    return Offer("a", subject, version, torch.full((1, 2), float(version)))


def make_queue(requests: set[str]) -> tuple[OfferQueue, Any, list[str]]:
    decided: list[str] = []
    return OfferQueue(requests, lambda origin, _refusal: decided.append(origin)), SlowWorker(), decided


def test_offers_wait_for_the_exchanger_and_only_the_newest(fake_time: Play) -> None:
    async def story() -> None:
        queue, worker, decided = make_queue({"k"})
        for version in range(1, 5):
            queue.add(offer(version), "k", OfferSource.DIRECT)
        queue.add(offer(subject="t"), "unknown", OfferSource.DIRECT)
        await asyncio.sleep(100)
        queue.open(worker)
        await asyncio.sleep(5)
        assert worker.absorbed == [("s", 4), ("t", 1)]
        assert decided == ["a", "a"]
        assert queue.store.refusals("a", {"s": 4, "t": 1}) == {}

    fake_time(story())


def test_an_offer_waits_for_its_request(fake_time: Play) -> None:
    async def story() -> None:
        requests: set[str] = set()
        queue, worker, _ = make_queue(requests)
        queue.open(worker)
        queue.add(offer(), "k", OfferSource.DIRECT)
        queue.add(offer(subject="t"), "l", OfferSource.DIRECT)
        queue.add(offer(subject="u"), "", OfferSource.DIRECT)
        await asyncio.sleep(REQUEST_TIMEOUT / 2)
        assert worker.absorbed == [("u", 1)]
        queue.request_started("k")
        assert worker.absorbed == [("u", 1), ("s", 1)]
        await asyncio.sleep(REQUEST_TIMEOUT)
        assert worker.absorbed == [("u", 1), ("s", 1), ("t", 1)], "a request that does not come is not waited for"

    fake_time(story())


def test_while_one_is_absorbed_only_the_newest_waits(fake_time: Play) -> None:
    async def story() -> None:
        queue, worker, _ = make_queue({"k"})
        queue.open(worker)
        for version in range(1, 100):
            queue.add(offer(version), "k", OfferSource.DIRECT)
        assert worker.absorbed == [("s", 1)]
        assert queue.store.refusals("a", {"s": 99}) is None
        await asyncio.sleep(5)
        assert worker.absorbed == [("s", 1), ("s", 99)]
        assert queue.store.refusals("a", {"s": 99}) == {}

    fake_time(story())


def test_a_newer_offer_waits_for_its_own_request(fake_time: Play) -> None:
    async def story() -> None:
        queue, worker, _ = make_queue({"k"})
        queue.open(worker)
        queue.add(offer(1), "k", OfferSource.DIRECT)
        queue.add(offer(2), "l", OfferSource.DIRECT)
        await asyncio.sleep(worker.seconds + 0.1)
        assert worker.absorbed == [("s", 1)]
        queue.request_started("l")
        assert worker.absorbed == [("s", 1), ("s", 2)]

    fake_time(story())


def test_a_closed_queue_absorbs_nothing(fake_time: Play) -> None:
    async def story() -> None:
        queue, worker, _ = make_queue({"k"})
        queue.open(worker)
        queue.add(offer(1), "k", OfferSource.DIRECT)
        queue.add(offer(2), "k", OfferSource.DIRECT)
        queue.add(offer(1, "t"), "l", OfferSource.DIRECT)
        queue.close()
        await asyncio.sleep(2 * REQUEST_TIMEOUT)
        assert worker.absorbed == [("s", 1)]

    fake_time(story())


def test_a_repeated_offer_is_absorbed_once(fake_time: Play) -> None:
    async def story() -> None:
        queue, worker, _ = make_queue({"k"})
        queue.open(worker)
        for _ in range(3):
            queue.add(offer(), "k", OfferSource.DIRECT)
            await asyncio.sleep(5)
        assert worker.absorbed == [("s", 1)]

    fake_time(story())


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_reason_of_a_refusal_is_kept(fake_time: Play, cancelled: bool) -> None:
    async def story() -> None:
        queue, worker, decided = make_queue({"k"})
        worker.reason = "no use"
        absorb, absorbing = worker.absorb, list[asyncio.Future[str]]()

        def record(given: Offer) -> asyncio.Future[str]:
            absorbing.append(absorb(given))
            return absorbing[-1]

        worker.absorb = record
        queue.open(worker)
        queue.add(offer(), "k", OfferSource.DIRECT)
        if cancelled:
            absorbing[0].cancel()
        await asyncio.sleep(5)
        assert queue.store.refusals("a", {"s": 1}) == (None if cancelled else {"s": "no use"})
        assert decided == ([] if cancelled else ["a"])

    fake_time(story())

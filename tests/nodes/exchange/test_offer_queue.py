"""Offers between their arrival and their judgement: what waits for what, and that nothing piles up."""

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


class Booth:
    """Takes `seconds` to absorb."""

    def __init__(self, seconds: float = 1.0, reason: str = "") -> None:
        self.seconds, self.reason = seconds, reason
        self.absorbed: list[tuple[str, int]] = []

    def absorb(self, offer: Offer) -> asyncio.Future[str]:
        self.absorbed.append((offer.subject, offer.version))
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(self.seconds, lambda: done.cancelled() or done.set_result(self.reason))
        return done


def offer(version: int = 1, subject: str = "s") -> Offer:
    return Offer("a", subject, version, torch.full((1, 2), float(version)))


def intake(calls: set[str]) -> tuple[OfferQueue, Any, list[str]]:
    judged: list[str] = []
    return OfferQueue(calls, judged.append), Booth(), judged


def test_what_comes_before_the_trader_is_ready_waits_for_it_and_only_the_newest(fake_time: Play) -> None:
    async def story() -> None:
        taken, booth, judged = intake({"k"})
        for version in range(1, 5):
            taken.hear(offer(version), "k", OfferSource.DIRECT)
        taken.hear(offer(subject="t"), "unheard", OfferSource.DIRECT)
        await asyncio.sleep(100)
        taken.open(booth)
        await asyncio.sleep(5)
        assert booth.absorbed == [("s", 4), ("t", 1)]
        assert judged == ["a", "a"]
        assert taken.store.refusals("a", {"s": 4, "t": 1}) == {}

    fake_time(story())


def test_what_was_offered_under_a_call_that_has_not_come_waits_for_it(fake_time: Play) -> None:
    async def story() -> None:
        calls: set[str] = set()
        taken, booth, _ = intake(calls)
        taken.open(booth)
        taken.hear(offer(), "k", OfferSource.DIRECT)
        taken.hear(offer(subject="t"), "l", OfferSource.DIRECT)
        taken.hear(offer(subject="u"), "", OfferSource.DIRECT)
        await asyncio.sleep(REQUEST_TIMEOUT / 2)
        assert booth.absorbed == [("u", 1)]
        taken.begun("k")
        assert booth.absorbed == [("u", 1), ("s", 1)]
        await asyncio.sleep(REQUEST_TIMEOUT)
        assert booth.absorbed == [("u", 1), ("s", 1), ("t", 1)], "a call that does not come is not waited for"

    fake_time(story())


def test_while_one_is_with_the_trader_only_the_newest_waits(fake_time: Play) -> None:
    async def story() -> None:
        taken, booth, _ = intake({"k"})
        taken.open(booth)
        for version in range(1, 100):
            taken.hear(offer(version), "k", OfferSource.DIRECT)
        assert booth.absorbed == [("s", 1)]
        assert taken.store.refusals("a", {"s": 99}) is None
        await asyncio.sleep(5)
        assert booth.absorbed == [("s", 1), ("s", 99)]
        assert taken.store.refusals("a", {"s": 99}) == {}

    fake_time(story())


def test_a_newer_one_of_a_call_that_has_not_come_waits_even_then(fake_time: Play) -> None:
    async def story() -> None:
        taken, booth, _ = intake({"k"})
        taken.open(booth)
        taken.hear(offer(1), "k", OfferSource.DIRECT)
        taken.hear(offer(2), "l", OfferSource.DIRECT)
        await asyncio.sleep(booth.seconds + 0.1)
        assert booth.absorbed == [("s", 1)]
        taken.begun("l")
        assert booth.absorbed == [("s", 1), ("s", 2)]

    fake_time(story())


def test_once_it_is_closed_nothing_is_absorbed(fake_time: Play) -> None:
    async def story() -> None:
        taken, booth, _ = intake({"k"})
        taken.open(booth)
        taken.hear(offer(1), "k", OfferSource.DIRECT)
        taken.hear(offer(2), "k", OfferSource.DIRECT)
        taken.hear(offer(1, "t"), "l", OfferSource.DIRECT)
        taken.close()
        await asyncio.sleep(2 * REQUEST_TIMEOUT)
        assert booth.absorbed == [("s", 1)]

    fake_time(story())


def test_the_same_again_is_not_absorbed_again(fake_time: Play) -> None:
    async def story() -> None:
        taken, booth, _ = intake({"k"})
        taken.open(booth)
        for _ in range(3):
            taken.hear(offer(), "k", OfferSource.DIRECT)
            await asyncio.sleep(5)
        assert booth.absorbed == [("s", 1)]

    fake_time(story())


@pytest.mark.parametrize("cancelled", [False, True])
def test_why_it_was_refused_is_kept(fake_time: Play, cancelled: bool) -> None:
    async def story() -> None:
        taken, booth, judged = intake({"k"})
        booth.reason = "no use"
        absorb, made = booth.absorb, []
        booth.absorb = lambda given: made.append(absorb(given)) or made[-1]
        taken.open(booth)
        taken.hear(offer(), "k", OfferSource.DIRECT)
        if cancelled:
            made[0].cancel()
        await asyncio.sleep(5)
        assert taken.store.refusals("a", {"s": 1}) == (None if cancelled else {"s": "no use"})
        assert judged == ([] if cancelled else ["a"])

    fake_time(story())

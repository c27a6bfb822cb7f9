"""The trader's thread: one job after another, off the event loop, and a stopped one ends at its next look."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, Offer, OfferBatch, Progress, Stopped
from fednet.errors import MethodError
from nodes.compute import ComputeThread, ThreadProgress
from nodes.exchange.worker import ExchangeWorker

PATIENCE = 20.0


class Thinker:
    """Says on which thread it works, and may go on for ever."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.done: list[str] = []
        self.begun, self.ended = threading.Event(), threading.Event()
        self.offered = Offer("a", "s", 1, torch.ones(1, 2))

    def initial_offers(self) -> tuple[Offer, ...]:
        self.threads.add(threading.current_thread().name)
        return (self.offered,)

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        self.threads.add(threading.current_thread().name)
        try:
            while call.work == "endless":
                progress.report("thinking", 0, 1)
                self.begun.set()
        finally:
            self.ended.set()
        self.done.append("offer")
        return OfferBatch((self.offered,))

    def absorb(self, offer: Offer) -> None:
        self.threads.add(threading.current_thread().name)
        self.done.append("absorb")


@pytest.fixture
async def compute() -> AsyncIterator[ComputeThread]:
    made = ComputeThread("a-model")
    async with asyncio.timeout(PATIENCE):
        yield made
        made.close()
        await made.ended()


def booth(compute: ComputeThread, trader: Any) -> ExchangeWorker:
    return ExchangeWorker("a", trader, compute, lambda: ThreadProgress(lambda *_told: None))


async def test_all_that_a_trader_does_it_does_on_its_devices_thread_in_the_order_of_asking(
    compute: ComputeThread,
) -> None:
    trader = Thinker()
    one = booth(compute, trader)
    assert [offer.subject for offer in await one.initial_offers()] == ["s"]
    made, absorbed = one.offer(ExchangePlan("k", "learn")), one.absorb(Offer("b", "s", 1, torch.ones(1, 2)))
    assert await absorbed == ""
    assert [offer.subject for offer in (await made).offers] == ["s"]
    assert trader.done == ["offer", "absorb"]
    assert trader.threads == {"a-model"}


async def test_what_is_no_offer_of_its_own_never_leaves(compute: ComputeThread) -> None:
    trader = Thinker()
    trader.offered = Offer("b", "s", 1, torch.ones(1, 2))
    one = booth(compute, trader)
    with pytest.raises(MethodError, match="names 'b' as its origin"):
        await one.initial_offers()
    with pytest.raises(MethodError, match="names 'b' as its origin"):
        await one.offer(ExchangePlan("k", "learn"))


async def test_a_stopped_one_ends_at_its_next_look_at_its_watch(compute: ComputeThread) -> None:
    trader = Thinker()
    one = booth(compute, trader)
    made = one.offer(ExchangePlan("k", "endless"))
    assert await asyncio.to_thread(trader.begun.wait, PATIENCE)
    one.stop()
    with pytest.raises(Stopped):
        await made
    assert trader.ended.is_set()
    assert not one._watching

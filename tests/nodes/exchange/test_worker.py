"""The exchanger's thread: one job after another, off the event loop; a stopped one ends at its next report."""

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

TIMEOUT = 20.0


class EndlessExchanger:
    """Records on which thread it works, and may work without end."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.done: list[str] = []
        self.begun, self.ended = threading.Event(), threading.Event()
        self.offered = Offer("a", "s", 1, torch.ones(1, 2))

    def initial_offers(self) -> tuple[Offer, ...]:
        self.threads.add(threading.current_thread().name)
        return (self.offered,)

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        self.threads.add(threading.current_thread().name)
        try:
            while plan.task == "endless":
                progress.report("working", 0, 1)
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
    work = ComputeThread("a-model")
    async with asyncio.timeout(TIMEOUT):
        yield work
        work.close()
        await work.ended()


def make_worker(compute: ComputeThread, exchanger: Any) -> ExchangeWorker:
    return ExchangeWorker("a", exchanger, compute, lambda: ThreadProgress(lambda *_report: None))


async def test_all_jobs_run_on_the_devices_thread_in_their_order(
    compute: ComputeThread,
) -> None:
    exchanger = EndlessExchanger()
    one = make_worker(compute, exchanger)
    assert [offer.subject for offer in await one.initial_offers()] == ["s"]
    work, absorbed = one.offer(ExchangePlan("k", "learn")), one.absorb(Offer("b", "s", 1, torch.ones(1, 2)))
    assert await absorbed == ""
    assert [offer.subject for offer in (await work).offers] == ["s"]
    assert exchanger.done == ["offer", "absorb"]
    assert exchanger.threads == {"a-model"}


async def test_an_offer_of_another_origin_never_leaves(compute: ComputeThread) -> None:
    exchanger = EndlessExchanger()
    exchanger.offered = Offer("b", "s", 1, torch.ones(1, 2))
    one = make_worker(compute, exchanger)
    with pytest.raises(MethodError, match="has the origin 'b': expected 'a'"):
        await one.initial_offers()
    with pytest.raises(MethodError, match="has the origin 'b': expected 'a'"):
        await one.offer(ExchangePlan("k", "learn"))


async def test_a_stopped_job_ends_at_its_next_report(compute: ComputeThread) -> None:
    exchanger = EndlessExchanger()
    one = make_worker(compute, exchanger)
    work = one.offer(ExchangePlan("k", "endless"))
    assert await asyncio.to_thread(exchanger.begun.wait, TIMEOUT)
    one.stop()
    with pytest.raises(Stopped):
        await work
    assert exchanger.ended.is_set()
    assert not one._running

"""A method's exchanger and the device's thread that it works on, one job after another.

Offers that were made under a request are absorbed after our own work for it, since all jobs are in one queue: no result
depends on which peer was quicker. Knows nothing of who is told the result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from fednet.api import ExchangePlan, Exchanger, Offer, OfferBatch
from fednet.federated.local_exchange import refusal
from fednet.federated.offers import validated
from nodes.compute import ComputeThread, ThreadProgress

log = logging.getLogger(__name__)


class ExchangeWorker:
    """An exchanger and the thread that it works on.

    Args:
        name: the node's, and the origin of what its exchanger offers.
        exchanger: the side of the method that takes part in exchanges.
        compute: the thread of its device.
        progress: makes the progress of one job.
    """

    def __init__(
        self, name: str, exchanger: Exchanger, compute: ComputeThread, progress: Callable[[], ThreadProgress]
    ) -> None:
        self._name = name
        self._exchanger = exchanger
        self._compute = compute
        self._new_progress = progress
        self._running: set[ThreadProgress] = set()

    async def initial_offers(self) -> tuple[Offer, ...]:
        """What the exchanger offers already.

        Raises:
            MethodError: one of its offers is invalid.
        """
        batch = await self._compute.run(lambda: validated(OfferBatch(self._exchanger.initial_offers()), self._name))
        return batch.offers

    def offer(self, plan: ExchangePlan) -> asyncio.Future[OfferBatch]:
        """Queues a plan's work at once; the future has the MethodError of an exchanger that cannot do it."""
        progress = self._new_progress()
        self._running.add(progress)
        work = self._compute.run(lambda: validated(self._exchanger.offer(plan, progress), self._name))
        work.add_done_callback(lambda _work: self._running.discard(progress))
        return work

    def absorb(self, offer: Offer) -> asyncio.Future[str]:
        """Absorbs an offer of another peer: why it was refused, empty if it was not."""
        return self._compute.run(partial(self._absorb, offer))

    def stop(self) -> None:
        """Work that is under way stops at its next progress report."""
        for progress in self._running:
            progress.stop()

    def _absorb(self, offer: Offer) -> str:
        try:
            return refusal(self._exchanger, offer)
        except Exception as error:  # a peer's offer must not end this node
            log.exception("%s's offer %r", offer.origin, offer.subject)
            return f"{type(error).__name__} while absorbing; see this node's log"

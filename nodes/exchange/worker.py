"""What a method does for exchanges, on its device's thread, one job after another.

What is offered under a call is absorbed after the own work of that call, since the jobs stand in one queue: nobody's
work depends on who was quicker. Refuses to know who hears of what comes out.
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
    """A trader and the thread it works on.

    Args:
        name: the node's, and the origin of what its trader offers.
        trader: the side of the method that takes part in exchanges.
        compute: the thread of its device.
        progress: makes a watch for one piece of work.
    """

    def __init__(
        self, name: str, trader: Exchanger, compute: ComputeThread, progress: Callable[[], ThreadProgress]
    ) -> None:
        self._name = name
        self._exchanger = trader
        self._compute = compute
        self._progress = progress
        self._watching: set[ThreadProgress] = set()

    async def initial_offers(self) -> tuple[Offer, ...]:
        """What the trader offers already.

        Raises:
            MethodError: it is nothing that can be offered.
        """
        standing = await self._compute.run(lambda: validated(OfferBatch(self._exchanger.initial_offers()), self._name))
        return standing.offers

    def offer(self, call: ExchangePlan) -> asyncio.Future[OfferBatch]:
        """Does the call's work; in the queue at once. The future has the MethodError of a trader that cannot."""
        progress = self._progress()
        self._watching.add(progress)
        made = self._compute.run(lambda: validated(self._exchanger.offer(call, progress), self._name))
        made.add_done_callback(lambda _made: self._watching.discard(progress))
        return made

    def absorb(self, offer: Offer) -> asyncio.Future[str]:
        """Takes in what another peer offers: why it was refused, or nothing."""
        return self._compute.run(partial(self._absorb, offer))

    def stop(self) -> None:
        """Work that is under way ends at its next look at its watch."""
        for progress in self._watching:
            progress.stop()

    def _absorb(self, offer: Offer) -> str:
        try:
            return refusal(self._exchanger, offer)
        except Exception as error:  # a peer's offer must not end this node
            log.exception("%s's offer %r", offer.origin, offer.subject)
            return f"{type(error).__name__} while absorbing; see this node's log"

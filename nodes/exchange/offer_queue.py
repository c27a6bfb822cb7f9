"""Offers of peers on their way to the exchanger, from their arrival until they are absorbed or refused.

An offer waits until the exchanger is ready, and for the request that it was made under: that message may have been lost
and come late, and the exchanger should do its own work first. Of one origin and subject only the newest offer waits and
one is being absorbed, so that the queue is bounded by the store. Knows nothing of who must be told of the verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from functools import partial

from fednet.api import Offer
from fednet.federated.offers import OfferSource, OfferStore
from nodes.exchange.worker import ExchangeWorker

REQUEST_TIMEOUT = 2.0
"""Seconds for which an offer waits for the request that it was made under; a lost message is repeated within one."""

_OfferId = tuple[str, str]
"""Origin and subject."""


class OfferQueue:
    """Offers on their way to an exchanger.

    Args:
        requests: keys of the requests that have come.
        on_decided: is told the origin of every offer that was absorbed or refused, and in the latter case why.

    Attributes:
        store: the current offers.
    """

    def __init__(self, requests: Container[str], on_decided: Callable[[str, str], None]) -> None:
        self.store = OfferStore()
        self._requests = requests
        self._on_decided = on_decided
        self._waiting: dict[_OfferId, str] = {}  # the key of the request that it waits for; empty for none any more
        self._being_absorbed: set[_OfferId] = set()
        self._worker: ExchangeWorker | None = None

    def open(self, worker: ExchangeWorker) -> None:
        """The exchanger is ready: it absorbs all that has waited for it."""
        self._worker = worker
        for offer_id, key in list(self._waiting.items()):
            self._release(offer_id, key)

    def close(self) -> None:
        """Nothing is absorbed any more."""
        self._worker = None

    def add(self, offer: Offer, key: str, source: OfferSource) -> None:
        """An offer has come that was made under a request of this key."""
        if self.store.add(offer, source):
            offer_id = offer.origin, offer.subject
            self._waiting[offer_id] = key
            if not key or key in self._requests:
                self._release(offer_id, key)
            elif self._worker is not None:
                asyncio.get_running_loop().call_later(REQUEST_TIMEOUT, self._release, offer_id, key)

    def request_started(self, key: str) -> None:
        """Our own work for a request is queued: offers that were made under it may follow."""
        for offer_id in [offer_id for offer_id, waits_for in self._waiting.items() if waits_for == key]:
            self._release(offer_id, key)

    def _release(self, offer_id: _OfferId, key: str) -> None:
        if self._waiting.get(offer_id) == key:
            self._waiting[offer_id] = ""
            self._absorb(offer_id)

    def _absorb(self, offer_id: _OfferId) -> None:
        if self._worker is None or offer_id in self._being_absorbed or self._waiting.get(offer_id) != "":
            return
        del self._waiting[offer_id]
        self._being_absorbed.add(offer_id)
        offer = self.store.at(*offer_id)
        self._worker.absorb(offer).add_done_callback(partial(self._done, offer_id, offer))

    def _done(self, offer_id: _OfferId, offer: Offer, absorbing: asyncio.Future[str]) -> None:
        self._being_absorbed.discard(offer_id)
        if not absorbing.cancelled():
            self.store.record_outcome(offer, absorbing.result())
            self._absorb(offer_id)
            self._on_decided(offer.origin, absorbing.result())

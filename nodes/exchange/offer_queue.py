"""What a peer hears of offers, from their arrival until its trader has judged them.

An offer waits while the trader is not ready, and while the call that it was made under has not come: it may have been
lost on its way and then comes late, and the trader should do its own work first. Of one origin and subject only the
newest waits and one is with the trader, so that what waits is bounded by the shelf. Refuses to know who must hear of
the outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from functools import partial

from fednet.api import Offer
from fednet.federated.offers import OfferSource, OfferStore
from nodes.exchange.worker import ExchangeWorker

REQUEST_TIMEOUT = 2.0
"""Seconds for which an offer waits for the call that it was made under; a lost message comes again within a second."""

_OfferId = tuple[str, str]
"""Origin and subject."""


class OfferQueue:
    """Offers on their way to a trader.

    Args:
        calls: keys of the calls that have come.
        judged: hears whose offer was judged.

    Attributes:
        shelf: what stands.
    """

    def __init__(self, calls: Container[str], judged: Callable[[str], None]) -> None:
        self.store = OfferStore()
        self._calls = calls
        self._judged = judged
        self._waiting: dict[_OfferId, str] = {}  # for which call; for none any more where it is empty
        self._being_absorbed: set[_OfferId] = set()
        self._worker: ExchangeWorker | None = None

    def open(self, booth: ExchangeWorker) -> None:
        """The trader is ready: it absorbs all that has waited for it."""
        self._worker = booth
        for place, key in list(self._waiting.items()):
            self._release(place, key)

    def close(self) -> None:
        """Nothing is absorbed any more."""
        self._worker = None

    def hear(self, offer: Offer, key: str, source: OfferSource) -> None:
        """An offer has come, which was made under a call of this key."""
        if self.store.add(offer, source):
            place = offer.origin, offer.subject
            self._waiting[place] = key
            if not key or key in self._calls:
                self._release(place, key)
            elif self._worker is not None:
                asyncio.get_running_loop().call_later(REQUEST_TIMEOUT, self._release, place, key)

    def begun(self, key: str) -> None:
        """The own work of a call stands in the queue: what is offered under it may follow."""
        for place in [place for place, waits_for in self._waiting.items() if waits_for == key]:
            self._release(place, key)

    def _release(self, place: _OfferId, key: str) -> None:
        if self._waiting.get(place) == key:
            self._waiting[place] = ""
            self._absorb(place)

    def _absorb(self, place: _OfferId) -> None:
        if self._worker is None or place in self._being_absorbed or self._waiting.get(place) != "":
            return
        del self._waiting[place]
        self._being_absorbed.add(place)
        offer = self.store.at(*place)
        self._worker.absorb(offer).add_done_callback(partial(self._done, place, offer))

    def _done(self, place: _OfferId, offer: Offer, absorbed: asyncio.Future[str]) -> None:
        self._being_absorbed.discard(place)
        if not absorbed.cancelled():
            self.store.record_outcome(offer, absorbed.result())
            self._absorb(place)
            self._judged(offer.origin)

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

PATIENCE = 2.0
"""Seconds for which an offer waits for the call that it was made under; a lost message comes again within a second."""

_Place = tuple[str, str]
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
        self.shelf = OfferStore()
        self._calls = calls
        self._judged = judged
        self._waiting: dict[_Place, str] = {}  # for which call; for none any more where it is empty
        self._with_trader: set[_Place] = set()
        self._booth: ExchangeWorker | None = None

    def open(self, booth: ExchangeWorker) -> None:
        """The trader is ready: it absorbs all that has waited for it."""
        self._booth = booth
        for place, key in list(self._waiting.items()):
            self._release(place, key)

    def close(self) -> None:
        """Nothing is absorbed any more."""
        self._booth = None

    def hear(self, offer: Offer, key: str, source: OfferSource) -> None:
        """An offer has come, which was made under a call of this key."""
        if self.shelf.heard(offer, source):
            place = offer.origin, offer.subject
            self._waiting[place] = key
            if not key or key in self._calls:
                self._release(place, key)
            elif self._booth is not None:
                asyncio.get_running_loop().call_later(PATIENCE, self._release, place, key)

    def begun(self, key: str) -> None:
        """The own work of a call stands in the queue: what is offered under it may follow."""
        for place in [place for place, waits_for in self._waiting.items() if waits_for == key]:
            self._release(place, key)

    def _release(self, place: _Place, key: str) -> None:
        if self._waiting.get(place) == key:
            self._waiting[place] = ""
            self._absorb(place)

    def _absorb(self, place: _Place) -> None:
        if self._booth is None or place in self._with_trader or self._waiting.get(place) != "":
            return
        del self._waiting[place]
        self._with_trader.add(place)
        offer = self.shelf.at(*place)
        self._booth.absorb(offer).add_done_callback(partial(self._done, place, offer))

    def _done(self, place: _Place, offer: Offer, absorbed: asyncio.Future[str]) -> None:
        self._with_trader.discard(place)
        if not absorbed.cancelled():
            self.shelf.judged(offer, absorbed.result())
            self._absorb(place)
            self._judged(offer.origin)

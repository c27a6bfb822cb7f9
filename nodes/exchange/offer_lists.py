"""What every origin says that it has offered under a call, and what this peer has to say of it.

Pure: knows no network and no clock; `OfferStore` knows which offers have come and were judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fednet.federated.offers import OfferStore
from nodes.exchange.conversion import to_offer_verdict
from protocol.messages.exchange import OfferVerdict

MAX_LISTS = 4096
"""Lists that are remembered, by call and origin; the oldest are forgotten."""


@dataclass
class _OfferListState:
    """What an origin offers under a call, and what was said of it here."""

    versions: Mapping[str, int]
    said: OfferVerdict | None = None


class OfferLists:
    """The lists that one peer has heard.

    Args:
        shelf: the offers that it has heard.
    """

    def __init__(self, shelf: OfferStore) -> None:
        self._store = shelf
        self._listed: dict[tuple[str, str], _OfferListState] = {}

    def add(self, key: str, origin: str, versions: Mapping[str, int]) -> None:
        """An origin says what it has offered under a call; another list under the same key is that of another life."""
        known = self._listed.get((key, origin))
        if known is None or known.versions != versions:
            self._listed[key, origin] = _OfferListState(versions)
        while len(self._listed) > MAX_LISTS:
            del self._listed[next(iter(self._listed))]

    def decided(self, origin: str) -> list[OfferVerdict]:
        """What can be said now of an origin's lists, and was not said before."""
        found = []
        for (key, name), listed in self._listed.items():
            if name == origin and listed.said is None:
                reasons = self._store.refusals(origin, listed.versions)
                if reasons is not None:
                    listed.said = to_offer_verdict(key, origin, reasons)
                    found.append(listed.said)
        return found

    def said(self, key: str) -> list[OfferVerdict]:
        """All that was said of the lists under a call."""
        return [listed.said for (name, _), listed in self._listed.items() if name == key and listed.said is not None]

    def lacking(self) -> list[str]:
        """Origins of which something is listed that has not come, sorted."""
        open_ = ((origin, listed.versions) for (_, origin), listed in self._listed.items() if listed.said is None)
        return sorted({origin for origin, versions in open_ if self._store.is_missing(origin, versions)})

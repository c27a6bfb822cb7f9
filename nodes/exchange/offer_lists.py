"""The offers that every origin lists under a request, and this peer's verdict on them.

Pure: knows no network and no clock; `OfferStore` knows which offers have come and were absorbed or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fednet.federated.offers import OfferStore
from nodes.exchange.conversion import to_offer_verdict
from protocol.messages.exchange import OfferVerdict

MAX_LISTS = 4096
"""Lists that are remembered, by request and origin; the oldest are forgotten."""


@dataclass
class _OfferListState:
    """What an origin lists under a request; the verdict is None until all of it is absorbed or refused."""

    versions: Mapping[str, int]
    verdict: OfferVerdict | None = None


class OfferLists:
    """The lists that one peer has received.

    Args:
        store: the offers that it has received.
    """

    def __init__(self, store: OfferStore) -> None:
        self._store = store
        self._lists: dict[tuple[str, str], _OfferListState] = {}

    def add(self, key: str, origin: str, versions: Mapping[str, int]) -> None:
        """An origin's list under a request; another list under the same key is that of a later incarnation."""
        known = self._lists.get((key, origin))
        if known is None or known.versions != versions:
            self._lists[key, origin] = _OfferListState(versions)
        while len(self._lists) > MAX_LISTS:
            del self._lists[next(iter(self._lists))]

    def new_verdicts(self, origin: str) -> list[OfferVerdict]:
        """The verdicts on an origin's lists that can be given now and were not given before."""
        new = []
        for (key, name), state in self._lists.items():
            if name == origin and state.verdict is None:
                reasons = self._store.refusals(origin, state.versions)
                if reasons is not None:
                    state.verdict = to_offer_verdict(key, origin, reasons)
                    new.append(state.verdict)
        return new

    def verdicts(self, key: str) -> list[OfferVerdict]:
        """All verdicts on lists under a request that were given."""
        return [each.verdict for (name, _), each in self._lists.items() if name == key and each.verdict is not None]

    def incomplete_origins(self) -> list[str]:
        """Origins that have listed an offer which has not come, sorted."""
        undecided = ((origin, each.versions) for (_, origin), each in self._lists.items() if each.verdict is None)
        return sorted({origin for origin, versions in undecided if self._store.is_missing(origin, versions)})

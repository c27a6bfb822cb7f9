"""Exchanges within one process: every trader does a call's work, then every trader absorbs what the others offer.

The twin of `nodes.exchange`: given the same traders, both leave them with the same words. A trader absorbs what is
offered under a call only after its own work of that call, so that nobody's work depends on who was quicker. Refuses to
know deadlines and deaths; nobody is ever late here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fednet.api import ExchangePlan, Exchanger, ExchangeRecord, Offer, OfferBatch, Progress
from fednet.errors import MethodError
from fednet.federated.offers import OfferStore, size, validated, versions


class LocalExchange:
    """Traders of this very process.

    Args:
        traders: by name, in sorted order; they have been prepared.
        progress: what every trader tells its progress to.
    """

    def __init__(self, traders: Mapping[str, Exchanger], progress: Progress) -> None:
        self._stalls = {name: _Stall(name, trader) for name, trader in traders.items()}
        self._progress = progress
        self._held: dict[str, ExchangeRecord] = {}
        self._opened = False

    def exchange(self, call: ExchangePlan) -> ExchangeRecord:
        """Has every trader do a call's work, offer and absorb; one that was made under this key is remembered.

        Returns:
            The record; `sent` counts the bytes of the words alone, since there is no wire.

        Raises:
            MethodError: nobody offers, and why.
        """
        if call.key not in self._held:
            self._held[call.key] = self._exchange(call)
        return self._held[call.key]

    def _exchange(self, call: ExchangePlan) -> ExchangeRecord:
        began = time.perf_counter()
        self._open()
        made, lost = self._work(call)
        if not made:
            declined = "; ".join(f"{name} {reason}" for name, reason in lost.items()) or "the method has no traders"
            raise MethodError(f"nobody offers anything under {call.key!r}: {declined}")
        self._spread({name: offering.offers for name, offering in made.items()})
        listed = {name: versions(offering.offers) for name, offering in made.items()}
        return ExchangeRecord(
            key=call.key,
            offered=listed,
            absorbed={name: self._stalls[name].absorbed(listed) for name in made},
            values={name: offering.values for name, offering in made.items()},
            sent={name: sum(map(size, offering.offers)) for name, offering in made.items()},
            refused={name: reasons for name in made if (reasons := self._stalls[name].refused(listed))},
            late=(),
            lost=lost,
            seconds=time.perf_counter() - began,
        )

    def _open(self) -> None:
        """What traders offer already, before the first call."""
        if not self._opened:
            standing = {
                name: validated(OfferBatch(stall.trader.initial_offers()), name) for name, stall in self._stalls.items()
            }
            self._spread({name: offering.offers for name, offering in standing.items()})
            self._opened = True

    def _work(self, call: ExchangePlan) -> tuple[dict[str, OfferBatch], dict[str, str]]:
        made: dict[str, OfferBatch] = {}
        lost: dict[str, str] = {}
        for name, stall in self._stalls.items():
            try:
                made[name] = validated(stall.trader.offer(call, self._progress), name)
            except MethodError as error:
                lost[name] = f"declined: {error}"
        return made, lost

    def _spread(self, offers: Mapping[str, tuple[Offer, ...]]) -> None:
        for stall in self._stalls.values():
            for offered in offers.values():
                stall.hear(offered)


@dataclass
class _Stall:
    """A trader and what it has heard."""

    name: str
    trader: Exchanger
    store: OfferStore = field(default_factory=OfferStore)

    def hear(self, offers: tuple[Offer, ...]) -> None:
        """Absorbs what is new of what others offer."""
        for offer in offers:
            if offer.origin != self.name and self.store.add(offer):
                self.store.record_outcome(offer, refusal(self.trader, offer))

    def absorbed(self, listed: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
        """Whose offers it has taken in, at least one of each."""
        return tuple(origin for origin, reasons in self._reasons(listed).items() if len(reasons) < len(listed[origin]))

    def refused(self, listed: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
        """Why it has refused which offers, by "<origin>/<subject>"."""
        return {
            f"{origin}/{subject}": reason
            for origin, reasons in self._reasons(listed).items()
            for subject, reason in reasons.items()
        }

    def _reasons(self, listed: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, str]]:
        others = {origin: of for origin, of in listed.items() if origin != self.name}
        return {origin: self.store.refusals(origin, of) or {} for origin, of in others.items()}


def refusal(trader: Exchanger, offer: Offer) -> str:
    """Has a trader absorb an offer: why it refuses it, or nothing."""
    try:
        trader.absorb(offer)
    except MethodError as error:
        return str(error) or type(error).__name__
    return ""

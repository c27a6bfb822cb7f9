"""Exchanges between sites of one process: every site runs the task, then absorbs the others' offers.

Counterpart of `nodes.exchange`: with the same sites both end in the same state. A site absorbs the offers of an
exchange only after its own task, so that no site's work depends on the order of the others. There are no deadlines and
no late peers here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fednet.api import ExchangePlan, Exchanger, ExchangeRecord, Offer, OfferBatch, Progress
from fednet.errors import MethodError
from fednet.federated.offers import OfferStore, size, validated, versions


class LocalExchange:
    """Exchanges between sites of this process.

    Args:
        exchangers: prepared sites by name, in sorted order.
        progress: receives every site's progress.
    """

    def __init__(self, exchangers: Mapping[str, Exchanger], progress: Progress) -> None:
        self._peers = {name: _LocalPeer(name, exchanger) for name, exchanger in exchangers.items()}
        self._progress = progress
        self._records: dict[str, ExchangeRecord] = {}
        self._opened = False

    def exchange(self, plan: ExchangePlan) -> ExchangeRecord:
        """Runs an exchange; a plan with a known key returns its record.

        Returns:
            The record; `sent` counts the bytes of the embeddings alone, since there is no wire.

        Raises:
            MethodError: no site offers; the message gives every site's reason.
        """
        if plan.key not in self._records:
            self._records[plan.key] = self._exchange(plan)
        return self._records[plan.key]

    def _exchange(self, plan: ExchangePlan) -> ExchangeRecord:
        began = time.perf_counter()
        self._open()
        batches, lost = self._run_tasks(plan)
        if not batches:
            declined = "; ".join(f"{name} {reason}" for name, reason in lost.items()) or "the method has no exchangers"
            raise MethodError(f"no site offers anything in exchange {plan.key!r}: {declined}")
        self._distribute({name: batch.offers for name, batch in batches.items()})
        listed = {name: versions(batch.offers) for name, batch in batches.items()}
        return ExchangeRecord(
            key=plan.key,
            offered=listed,
            absorbed={name: self._peers[name].absorbed(listed) for name in batches},
            values={name: batch.values for name, batch in batches.items()},
            bytes_sent={name: sum(map(size, batch.offers)) for name, batch in batches.items()},
            refused={name: reasons for name in batches if (reasons := self._peers[name].refused(listed))},
            late=(),
            lost=lost,
            seconds=time.perf_counter() - began,
        )

    def _open(self) -> None:
        """Distributes the initial offers, once, before the first exchange."""
        if not self._opened:
            initial = {
                name: validated(OfferBatch(peer.exchanger.initial_offers()), name) for name, peer in self._peers.items()
            }
            self._distribute({name: batch.offers for name, batch in initial.items()})
            self._opened = True

    def _run_tasks(self, plan: ExchangePlan) -> tuple[dict[str, OfferBatch], dict[str, str]]:
        """The offers by site, and the reasons of those that declined."""
        batches: dict[str, OfferBatch] = {}
        lost: dict[str, str] = {}
        for name, peer in self._peers.items():
            try:
                batches[name] = validated(peer.exchanger.offer(plan, self._progress), name)
            except MethodError as error:
                lost[name] = f"declined: {error}"
        return batches, lost

    def _distribute(self, offers: Mapping[str, tuple[Offer, ...]]) -> None:
        for peer in self._peers.values():
            for batch in offers.values():
                peer.receive(batch)


@dataclass
class _LocalPeer:
    """A site and the offers that it has received."""

    name: str
    exchanger: Exchanger
    store: OfferStore = field(default_factory=OfferStore)

    def receive(self, offers: tuple[Offer, ...]) -> None:
        """Absorbs the new ones of another peer's offers."""
        for offer in offers:
            if offer.origin != self.name and self.store.add(offer):
                self.store.record_outcome(offer, refusal(self.exchanger, offer))

    def absorbed(self, listed: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
        """The origins of which it has absorbed at least one offer."""
        return tuple(origin for origin, reasons in self._reasons(listed).items() if len(reasons) < len(listed[origin]))

    def refused(self, listed: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
        """Its reasons for refusing offers, by "<origin>/<subject>"."""
        return {
            f"{origin}/{subject}": reason
            for origin, reasons in self._reasons(listed).items()
            for subject, reason in reasons.items()
        }

    def _reasons(self, listed: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, str]]:
        others = {origin: of for origin, of in listed.items() if origin != self.name}
        return {origin: self.store.refusals(origin, of) or {} for origin, of in others.items()}


def refusal(exchanger: Exchanger, offer: Offer) -> str:
    """Passes an offer to `absorb`; returns the reason of a refusal, "" where it was absorbed."""
    try:
        exchanger.absorb(offer)
    except MethodError as error:
        return str(error) or type(error).__name__
    return ""

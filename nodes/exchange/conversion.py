"""The words of methods about exchanges as messages, and back."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from fednet.api import ExchangePlan, ExchangeRecord, Offer, OfferBatch
from fednet.errors import MethodError
from fednet.federated.offers import versions
from protocol.exchange import ExchangeTracker
from protocol.messages import exchange as wire


def to_exchange_request(call: ExchangePlan) -> wire.ExchangeRequest:
    """A call as it is said.

    Raises:
        MethodError: it cannot be said, and why.
    """
    try:
        return wire.ExchangeRequest(key=call.key, task=call.work, options=dict(call.options))
    except ValidationError as error:
        raise MethodError(f"call {call.key!r} cannot be made: {error}") from error


def from_exchange_request(said: wire.ExchangeRequest) -> ExchangePlan:
    """A call as a method sees it."""
    return ExchangePlan(said.key, said.task, dict(said.options))


def to_offer_message(offer: Offer, key: str) -> wire.OfferMessage:
    """An offer as it is said, and the call that it was made under."""
    return wire.OfferMessage(
        origin=offer.origin, subject=offer.subject, version=offer.version, key=key, embeddings=offer.embeddings
    )


def from_offer_message(said: wire.OfferMessage) -> Offer:
    """An offer as a method sees it."""
    return Offer(said.origin, said.subject, said.version, said.embeddings)


def to_offer_list(key: str, offering: OfferBatch, sent: int) -> wire.OfferList:
    """The end of what is offered under a call.

    Raises:
        ValidationError: its values have no form on the wire.
    """
    return wire.OfferList(key=key, versions=versions(offering.offers), values=dict(offering.values), bytes_sent=sent)


def to_offer_verdict(key: str, origin: str, reasons: Mapping[str, str]) -> wire.OfferVerdict:
    """That an origin's offers were taken in, but for those that there are reasons against."""
    refused = {subject: reason[: wire.MAX_REASON] for subject, reason in reasons.items()}
    return wire.OfferVerdict(key=key, origin=origin, refused=refused)


def to_exchange_record(
    key: str, held: ExchangeTracker, missing: Mapping[str, str], began: float, now: float
) -> ExchangeRecord:
    """The record of an exchange that is over.

    Args:
        key: its call's.
        held: its ledger.
        missing: who belongs to the run and was not there, with the reason.
        began: when it was called, in seconds of the clock of `now`.
        now: when it closed.
    """
    offers = dict(sorted(held.offers.items()))
    absent = {name: reason for name, reason in missing.items() if name not in offers}
    return ExchangeRecord(
        key=key,
        offered={name: dict(said.versions) for name, said in offers.items()},
        absorbed={name: _absorbed(held, name) for name in offers},
        values={name: dict(said.values) for name, said in offers.items()},
        sent={name: said.bytes_sent for name, said in offers.items()},
        refused={name: reasons for name in offers if (reasons := _refused(held, name))},
        late=held.late(now),
        lost=dict(sorted({**absent, **held.lost()}.items())),
        seconds=now - began,
    )


def _absorbed(held: ExchangeTracker, name: str) -> tuple[str, ...]:
    """Whose offers a peer has taken in, at least one of each."""
    taken = held.verdicts.get(name, {})
    return tuple(o for o, said in sorted(held.offers.items()) if o in taken and len(taken[o]) < len(said.versions))


def _refused(held: ExchangeTracker, name: str) -> dict[str, str]:
    """Why a peer has refused which offers, by "<origin>/<subject>"."""
    taken = held.verdicts.get(name, {})
    return {
        f"{origin}/{subject}": reason
        for origin in sorted(held.offers.keys() & taken.keys())
        for subject, reason in sorted(taken[origin].items())
    }

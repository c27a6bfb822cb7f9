"""The words of methods about exchanges as messages, and back."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from fednet.conversations import Call, Exchanged, Offer, Offering
from fednet.errors import MethodError
from fednet.federated.offers import versions
from protocol.exchange import Exchange
from protocol.messages import exchange as wire


def said_call(call: Call) -> wire.Call:
    """A call as it is said.

    Raises:
        MethodError: it cannot be said, and why.
    """
    try:
        return wire.Call(key=call.key, work=call.work, options=dict(call.options))
    except ValidationError as error:
        raise MethodError(f"call {call.key!r} cannot be made: {error}") from error


def call_of(said: wire.Call) -> Call:
    """A call as a method sees it."""
    return Call(said.key, said.work, dict(said.options))


def said_offer(offer: Offer, key: str) -> wire.Offer:
    """An offer as it is said, and the call that it was made under."""
    return wire.Offer(origin=offer.origin, subject=offer.subject, version=offer.version, key=key, words=offer.words)


def offer_of(said: wire.Offer) -> Offer:
    """An offer as a method sees it."""
    return Offer(said.origin, said.subject, said.version, said.words)


def said_offering(key: str, offering: Offering, sent: int) -> wire.Offered:
    """The end of what is offered under a call.

    Raises:
        ValidationError: its values have no form on the wire.
    """
    return wire.Offered(key=key, versions=versions(offering.offers), values=dict(offering.values), sent=sent)


def said_verdict(key: str, origin: str, reasons: Mapping[str, str]) -> wire.Absorbed:
    """That an origin's offers were taken in, but for those that there are reasons against."""
    refused = {subject: reason[: wire.MAX_REASON] for subject, reason in reasons.items()}
    return wire.Absorbed(key=key, origin=origin, refused=refused)


def record_of(key: str, held: Exchange, missing: Mapping[str, str], began: float, now: float) -> Exchanged:
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
    return Exchanged(
        key=key,
        offered={name: dict(said.versions) for name, said in offers.items()},
        absorbed={name: _absorbed(held, name) for name in offers},
        values={name: dict(said.values) for name, said in offers.items()},
        sent={name: said.sent for name, said in offers.items()},
        refused={name: reasons for name in offers if (reasons := _refused(held, name))},
        late=held.late(now),
        lost=dict(sorted({**absent, **held.lost()}.items())),
        seconds=now - began,
    )


def _absorbed(held: Exchange, name: str) -> tuple[str, ...]:
    """Whose offers a peer has taken in, at least one of each."""
    taken = held.taken.get(name, {})
    return tuple(o for o, said in sorted(held.offers.items()) if o in taken and len(taken[o]) < len(said.versions))


def _refused(held: Exchange, name: str) -> dict[str, str]:
    """Why a peer has refused which offers, by "<origin>/<subject>"."""
    taken = held.taken.get(name, {})
    return {
        f"{origin}/{subject}": reason
        for origin in sorted(held.offers.keys() & taken.keys())
        for subject, reason in sorted(taken[origin].items())
    }

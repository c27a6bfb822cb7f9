"""Exchange plans, offers and records of methods as messages, and back."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from fednet.api import ExchangePlan, ExchangeRecord, Offer, OfferBatch
from fednet.errors import MethodError
from fednet.federated.offers import versions
from protocol.exchange import ExchangeTracker
from protocol.messages.exchange import MAX_REASON, ExchangeRequest, OfferList, OfferMessage, OfferVerdict


def to_exchange_request(plan: ExchangePlan) -> ExchangeRequest:
    """A plan as it is requested.

    Raises:
        MethodError: it cannot be requested, and why.
    """
    try:
        return ExchangeRequest(key=plan.key, task=plan.task, options=dict(plan.options))
    except ValidationError as error:
        raise MethodError(f"exchange {plan.key!r} cannot be requested: {error}") from error


def from_exchange_request(request: ExchangeRequest) -> ExchangePlan:
    """A request as a method sees it."""
    return ExchangePlan(request.key, request.task, dict(request.options))


def to_offer_message(offer: Offer, key: str) -> OfferMessage:
    """An offer, and the request that it was made under."""
    return OfferMessage(
        origin=offer.origin, subject=offer.subject, version=offer.version, key=key, embeddings=offer.embeddings
    )


def from_offer_message(message: OfferMessage) -> Offer:
    """An offer as a method sees it."""
    return Offer(message.origin, message.subject, message.version, message.embeddings)


def to_offer_list(key: str, batch: OfferBatch, bytes_sent: int) -> OfferList:
    """The list of what is offered under a request.

    Raises:
        ValidationError: its values have no form on the wire.
    """
    return OfferList(key=key, versions=versions(batch.offers), values=dict(batch.values), bytes_sent=bytes_sent)


def to_offer_verdict(key: str, origin: str, reasons: Mapping[str, str]) -> OfferVerdict:
    """That an origin's offers were absorbed, but for those that were refused with a reason."""
    refused = {subject: reason[:MAX_REASON] for subject, reason in reasons.items()}
    return OfferVerdict(key=key, origin=origin, refused=refused)


def to_exchange_record(
    key: str, tracker: ExchangeTracker, missing: Mapping[str, str], opened_at: float, now: float
) -> ExchangeRecord:
    """The record of an exchange that is over.

    Args:
        key: its plan's.
        tracker: who has offered and absorbed.
        missing: clients of the run that were not ready, with the reason.
        opened_at: when it was opened, in seconds of the clock of `now`.
        now: when it closed.
    """
    lists = dict(sorted(tracker.offers.items()))
    absent = {name: reason for name, reason in missing.items() if name not in lists}
    return ExchangeRecord(
        key=key,
        offered={name: dict(each.versions) for name, each in lists.items()},
        absorbed={name: _absorbed(tracker, name) for name in lists},
        values={name: dict(each.values) for name, each in lists.items()},
        bytes_sent={name: each.bytes_sent for name, each in lists.items()},
        refused={name: reasons for name in lists if (reasons := _refused(tracker, name))},
        late=tracker.late(now),
        lost=dict(sorted({**absent, **tracker.lost()}.items())),
        seconds=now - opened_at,
    )


def _absorbed(tracker: ExchangeTracker, name: str) -> tuple[str, ...]:
    """The origins of which a peer has absorbed at least one offer."""
    verdicts, lists = tracker.verdicts.get(name, {}), sorted(tracker.offers.items())
    return tuple(o for o, each in lists if o in verdicts and len(verdicts[o]) < len(each.versions))


def _refused(tracker: ExchangeTracker, name: str) -> dict[str, str]:
    """Why a peer has refused which offers, by "<origin>/<subject>"."""
    verdicts = tracker.verdicts.get(name, {})
    return {
        f"{origin}/{subject}": reason
        for origin in sorted(tracker.offers.keys() & verdicts.keys())
        for subject, reason in sorted(verdicts[origin].items())
    }

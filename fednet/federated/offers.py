"""What offers may be, and which of them stands: the newest of every origin and subject.

The rules of the exchange conversation that hold within one process and over the bus alike. An offer is checked where
it leaves its origin, so that nothing but embeddings can leave. Refuses to know what words mean, who carries them, and
who absorbs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import inf

import torch

from fednet.api import Offer, OfferBatch
from fednet.errors import MethodError

MOST_TOKENS = 64
"""Tokens of one offer."""

WIDEST = 4096
"""Values of one token."""

MOST_SUBJECTS = 256
"""Subjects of one peer under one call."""

LONGEST_SUBJECT = 64
"""Characters of a subject."""

MOST_OFFERS = 4096
"""Offers that one peer keeps."""

MOST_BYTES = 64 << 20
"""Bytes of the words of all offers that one peer keeps."""


def validated(offering: OfferBatch, origin: str) -> OfferBatch:
    """What a trader has made of a call, as it is now: its words are copied, for they may go on being learnt.

    Raises:
        MethodError: something in it is no offer of this origin, or there is too much of it.
    """
    offers = tuple(_vetted(offer, origin) for offer in offering.offers)
    subjects = {offer.subject for offer in offers}
    if len(subjects) != len(offers):
        raise MethodError(f"{origin} offers a subject twice in one call: offer its newest version only")
    if len(subjects) > MOST_SUBJECTS:
        raise MethodError(f"{origin} offers {len(subjects)} subjects in one call: at most {MOST_SUBJECTS} are allowed")
    return OfferBatch(tuple(sorted(offers, key=lambda offer: offer.subject)), dict(offering.values))


def versions(offers: Iterable[Offer]) -> dict[str, int]:
    """The versions of offers of one origin, by subject."""
    return {offer.subject: offer.version for offer in offers}


def size(offer: Offer) -> int:
    """Bytes of the words themselves."""
    return offer.embeddings.numel() * offer.embeddings.element_size()


def _vetted(offer: Offer, origin: str) -> Offer:
    words, named = offer.embeddings.detach(), f"{origin}'s offer {offer.subject!r}"
    if offer.origin != origin:
        raise MethodError(f"{named} names {offer.origin!r} as its origin: a peer offers only what it has learnt itself")
    if not 1 <= len(offer.subject) <= LONGEST_SUBJECT:
        raise MethodError(
            f"{named} has a subject of {len(offer.subject)} characters: 1 to {LONGEST_SUBJECT} are allowed"
        )
    if offer.version < 1:
        raise MethodError(f"{named} has version {offer.version}: versions count from 1")
    if words.dtype != torch.float32 or words.dim() != 2:
        raise MethodError(f"{named} has words {words.dtype} {tuple(words.shape)}: float32 (tokens, width) are needed")
    if not (1 <= words.shape[0] <= MOST_TOKENS and 1 <= words.shape[1] <= WIDEST):
        raise MethodError(f"{named} has words {tuple(words.shape)}: 1 to {MOST_TOKENS} tokens of 1 to {WIDEST} values")
    if not bool(torch.isfinite(words).all()):
        raise MethodError(f"{named} has words that are not finite: they cannot be offered")
    return replace(offer, embeddings=words.to("cpu", copy=True).contiguous())


class OfferSource(IntEnum):
    """Who has said what an offer says; of two, the higher one is believed."""

    RELAYED = 0
    """Somebody else, when its origin was gone."""
    LAST_KNOWN = 1
    """Its origin, which has been gone since."""
    DIRECT = 2
    """Its origin."""


@dataclass
class _Place:
    """Where one origin's offer of one subject stands.

    Attributes:
        offer: the newest.
        source: who has said so.
        judged: whether it was taken in or refused.
        reason: why it was refused; empty if it was not.
        disputed: why another offer of the same version was refused; empty if there was none.
    """

    offer: Offer
    source: OfferSource
    judged: bool = False
    reason: str = ""
    disputed: str = ""


@dataclass
class OfferStore:
    """The offers that one peer has heard, its own among them.

    A newer version takes the place of an older one, which is dropped when it comes late. What others say of an origin
    only fills gaps, and whatever an origin says itself once it is back takes the place of all that was said before.

    Attributes:
        most: offers that are kept; more are refused.
        most_bytes: bytes of their words that are kept.
        refused: how many there was no room for.
    """

    most: int = MOST_OFFERS
    most_bytes: int = MOST_BYTES
    refused: int = 0
    _places: dict[tuple[str, str], _Place] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, offer: Offer, source: OfferSource = OfferSource.DIRECT) -> bool:
        """An offer has come: whether it is new, and is to be absorbed (and `record_outcome` afterwards)."""
        place = self._places.get((offer.origin, offer.subject))
        if place is not None and not _replaces(offer, source, place):
            return False
        if not self._make_room(offer, place):
            self.refused += 1
            return False
        self._places[offer.origin, offer.subject] = _Place(offer, source)
        return True

    def record_outcome(self, offer: Offer, reason: str = "") -> None:
        """An offer was absorbed, or refused with a reason; forgotten if another one has taken its place."""
        place = self._places.get((offer.origin, offer.subject))
        if place is not None and place.offer is offer:
            place.judged, place.reason = True, reason

    def mark_departed(self, origin: str) -> None:
        """An origin is gone."""
        for (name, _), place in self._places.items():
            if name == origin:
                place.source = min(place.source, OfferSource.LAST_KNOWN)

    def refusals(self, origin: str, listed: Mapping[str, int]) -> dict[str, str] | None:
        """Why which of an origin's offers were refused, by subject; None while one has not come or is not judged.

        Args:
            origin: whose offers.
            listed: versions by subject; a later version will do.
        """
        reasons = {}
        for subject, version in sorted(listed.items()):
            place = self._places.get((origin, subject))
            if place is None and self.refused:
                reasons[subject] = f"no room: {len(self._places)} offers of {self._bytes} bytes are kept here"
            elif place is None or place.offer.version < version or not place.judged:
                return None
            elif reason := place.reason or place.disputed:
                reasons[subject] = reason
        return reasons

    def is_missing(self, origin: str, listed: Mapping[str, int]) -> bool:
        """Whether one of an origin's offers has not come; no offer is lacking that there would be no room for."""
        known, unheard = versions(self.of(origin)), inf if self.refused else 0
        return any(known.get(subject, unheard) < version for subject, version in listed.items())

    def at(self, origin: str, subject: str) -> Offer:
        """What stands of an origin about a subject.

        Raises:
            KeyError: nothing does.
        """
        return self._places[origin, subject].offer

    def of(self, origin: str) -> tuple[Offer, ...]:
        """What stands of an origin, by subject in sorted order."""
        return tuple(place.offer for (name, _), place in sorted(self._places.items()) if name == origin)

    def origins(self) -> tuple[str, ...]:
        """Whose offers stand here, sorted."""
        return tuple(sorted({origin for origin, _ in self._places}))

    def _make_room(self, offer: Offer, place: _Place | None) -> bool:
        grown = self._bytes + size(offer) - (0 if place is None else size(place.offer))
        if grown > self.most_bytes or (place is None and len(self._places) >= self.most):
            return False
        self._bytes = grown
        return True


def _replaces(offer: Offer, source: OfferSource, place: _Place) -> bool:
    """Whether an offer takes the place of another; two of one version must say the same."""
    version, words = place.offer.version, place.offer.embeddings
    same = offer.version == version and torch.equal(offer.embeddings, words)
    if source > place.source:
        place.source = source if same else place.source
        return not same
    if source < place.source:
        return False
    if offer.version == version and not same:
        place.disputed = f"version {version} has said other words before: a change is a new version"
    return offer.version > version

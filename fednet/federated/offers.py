"""Validation of offers, and a store that keeps the newest offer of every origin and subject.

The rules of the exchange that hold in one process and on the bus alike. An offer is validated where it leaves its
origin, so that nothing but embeddings can leave a site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import inf

import torch

from fednet.api import Offer, OfferBatch
from fednet.errors import MethodError

MAX_TOKENS = 64
"""Tokens of one offer."""

MAX_WIDTH = 4096
"""Values of one token embedding."""

MAX_SUBJECTS = 256
"""Subjects of one peer in one exchange."""

MAX_SUBJECT_LENGTH = 64
"""Characters of a subject."""

MAX_OFFERS = 4096
"""Offers in a store."""

MAX_BYTES = 64 << 20
"""Bytes of the embeddings of all offers in a store."""


def validated(batch: OfferBatch, origin: str) -> OfferBatch:
    """A copy of the offers of one exchange, sorted by subject.

    Raises:
        MethodError: an offer is invalid or of another origin, a subject is offered twice, or there are too many.
    """
    offers = tuple(_validated(offer, origin) for offer in batch.offers)
    subjects = {offer.subject for offer in offers}
    if len(subjects) != len(offers):
        raise MethodError(f"{origin} offers a subject twice in one exchange: expected its newest version only")
    if len(subjects) > MAX_SUBJECTS:
        raise MethodError(
            f"{origin} offers {len(subjects)} subjects in one exchange: at most {MAX_SUBJECTS} are allowed"
        )
    return OfferBatch(tuple(sorted(offers, key=lambda offer: offer.subject)), dict(batch.values))


def versions(offers: Iterable[Offer]) -> dict[str, int]:
    """Versions by subject, of the offers of one origin."""
    return {offer.subject: offer.version for offer in offers}


def size(offer: Offer) -> int:
    """Bytes of the embeddings."""
    return offer.embeddings.numel() * offer.embeddings.element_size()


def _validated(offer: Offer, origin: str) -> Offer:
    embeddings, name = offer.embeddings.detach(), f"{origin}'s offer {offer.subject!r}"
    if offer.origin != origin:
        raise MethodError(
            f"{name} has the origin {offer.origin!r}: expected {origin!r}, a peer offers only its own embeddings"
        )
    if not 1 <= len(offer.subject) <= MAX_SUBJECT_LENGTH:
        raise MethodError(
            f"{name} has a subject of {len(offer.subject)} characters: expected 1 to {MAX_SUBJECT_LENGTH}"
        )
    if offer.version < 1:
        raise MethodError(f"{name} has version {offer.version}: expected at least 1")
    shape = tuple(embeddings.shape)
    if embeddings.dtype != torch.float32 or embeddings.dim() != 2:
        raise MethodError(f"{name} has embeddings {embeddings.dtype} {shape}: expected float32 (tokens, width)")
    if not (1 <= shape[0] <= MAX_TOKENS and 1 <= shape[1] <= MAX_WIDTH):
        raise MethodError(
            f"{name} has embeddings {shape}: expected 1 to {MAX_TOKENS} tokens of 1 to {MAX_WIDTH} values"
        )
    if not bool(torch.isfinite(embeddings).all()):
        raise MethodError(f"{name} has embeddings that are not finite")
    return replace(offer, embeddings=embeddings.to("cpu", copy=True).contiguous())


class OfferSource(IntEnum):
    """Where an offer was received from; the higher value takes precedence."""

    RELAYED = 0
    """From another peer, after its origin had departed."""
    LAST_KNOWN = 1
    """From its origin, which has departed since."""
    DIRECT = 2
    """From its origin."""


@dataclass
class _Entry:
    """One origin's newest offer of one subject.

    Attributes:
        offer: the offer.
        source: where it was received from.
        done: whether it was absorbed or refused.
        reason: why it was refused; "" if it was not.
        conflict: why another offer of the same version was refused; "" if there was none.
    """

    offer: Offer
    source: OfferSource
    done: bool = False
    reason: str = ""
    conflict: str = ""


@dataclass
class OfferStore:
    """The offers that one peer has received, its own among them.

    A newer version replaces an older one; a version that is older than the stored one is dropped. Offers that other
    peers relay only fill gaps, and offers from the origin itself, once it is back, replace relayed ones.

    Attributes:
        max_offers: capacity in offers; further ones are dropped.
        max_bytes: capacity in bytes of embeddings.
        dropped: number of offers that exceeded the capacity.
    """

    max_offers: int = MAX_OFFERS
    max_bytes: int = MAX_BYTES
    dropped: int = 0
    _entries: dict[tuple[str, str], _Entry] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, offer: Offer, source: OfferSource = OfferSource.DIRECT) -> bool:
        """Stores an offer if it is newer; returns whether it is, and so is to be absorbed (then `record_outcome`)."""
        entry = self._entries.get((offer.origin, offer.subject))
        if entry is not None and not _replaces(offer, source, entry):
            return False
        if not self._make_room(offer, entry):
            self.dropped += 1
            return False
        self._entries[offer.origin, offer.subject] = _Entry(offer, source)
        return True

    def record_outcome(self, offer: Offer, reason: str = "") -> None:
        """Records that an offer was absorbed, or refused with a reason; ignored if it has been replaced since."""
        entry = self._entries.get((offer.origin, offer.subject))
        if entry is not None and entry.offer is offer:
            entry.done, entry.reason = True, reason

    def mark_departed(self, origin: str) -> None:
        """Lowers the precedence of a departed origin's offers."""
        for (name, _), entry in self._entries.items():
            if name == origin:
                entry.source = min(entry.source, OfferSource.LAST_KNOWN)

    def refusals(self, origin: str, listed: Mapping[str, int]) -> dict[str, str] | None:
        """The reasons for refused offers of an origin by subject; None while an offer is missing or not processed.

        Args:
            origin: name of the origin.
            listed: expected versions by subject; later versions satisfy it.
        """
        reasons = {}
        for subject, version in sorted(listed.items()):
            entry = self._entries.get((origin, subject))
            if entry is None and self.dropped:
                reasons[subject] = f"no room: the store holds {len(self._entries)} offers of {self._bytes} bytes"
            elif entry is None or entry.offer.version < version or not entry.done:
                return None
            elif reason := entry.reason or entry.conflict:
                reasons[subject] = reason
        return reasons

    def is_missing(self, origin: str, listed: Mapping[str, int]) -> bool:
        """Whether an offer of an origin has not been received; False for offers that exceed the capacity."""
        known, missing = versions(self.of(origin)), inf if self.dropped else 0
        return any(known.get(subject, missing) < version for subject, version in listed.items())

    def at(self, origin: str, subject: str) -> Offer:
        """The stored offer of an origin for a subject.

        Raises:
            KeyError: there is none.
        """
        return self._entries[origin, subject].offer

    def of(self, origin: str) -> tuple[Offer, ...]:
        """The stored offers of an origin, by subject in sorted order."""
        return tuple(entry.offer for (name, _), entry in sorted(self._entries.items()) if name == origin)

    def origins(self) -> tuple[str, ...]:
        """The origins of the stored offers, sorted."""
        return tuple(sorted({origin for origin, _ in self._entries}))

    def _make_room(self, offer: Offer, entry: _Entry | None) -> bool:
        grown = self._bytes + size(offer) - (0 if entry is None else size(entry.offer))
        if grown > self.max_bytes or (entry is None and len(self._entries) >= self.max_offers):
            return False
        self._bytes = grown
        return True


def _replaces(offer: Offer, source: OfferSource, entry: _Entry) -> bool:
    """Whether an offer replaces the stored one; two of the same version must have equal embeddings."""
    version = entry.offer.version
    same = offer.version == version and torch.equal(offer.embeddings, entry.offer.embeddings)
    if source > entry.source:
        entry.source = source if same else entry.source
        return not same
    if source < entry.source:
        return False
    if offer.version == version and not same:
        entry.conflict = f"version {version} was offered before with other embeddings: a change needs a new version"
    return offer.version > version

"""What everybody in a secure sum knows: its parameters, the public keys, and who shared and who survived.

Each of the three has a digest over everything it says. Keys, sealed shares and reveals are bound to these digests, so
that peers who were told different things cannot work together unnoticed. Nothing here is secret. Refuses to know how
keys travel: whoever carries them must authenticate their senders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Literal

from fednet.errors import PrivacyError
from fednet.privacy.masking import KEY, length_prefixed

Kind = Literal["key", "seed"]
"""What a share is of: of the key of a peer's pairwise masks, or of the seed of its own mask."""

FEWEST = 3
"""Peers in a sum: in a sum of two, each learns the other's value by taking away its own."""

LONGEST_ATTEMPT = 1024
LONGEST_NAME = 255

KEYS_BYTES = 4 * KEY
"""The bytes of a peer's packed keys."""


def default_threshold(count: int) -> int:
    """More than two thirds, and at least `FEWEST`: up to a third of the peers may collude, a third may be lost."""
    return max(FEWEST, 2 * count // 3 + 1)


@dataclass(frozen=True)
class SecureSumParameters:
    """Who takes part in which attempt, and how many it takes to unmask.

    Attributes:
        names: everybody who may take part, sorted.
        threshold: how many survivors a sum needs, and how many shares a secret.
        attempt: what tells this attempt from every other one of every run, at most 1024 bytes.

    Raises:
        PrivacyError: names or a threshold under which a sum would not be private, or could never be unmasked.
    """

    names: tuple[str, ...]
    threshold: int
    attempt: bytes

    def __post_init__(self) -> None:
        count, names = len(self.names), set(self.names)
        if len(names) != count or list(self.names) != sorted(names):
            raise PrivacyError("a name is given twice, or they are not sorted: name every peer once, in sorted order")
        if any(not 0 < len(name.encode()) <= LONGEST_NAME for name in names):
            raise PrivacyError(f"an empty name, or one of more than {LONGEST_NAME} bytes: shorten it")
        if len(self.attempt) > LONGEST_ATTEMPT:
            raise PrivacyError(f"{len(self.attempt)} bytes name the attempt: at most {LONGEST_ATTEMPT} may")
        if count < FEWEST:
            raise PrivacyError(f"a secure sum of {count} peers hides nothing: at least {FEWEST} are needed")
        if self.threshold > count:
            raise PrivacyError(f"a threshold of {self.threshold} is above the number of peers, {count}: lower it")
        if 2 * self.threshold <= count:
            raise PrivacyError(
                f"a threshold of {self.threshold} is not more than half of {count} peers: one half could reveal the "
                f"seed of a peer and the other half its key, which opens its update; use at least {count // 2 + 1}"
            )
        if self.threshold < FEWEST:
            raise PrivacyError(
                f"a threshold of {self.threshold}: a sum of {self.threshold} could be closed, in which each learns "
                f"the other's value by taking away its own; use at least {FEWEST}"
            )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all of it."""
        parts = (b"fednet secure sum 1", self.attempt, str(self.threshold).encode())
        return sha256(length_prefixed(*parts, *(name.encode() for name in self.names))).digest()

    @property
    def colluders(self) -> int:
        """How many peers, and the lead with them, may pool all they have and still learn nothing but the sum.

        Opening an update takes both kinds of share of one peer from t peers each, or two sets of survivors with t votes
        each. The k colluders serve both sides and the n - k others one each, so it takes k >= 2t - n.
        """
        return 2 * self.threshold - len(self.names) - 1

    def place(self, name: str) -> int:
        """At which place of the polynomials a peer has its share: 1 .. n."""
        return self.names.index(name) + 1

    def require_enough(self, names: Iterable[str], what: str) -> None:
        """Checks that no fewer peers than the threshold are there.

        Raises:
            PrivacyError: they are fewer.
        """
        if (count := len(set(names))) < self.threshold:
            raise PrivacyError(
                f"{count} of {len(self.names)} peers {what}, the threshold is {self.threshold}: nothing can be "
                "unmasked, begin another attempt when more peers are there"
            )


@dataclass(frozen=True)
class PartyKeys:
    """A peer's public keys for one attempt.

    Attributes:
        seal: X25519, what shares for it are sealed to.
        mask: X25519, what pairwise masks are agreed with.
        sign: Ed25519, what the shares that it deals are signed with.
        commitment: SHA-256 of the seed of its own mask.
    """

    seal: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    sign: bytes = field(repr=False)
    commitment: bytes = field(repr=False)

    def packed(self) -> bytes:
        """All of them, `KEYS_BYTES` long."""
        return self.seal + self.mask + self.sign + self.commitment

    @classmethod
    def unpacked(cls, packed: bytes, whose: str) -> PartyKeys:
        """The inverse of `packed`.

        Raises:
            PrivacyError: another number of bytes; names whose they are.
        """
        if len(packed) != KEYS_BYTES:
            raise PrivacyError(f"the keys of {whose!r} have {len(packed)} bytes: {KEYS_BYTES} are expected", (whose,))
        return cls(*(packed[start : start + KEY] for start in range(0, KEYS_BYTES, KEY)))


@dataclass(frozen=True)
class SecureSumParties:
    """The parameters, and the keys of everybody who advertised some.

    Raises:
        PrivacyError: too few, a stranger's, or the same key twice.
    """

    parameters: SecureSumParameters
    keys: Mapping[str, PartyKeys] = field(repr=False)

    def __post_init__(self) -> None:
        if strangers := tuple(sorted(set(self.keys) - set(self.parameters.names))):
            raise PrivacyError(f"keys of {', '.join(map(repr, strangers))}, who are not in: leave them out", strangers)
        self.parameters.require_enough(self.keys, "advertised keys")
        owners: dict[bytes, str] = {}
        for name, keys in sorted(self.keys.items()):
            for key in (keys.seal, keys.mask, keys.sign, keys.commitment):
                if key in owners:
                    pair = (owners[key], name)
                    raise PrivacyError(f"{pair[0]!r} and {name!r} advertised the same key: one repeats the other", pair)
                owners[key] = name

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the parameters and all keys."""
        parts = (part for name, keys in sorted(self.keys.items()) for part in (name.encode(), keys.packed()))
        return sha256(length_prefixed(self.parameters.digest, *parts)).digest()


@dataclass(frozen=True)
class SurvivorSet:
    """Who shared, and whose masked vectors are in the sum: what all peers agree on before they reveal anything.

    Attributes:
        parties: under which.
        sharers: whose masks are in each other's vectors, sorted.
        survivors: whose vectors are in the sum, sorted.

    Raises:
        PrivacyError: too few survivors, or some that did not share.
    """

    parties: SecureSumParties
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := tuple(sorted(set(self.sharers) - set(self.parties.keys))):
            raise PrivacyError(f"{', '.join(map(repr, unknown))} shared without keys: leave them out", unknown)
        if unknown := tuple(sorted(set(self.survivors) - set(self.sharers))):
            raise PrivacyError(
                f"{', '.join(map(repr, unknown))} cannot survive without having shared: leave them out", unknown
            )
        self.parties.parameters.require_enough(self.survivors, "sent a masked vector")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all of it."""
        lists = (length_prefixed(*(name.encode() for name in names)) for names in (self.sharers, self.survivors))
        return sha256(length_prefixed(self.parties.digest, *lists)).digest()

    def kind(self, name: str) -> Kind:
        """Of what the shares of a sharer are revealed: of a survivor's seed, or of the key of one that dropped."""
        return "seed" if name in self.survivors else "key"

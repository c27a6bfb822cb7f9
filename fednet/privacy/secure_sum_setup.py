"""Public context of a secure sum: parameters, advertised keys, sharers and survivors.

Each has a digest over all of its content. Keys, sealed shares and reveals are bound to these digests, so that parties
with different views cannot complete a sum. Nothing here is secret. The transport must authenticate the senders of keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Literal

from fednet.errors import PrivacyError
from fednet.privacy.masking import KEY, length_prefixed
from fednet.privacy.threshold import MIN_PARTIES

Kind = Literal["key", "seed"]
"""Which secret a share belongs to: the key of a party's pairwise masks, or the seed of its self mask."""

MAX_ATTEMPT_BYTES = 1024
MAX_NAME_BYTES = 255

KEYS_BYTES = 4 * KEY
"""Size of a party's packed keys."""


@dataclass(frozen=True)
class SecureSumParameters:
    """The parameters of one attempt: n parties, the threshold t, and a unique context.

    Attributes:
        names: all possible parties, sorted.
        threshold: number of survivors that a sum needs, and of shares that recover a secret.
        attempt: unique context of this attempt among all runs, at most 1024 bytes.

    Raises:
        PrivacyError: names or a threshold with which the sum would not be private, or could never be unmasked.
    """

    names: tuple[str, ...]
    threshold: int
    attempt: bytes

    def __post_init__(self) -> None:
        count, names = len(self.names), set(self.names)
        if len(names) != count or list(self.names) != sorted(names):
            raise PrivacyError("party names must be unique and sorted")
        if any(not 0 < len(name.encode()) <= MAX_NAME_BYTES for name in names):
            raise PrivacyError(f"a party name must have 1 to {MAX_NAME_BYTES} bytes")
        if len(self.attempt) > MAX_ATTEMPT_BYTES:
            raise PrivacyError(f"the attempt has {len(self.attempt)} bytes: at most {MAX_ATTEMPT_BYTES} are allowed")
        if count < MIN_PARTIES:
            raise PrivacyError(f"a secure sum of {count} parties hides nothing: expected at least {MIN_PARTIES}")
        if self.threshold > count:
            raise PrivacyError(f"a threshold of {self.threshold} is above the number of parties, {count}: lower it")
        if 2 * self.threshold <= count:
            raise PrivacyError(
                f"a threshold of {self.threshold} is not more than half of {count} parties: one half could reveal the "
                f"seed of a party and the other half its key, which reveals its update; use at least {count // 2 + 1}"
            )
        if self.threshold < MIN_PARTIES:
            raise PrivacyError(
                f"with a threshold of {self.threshold} a sum of {self.threshold} could be unmasked, in which each "
                "learns "
                f"the other's value by subtracting its own; use at least {MIN_PARTIES}"
            )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all fields."""
        parts = (b"fednet secure sum 1", self.attempt, str(self.threshold).encode())
        return sha256(length_prefixed(*parts, *(name.encode() for name in self.names))).digest()

    @property
    def colluders(self) -> int:
        """How many parties, together with the leader, may collude and still learn nothing but the sum.

        Revealing an update takes both kinds of share of one party from t parties each, or two sets of survivors with t
        votes each. The k colluders serve both sides and the n - k others one each, so it takes k >= 2t - n.
        """
        return 2 * self.threshold - len(self.names) - 1

    def place(self, name: str) -> int:
        """The x coordinate of a party's shares: 1 .. n."""
        return self.names.index(name) + 1

    def require_enough(self, names: Iterable[str], what: str) -> None:
        """Checks that there are at least `threshold` names.

        Raises:
            PrivacyError: there are fewer.
        """
        if (count := len(set(names))) < self.threshold:
            raise PrivacyError(
                f"{count} of {len(self.names)} parties {what}, the threshold is {self.threshold}: the sum cannot be "
                "unmasked; start another attempt when more are present"
            )


@dataclass(frozen=True)
class PartyKeys:
    """A party's public keys for one attempt.

    Attributes:
        seal: X25519, for sealing shares to it.
        mask: X25519, for agreeing on pairwise masks.
        sign: Ed25519, for verifying its shares and votes.
        commitment: SHA-256 of the seed of its self mask.
    """

    seal: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    sign: bytes = field(repr=False)
    commitment: bytes = field(repr=False)

    def packed(self) -> bytes:
        """All keys, `KEYS_BYTES` bytes."""
        return self.seal + self.mask + self.sign + self.commitment

    @classmethod
    def unpacked(cls, packed: bytes, whose: str) -> PartyKeys:
        """The inverse of `packed`.

        Raises:
            PrivacyError: wrong size; names the party.
        """
        if len(packed) != KEYS_BYTES:
            raise PrivacyError(f"the keys of {whose!r} have {len(packed)} bytes: expected {KEYS_BYTES}", (whose,))
        return cls(*(packed[start : start + KEY] for start in range(0, KEYS_BYTES, KEY)))


@dataclass(frozen=True)
class SecureSumParties:
    """The parameters, and the advertised keys by party.

    Attributes:
        parameters: of the sum.
        keys: by party.
        transcript: digest over everything else that was said so far, the same at every party (for example weights).

    Raises:
        PrivacyError: too few keys, an unknown party's, or the same key twice.
    """

    parameters: SecureSumParameters
    keys: Mapping[str, PartyKeys] = field(repr=False)
    transcript: bytes = b""

    def __post_init__(self) -> None:
        if unknown := tuple(sorted(set(self.keys) - set(self.parameters.names))):
            raise PrivacyError(f"keys of unknown parties {', '.join(map(repr, unknown))}: exclude them", unknown)
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
        """SHA-256 over the parameters, the transcript and all keys."""
        parts = (part for name, keys in sorted(self.keys.items()) for part in (name.encode(), keys.packed()))
        return sha256(length_prefixed(self.parameters.digest, self.transcript, *parts)).digest()


@dataclass(frozen=True)
class SurvivorSet:
    """Sharers and survivors, on which all parties agree before they reveal anything.

    Attributes:
        parties: parameters and keys.
        sharers: parties whose masks are in each other's vectors, sorted.
        survivors: parties whose masked vectors are in the sum, sorted.

    Raises:
        PrivacyError: too few survivors, or one that is not a sharer.
    """

    parties: SecureSumParties
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := tuple(sorted(set(self.sharers) - set(self.parties.keys))):
            raise PrivacyError(f"{', '.join(map(repr, unknown))} shared without keys: exclude them", unknown)
        if unknown := tuple(sorted(set(self.survivors) - set(self.sharers))):
            raise PrivacyError(
                f"{', '.join(map(repr, unknown))} cannot survive without having shared: exclude them", unknown
            )
        self.parties.parameters.require_enough(self.survivors, "sent a masked vector")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all fields."""
        lists = (length_prefixed(*(name.encode() for name in names)) for names in (self.sharers, self.survivors))
        return sha256(length_prefixed(self.parties.digest, *lists)).digest()

    def kind(self, name: str) -> Kind:
        """Which secret of a sharer is revealed: a survivor's seed, or a dropped party's key."""
        return "seed" if name in self.survivors else "key"

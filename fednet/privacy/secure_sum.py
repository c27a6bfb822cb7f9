"""One party of a secure sum: all parties learn the sum of the survivors' vectors, and no single vector.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", figure 4, with double
masking. Every pair of parties agrees on a mask that one adds and the other subtracts; each adds a self mask, too. Of a
survivor the others reveal the seed of its self mask; of a dropped party the key of its pairwise masks, so that its
vector stays hidden by its self mask even if it arrives late. Never both.

The stages, each with its output:

    advertise() -> keys                to all; the transport must authenticate the sender
    share(keys of all) -> sealed       one for each other party
    receive(sealed from all)           from the same parties everywhere: the sharers
    mask(vector) -> masked             to the aggregator
    vote(survivors, dropped) -> vote   to all
    reveal(votes) -> reveal            to all, once a threshold of parties has voted for the same survivors
    unmask(sum, reveals) -> sum        by all

Differs from the paper: no server. The leader only announces the sharers and survivors and is not trusted: a party votes
once and reveals only what it voted for, the threshold is more than half, and every message is bound to its sender's
view, so that inconsistent announcements end in a refusal (see `secure_sum_setup` and `consistency_check`). A party
serves one attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from fednet.errors import PrivacyError
from fednet.privacy.consistency_check import require_threshold_votes, require_vote, sign_vote
from fednet.privacy.entropy import SYSTEM, Random, is_private
from fednet.privacy.masking import KEY, VectorMasking, public_key, require_vector
from fednet.privacy.secure_sum_setup import Kind, PartyKeys, SecureSumParameters, SecureSumParties, SurvivorSet
from fednet.privacy.shares import DealtShares, deal, seal, unseal
from fednet.privacy.unmasking import commitment, mask_sign, own_key, pair_key, parse_reveal, reveal, unmask

T = TypeVar("T")


@dataclass(frozen=True)
class _Secrets:
    """Secrets that leave a party only in shares."""

    seal: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    sign: bytes = field(repr=False)
    seed: bytes = field(repr=False)


class SecureSumParty:
    """One party in one attempt at a secure sum. A stage that raises changes nothing.

    Attributes:
        name: its name.
        parameters: names, threshold and attempt.
        private: whether its secrets are random; a sum with a seeded party must be marked NOT PRIVATE.
        sharers: the parties whose masks are in its vector, sorted; () before `receive`.
    """

    def __init__(
        self, name: str, names: Iterable[str], threshold: int, attempt: bytes, random: Random = SYSTEM
    ) -> None:
        """Draws fresh keys.

        Args:
            name: its name.
            names: all possible parties, itself included.
            threshold: number of survivors that the sum needs; more than half of the names, and at least 3.
            attempt: unique context of this attempt (run, model, round, attempt).
            random: source of secrets.

        Raises:
            PrivacyError: a threshold or names with which the sum would not be private, or could never be unmasked.
        """
        self.name = name
        self.parameters = SecureSumParameters(tuple(sorted(names)), threshold, attempt)
        self.private = is_private(random)
        self.sharers: tuple[str, ...] = ()
        if name not in self.parameters.names:
            raise PrivacyError(f"unknown party {name!r}; expected one of the {len(self.parameters.names)} parties")
        self._random = random
        self._secrets = _Secrets(*(random(KEY) for _ in range(4)))
        self._keys = self._advertised()
        self._parties: SecureSumParties | None = None
        self._outgoing: dict[str, bytes] = {}
        self._held: dict[str, DealtShares] = {}
        self._has_masked = False
        self._agreement: SurvivorSet | None = None
        self._revealed = b""

    def __repr__(self) -> str:
        return f"SecureSumParty({self.name!r}, {self.parameters.threshold} of {len(self.parameters.names)})"

    def advertise(self) -> bytes:
        """Its public keys, `secure_sum_setup.KEYS_BYTES` bytes; the same on every call."""
        return self._keys.packed()

    def share(self, keys: Mapping[str, bytes], transcript: bytes = b"") -> dict[str, bytes]:
        """Shares its secrets among all parties that advertised keys.

        Args:
            keys: advertised keys by party, its own included, at least `threshold`; the same at every party.
            transcript: digest over everything else that was said so far; the masks of parties that were told different
                things do not cancel.

        Returns:
            Sealed shares by receiver, `shares.SEALED_BYTES` bytes each; the same on every call with the same keys.

        Raises:
            PrivacyError: too few keys, an unknown party's, a repeated or malformed one, or other keys than before.
        """
        parties = SecureSumParties(
            self.parameters,
            {name: PartyKeys.unpacked(packed, name) for name, packed in sorted(keys.items())},
            transcript,
        )
        if keys.get(self.name) != self.advertise():
            raise PrivacyError(
                f"the keys of {self.name!r} are not those it advertised: pass every party's keys as received"
            )
        if self._parties is not None and self._parties.digest != parties.digest:
            raise PrivacyError(f"{self.name!r} has shared with other keys: start another attempt")
        if self._parties is None:
            self._deal(parties)
        return dict(self._outgoing)

    def receive(self, sealed: Mapping[str, bytes]) -> None:
        """Opens the shares for this party; their senders and this party are the sharers.

        Args:
            sealed: sealed shares by sender; from the same sharers at every party.

        Raises:
            PrivacyError: too few, or shares that were modified, replayed, sealed to another party or sent by an
                unknown one (named); or other sharers than before.
        """
        parties = _require_stage(self._parties, "receive", "share")
        sharers = tuple(sorted({*sealed, self.name}))
        if self.sharers:
            if sharers != self.sharers:
                raise PrivacyError(f"{self.name!r} has received shares of other sharers: start another attempt")
            return
        if unknown := tuple(sorted((set(sealed) - set(parties.keys)) | (set(sealed) & {self.name}))):
            raise PrivacyError(f"shares of unknown parties {', '.join(map(repr, unknown))}: exclude them", unknown)
        self.parameters.require_enough(sharers, "shared")
        opened = {
            dealer: unseal(box, self._secrets.seal, dealer, self.name, parties)
            for dealer, box in sorted(sealed.items())
        }
        self._held.update(opened)
        self.sharers = sharers

    def mask(self, vector: Tensor) -> Tensor:
        """Masks its vector; once only, since the difference of two masked vectors is not hidden.

        Args:
            vector: int32 (n,), quantised.

        Returns:
            int32 (n,), new; uniform over 2^32 to all others.

        Raises:
            PrivacyError: not a quantised vector, before `receive`, a second time, or after it was counted as dropped.
        """
        require_vector(vector, self.name)
        return self.masking().next(vector)

    def masking(self) -> VectorMasking:
        """Begins to mask its vector, slice by slice; once only.

        Raises:
            PrivacyError: before `receive`, a second time, or after it was counted as dropped.
        """
        parties = _require_stage(self._parties if self.sharers else None, "mask", "receive")
        if self._has_masked:
            raise PrivacyError(f"{self.name!r} has masked a vector already: send that one again")
        if self._agreement is not None:
            raise PrivacyError(f"{self.name!r} was counted as dropped: start another attempt")
        masks = [(own_key(self._secrets.seed, self.name, parties), 1)]
        masks += [
            (pair_key(self._secrets.mask, self.name, other, parties), mask_sign(self.name, other))
            for other in self.sharers
            if other != self.name
        ]
        self._has_masked = True
        return VectorMasking(self.name, masks)

    def vote(self, survivors: Iterable[str], dropped: Iterable[str]) -> bytes:
        """Signs a set of survivors; one set only in its lifetime.

        Args:
            survivors: parties whose masked vectors are in the sum, at least `threshold`.
            dropped: all other sharers.

        Returns:
            `consistency_check.VOTE_BYTES` bytes; the same on every call with the same survivors.

        Raises:
            PrivacyError: too few survivors, sharers that are in both or neither, or other survivors than before.
        """
        parties = _require_stage(self._parties if self.sharers else None, "vote", "receive")
        alive, gone = set(survivors), set(dropped)
        if wrong := tuple(sorted((alive & gone) | (set(self.sharers) ^ (alive | gone)))):
            raise PrivacyError(
                f"{', '.join(map(repr, wrong))}: expected every sharer either in survivors or in dropped, and no "
                "other party",
                wrong,
            )
        agreement = SurvivorSet(parties, self.sharers, tuple(sorted(alive)))
        if self._agreement is not None and self._agreement != agreement:
            raise PrivacyError(f"{self.name!r} has voted for other survivors; a second set could reveal an update")
        if self.name in alive and not self._has_masked:
            raise PrivacyError(
                f"{self.name!r} is among the survivors, but has not masked a vector: count it as dropped"
            )
        self._agreement = agreement
        return sign_vote(agreement, self.name, self._secrets.sign)

    def check_vote(self, name: str, vote: bytes) -> None:
        """Verifies another party's vote.

        Raises:
            PrivacyError: it is invalid, or for other survivors than this party's; names the party.
        """
        require_vote(_require_stage(self._agreement, "check_vote", "vote"), name, vote)

    def reveal(self, votes: Mapping[str, bytes]) -> bytes:
        """Reveals its shares of the survivors' seeds and of the dropped parties' keys, for the set that it voted for.

        Args:
            votes: votes by party; with its own at least `threshold`.

        Returns:
            `unmasking.reveal_bytes(len(sharers))` bytes; the same on every call.

        Raises:
            PrivacyError: before `vote`, too few votes, or one for other survivors; names the party.
        """
        agreement = _require_stage(self._agreement, "reveal", "vote")
        own = sign_vote(agreement, self.name, self._secrets.sign)
        require_threshold_votes(agreement, {**votes, self.name: own})
        shares = {name: self._held[name][agreement.kind(name)] for name in self.sharers}
        self._revealed = reveal(agreement, shares)
        return self._revealed

    def check_reveal(self, name: str, revealed: bytes) -> None:
        """Verifies another party's reveal.

        Raises:
            PrivacyError: it is invalid, or for other survivors than this party's; names the party.
        """
        parse_reveal(_require_stage(self._agreement, "check_reveal", "vote"), name, revealed)

    def unmask(self, total: Tensor, reveals: Mapping[str, bytes], offset: int = 0) -> Tensor:
        """The exact sum of the survivors' vectors.

        Args:
            total: int32 (n,), the sum of exactly the survivors' masked vectors (`masking.summed`), or a slice of it.
            reveals: reveals by party; with its own at least `threshold`.
            offset: position of the slice in the vectors.

        Returns:
            int32 (n,), modulo 2^32.

        Raises:
            PrivacyError: before `reveal`, too few reveals, an invalid one, or a party with inconsistent shares; names
                the party.
        """
        agreement = _require_stage(self._agreement if self._revealed else None, "unmask", "reveal")
        return unmask(agreement, total, {**reveals, self.name: self._revealed}, offset)

    def _advertised(self) -> PartyKeys:
        secrets = self._secrets
        signer = Ed25519PrivateKey.from_private_bytes(secrets.sign).public_key().public_bytes_raw()
        committed = commitment(secrets.seed, self.name, self.parameters)
        return PartyKeys(public_key(secrets.seal), public_key(secrets.mask), signer, committed)

    def _deal(self, parties: SecureSumParties) -> None:
        secrets: dict[Kind, bytes] = {"key": self._secrets.mask, "seed": self._secrets.seed}
        dealt = {
            kind: deal(secret, kind, self.name, parties, signer=self._secrets.sign, random=self._random)
            for kind, secret in secrets.items()
        }
        boxes: dict[str, DealtShares] = {
            name: {kind: shares[name] for kind, shares in dealt.items()} for name in parties.keys
        }
        self._outgoing = {
            name: seal(box, self._secrets.seal, self.name, name, parties)
            for name, box in boxes.items()
            if name != self.name
        }
        self._held[self.name] = boxes[self.name]
        self._parties = parties


def _require_stage(value: T | None, stage: str, before: str) -> T:
    if value is None:
        raise PrivacyError(f"`{stage}` called before `{before}`: call the stages in order")
    return value

"""One party of a secure sum: everybody learns the sum of the survivors' vectors, nobody a single one.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", figure 4, with double
masking. Every pair of peers agrees on a mask that one adds and the other takes away; each adds a mask of its own, too.
Of a peer that survives, the others reveal the seed of its own mask; of one that dropped, the key of its pairwise masks,
so that its vector stays hidden by its own mask even if it comes late. Never both.

The stages, each with what the others must be sent:

    advertise() -> keys                to everybody; authenticated by whoever carries them
    share(keys of all) -> sealed       to each its own
    receive(sealed from all)           everybody from the same peers: the sharers
    mask(vector) -> masked             to whoever adds up
    vote(survivors, dropped) -> vote   to everybody
    reveal(votes) -> reveal            to everybody, once as many as the threshold voted for the same survivors
    unmask(sum, reveals) -> sum        by everybody

Differs from the paper: no server. The lead only says who is in, and may lie: a party votes once and reveals only what
it voted for, the threshold is more than half, and everything is bound to what its sender believes, so that a lie ends
in a refusal (see `secure_sum_setup` and `consistency_check`). A party serves one attempt. Refuses to know the network,
the time and what the numbers mean.
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
from fednet.privacy.masking import KEY, add_mask, public_key, require_vector
from fednet.privacy.secure_sum_setup import Kind, PartyKeys, SecureSumParameters, SecureSumParties, SurvivorSet
from fednet.privacy.shares import DealtShares, deal, seal, unseal
from fednet.privacy.unmasking import commitment, mask_sign, own_key, pair_key, parse_reveal, reveal, unmask

T = TypeVar("T")


@dataclass(frozen=True)
class _Secrets:
    """What never leaves a party, but in shares."""

    seal: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    sign: bytes = field(repr=False)
    seed: bytes = field(repr=False)


class SecureSumParty:
    """One peer in one attempt at a secure sum. Every stage either happens or raises and changes nothing.

    Attributes:
        name: its own.
        parameters: who may take part, the threshold and the attempt.
        private: whether its secrets are; a sum with a seeded party in it must be marked NOT PRIVATE.
        sharers: the peers whose masks are in its vector, sorted; () before `receive`.
    """

    def __init__(
        self, name: str, names: Iterable[str], threshold: int, attempt: bytes, random: Random = SYSTEM
    ) -> None:
        """Draws fresh keys.

        Args:
            name: its own.
            names: of everybody who may take part, itself among them.
            threshold: how many survivors the sum needs; more than half of the names, and at least 3.
            attempt: the context: what tells this attempt from every other one (run, model, round, attempt).
            random: where secrets come from.

        Raises:
            PrivacyError: a threshold or names under which a sum would not be private, or could never be unmasked.
        """
        self.name = name
        self.parameters = SecureSumParameters(tuple(sorted(names)), threshold, attempt)
        self.private = is_private(random)
        self.sharers: tuple[str, ...] = ()
        if name not in self.parameters.names:
            raise PrivacyError(f"{name!r} is not one of the {len(self.parameters.names)} peers: add it to them")
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
        return f"Party({self.name!r}, {self.parameters.threshold} of {len(self.parameters.names)})"

    def advertise(self) -> bytes:
        """Its public keys, `secure_sum_setup.KEYS_BYTES` bytes; the same ones whenever it is asked."""
        return self._keys.packed()

    def share(self, keys: Mapping[str, bytes]) -> dict[str, bytes]:
        """Deals its secrets to everybody who advertised keys.

        Args:
            keys: by whose they are, at least the threshold's number, its own among them; the same at every party.

        Returns:
            What is for whom, `shares.SEALED_BYTES` bytes each; the same whenever it is asked with the same keys.

        Raises:
            PrivacyError: too few keys, a stranger's, a repeated or a malformed one, or others than before.
        """
        parties = SecureSumParties(
            self.parameters, {name: PartyKeys.unpacked(packed, name) for name, packed in sorted(keys.items())}
        )
        if keys.get(self.name) != self.advertise():
            raise PrivacyError(f"the keys for {self.name!r} are not its own: send every party's keys as they came")
        if self._parties is not None and self._parties.digest != parties.digest:
            raise PrivacyError(f"{self.name!r} has shared under other keys: begin another attempt")
        if self._parties is None:
            self._deal(parties)
        return dict(self._outgoing)

    def receive(self, sealed: Mapping[str, bytes]) -> None:
        """Takes what the others dealt it: they and it are the sharers, and their masks will be in its vector.

        Args:
            sealed: by who sent it; from the same peers at every party, whatever the party's own.

        Raises:
            PrivacyError: too few, or one that was tampered with, replayed, meant for another peer or comes from a
                stranger (named); or other sharers than before.
        """
        parties = _need(self._parties, "receive", "share")
        sharers = tuple(sorted({*sealed, self.name}))
        if self.sharers:
            if sharers != self.sharers:
                raise PrivacyError(f"{self.name!r} has agreed on other sharers: begin another attempt")
            return
        if strangers := tuple(sorted((set(sealed) - set(parties.keys)) | (set(sealed) & {self.name}))):
            raise PrivacyError(f"shares of {', '.join(map(repr, strangers))}: leave them out", strangers)
        self.parameters.require_enough(sharers, "shared")
        opened = {
            dealer: unseal(box, self._secrets.seal, dealer, self.name, parties)
            for dealer, box in sorted(sealed.items())
        }
        self._held.update(opened)
        self.sharers = sharers

    def mask(self, vector: Tensor) -> Tensor:
        """Its vector under all its masks; once only, for the difference of two would show.

        Args:
            vector: int32 (n,), quantised.

        Returns:
            int32 (n,), new; uniform over 2^32 to everybody else.

        Raises:
            PrivacyError: no quantised vector, before `receive`, a second time, or after it was counted as dropped.
        """
        parties = _need(self._parties if self.sharers else None, "mask", "receive")
        masked = require_vector(vector, self.name).clone().contiguous()
        if self._has_masked:
            raise PrivacyError(f"{self.name!r} has masked a vector already: send that one again")
        if self._agreement is not None:
            raise PrivacyError(f"{self.name!r} was counted as dropped: begin another attempt")
        keys = {
            other: pair_key(self._secrets.mask, self.name, other, parties)
            for other in self.sharers
            if other != self.name
        }
        self._has_masked = True
        add_mask(masked, own_key(self._secrets.seed, self.name, parties), 1)
        for other, key in keys.items():
            add_mask(masked, key, mask_sign(self.name, other))
        return masked

    def vote(self, survivors: Iterable[str], dropped: Iterable[str]) -> bytes:
        """Its word that these are the survivors: for one set, ever.

        Args:
            survivors: whose masked vectors are in the sum, at least the threshold's number.
            dropped: all other sharers.

        Returns:
            `consistency_check.VOTE_BYTES` bytes; the same whenever it is asked with the same survivors.

        Raises:
            PrivacyError: too few survivors, sharers that are both or neither, or other survivors than before.
        """
        parties = _need(self._parties if self.sharers else None, "vote", "receive")
        alive, gone = set(survivors), set(dropped)
        if wrong := tuple(sorted((alive & gone) | (set(self.sharers) ^ (alive | gone)))):
            raise PrivacyError(
                f"{', '.join(map(repr, wrong))}: every sharer either survives or dropped, and nobody else does", wrong
            )
        agreement = SurvivorSet(parties, self.sharers, tuple(sorted(alive)))
        if self._agreement is not None and self._agreement != agreement:
            raise PrivacyError(
                f"{self.name!r} has voted for other survivors, and a second set could open an update: refused"
            )
        if self.name in alive and not self._has_masked:
            raise PrivacyError(f"{self.name!r} is to survive, but has masked nothing: count it as dropped")
        self._agreement = agreement
        return sign_vote(agreement, self.name, self._secrets.sign)

    def check_vote(self, name: str, vote: bytes) -> None:
        """Looks at another peer's vote as soon as it is there.

        Raises:
            PrivacyError: it is false, or for other survivors than this party's; names the peer.
        """
        require_vote(_need(self._agreement, "check_vote", "vote"), name, vote)

    def reveal(self, votes: Mapping[str, bytes]) -> bytes:
        """Shares of the seeds of those survivors that it voted for, and of the keys of those who dropped.

        Args:
            votes: by whose they are, with its own at least the threshold's number.

        Returns:
            `unmasking.reveal_bytes(len(sharers))` bytes; the same whenever it is asked.

        Raises:
            PrivacyError: before `vote`, too few votes, or one for other survivors; names whose.
        """
        agreement = _need(self._agreement, "reveal", "vote")
        own = sign_vote(agreement, self.name, self._secrets.sign)
        require_threshold_votes(agreement, {**votes, self.name: own})
        shares = {name: self._held[name][agreement.kind(name)] for name in self.sharers}
        self._revealed = reveal(agreement, shares)
        return self._revealed

    def check_reveal(self, name: str, revealed: bytes) -> None:
        """Looks at another peer's reveal as soon as it is there.

        Raises:
            PrivacyError: it is false, or for other survivors than this party's; names the peer.
        """
        parse_reveal(_need(self._agreement, "check_reveal", "vote"), name, revealed)

    def unmask(self, total: Tensor, reveals: Mapping[str, bytes], offset: int = 0) -> Tensor:
        """The exact sum of the survivors' vectors.

        Args:
            total: int32 (n,), the sum of exactly the survivors' masked vectors (`masking.summed`), or a piece of it.
            reveals: by whose they are, with its own at least the threshold's number.
            offset: where in the vectors the piece begins.

        Returns:
            int32 (n,), modulo 2^32.

        Raises:
            PrivacyError: before `reveal`, too few reveals, a false one, or a peer that dealt falsely; names whose.
        """
        agreement = _need(self._agreement if self._revealed else None, "unmask", "reveal")
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


def _need(value: T | None, stage: str, before: str) -> T:
    if value is None:
        raise PrivacyError(f"`{stage}` comes after `{before}`: take the stages in their order")
    return value

"""A secure sum inside a round: what leaves a member is masked, and only the sum of all is ever opened.

    trained -> keys to all -> the lead names the sharers -> shares to each -> masked contribution (as any other)
    closed  -> votes on the survivors -> reveals -> the sum is unmasked by everybody

Carries `fednet.privacy.secure_sum` between members; what is safe to say when is decided there. A lost sharer breaks
the attempt before everybody holds its shares, and is dropped after that; another attempt has other keys and masks.
Refuses to know how the masked vectors travel and are added up (`nodes.rounds.participant`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, int32, zeros

from fednet.api import ModelState, Update
from fednet.errors import PrivacyError
from fednet.federated.blocks import coordinates
from fednet.federated.config import Secure
from fednet.privacy.consistency_check import require_vote
from fednet.privacy.masking import sum_masked
from fednet.privacy.quantise import Quantiser, apply_change, difference
from fednet.privacy.secure_sum import SecureSumParty
from fednet.privacy.secure_sum_setup import (
    PartyKeys,
    SecureSumParameters,
    SecureSumParties,
    SurvivorSet,
    default_threshold,
)
from fednet.privacy.unmasking import parse_reveal, unmask
from nodes.compute import ComputeThread
from protocol.messages import Message
from protocol.messages.rounds import ContributionRef, RoundOpen
from protocol.messages.secure_sum import (
    ConsistencyCheck,
    EncryptedShare,
    KeyAdvertisement,
    SecureSumMessage,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)
from protocol.rounds import round_message

log = logging.getLogger(__name__)

MASKED_TENSOR = "masked"
"""The one tensor of a masked contribution: int32 (coordinates,)."""


def threshold_of(secure: Secure, contributors: int) -> int:
    """How many survivors a secure sum needs."""
    return secure.threshold or default_threshold(contributors)


class SecureSumParticipant:
    """One member's part in the secure sum of one attempt.

    Args:
        name: this member.
        run: the run's name.
        opened: the attempt.
        lead: who leads it.
        secure: how values are cut and how many survivors it takes.
        reducer: the thread for everything that takes time.
        say: tells all members.
        tell: tells one member.
        revealed: whose sums this member has opened before, by model and round: the difference of the sums of one
            round with and without somebody would be what that one contributed.
    """

    def __init__(
        self,
        name: str,
        run: str,
        opened: RoundOpen,
        lead: str,
        secure: Secure,
        *,
        reducer: ComputeThread,
        say: Callable[[Message], None],
        tell: Callable[[str, Message], None],
        revealed: dict[tuple[str, int], tuple[str, ...]],
    ) -> None:
        self._name, self._opened, self._lead, self._secure = name, opened, lead, secure
        self._reducer, self._say, self._tell, self._revealed = reducer, say, tell, revealed
        self._context = "/".join([run, opened.model, *map(str, (opened.number, opened.term, opened.attempt))]).encode()
        self._party: SecureSumParty | None = None
        self._key_advertisements: dict[str, KeyAdvertisement] = {}
        self._ciphertexts: dict[str, bytes] = {}
        self._votes: dict[str, bytes] = {}
        self._reveals: dict[str, bytes] = {}
        self._sharers: tuple[str, ...] = ()
        self._changed = asyncio.Event()

    def hear(self, sender: str, message: SecureSumMessage) -> None:
        """Something about the secure sum has come; the first of each sender counts."""
        match message:
            case KeyAdvertisement():
                self._key_advertisements.setdefault(sender, message)
            case ShareDistribution(sharers=names) if sender == self._lead and not self._sharers:
                self._sharers = names
            case EncryptedShare(ciphertext=box):
                self._ciphertexts.setdefault(sender, box)
            case ConsistencyCheck(signature=vote):
                self._votes.setdefault(sender, vote)
            case ShareReveal(shares=shares):
                self._reveals.setdefault(sender, shares)
        self._changed.set()

    def like(self, base: ModelState) -> ModelState:
        """What a masked contribution looks like."""
        return {MASKED_TENSOR: zeros(sum(len(coordinates(tensor)) for tensor in base.values()), dtype=int32)}

    async def outgoing(self, update: Update, base: ModelState) -> ModelState:
        """Our contribution under its masks, once everybody holds everybody's shares.

        Raises:
            PrivacyError: too few are there, or somebody has sent what is not right; names who.
        """
        party = self._party = SecureSumParty(self._name, self._opened.contributors, self._threshold, self._context)
        keys = party.advertise()
        self._say(self._about(KeyAdvertisement, public_keys=keys, weight=update.weight, values=dict(update.values)))
        await self._until(lambda: bool(self._sharers) and self._key_advertisements.keys() >= set(self._sharers))
        boxes = await self._reducer.run(partial(party.share, self._keys()))
        for name, box in boxes.items():
            self._tell(name, self._about(EncryptedShare, ciphertext=box))
        others = set(self._sharers) - {self._name}
        await self._until(lambda: self._ciphertexts.keys() >= others)
        await self._reducer.run(partial(party.receive, {name: self._ciphertexts[name] for name in others}))
        self._tell(self._lead, self._about(SharesReceived))
        return {MASKED_TENSOR: await self._reducer.run(partial(self._mask, party, update, base))}

    def combine(self, states: Mapping[str, ModelState]) -> ModelState:
        """The sum of masked vectors, or of shards of them."""
        vectors = {name: state[MASKED_TENSOR] for name, state in states.items() if MASKED_TENSOR in state}
        return {MASKED_TENSOR: sum_masked(vectors)} if vectors else {}

    async def opened(self, total: ModelState, shares: Mapping[str, ContributionRef], base: ModelState) -> ModelState:
        """The mean of the survivors' contributions, from the sum of their masked vectors.

        Raises:
            PrivacyError: the sum cannot be opened.
        """
        survivors = tuple(sorted(shares))
        agreement = SurvivorSet(self._roster(), self._sharers, survivors)
        if self._party is not None and self._name in self._sharers:
            await self._reveal(self._party, agreement)
        reveals = await self._enough(self._reveals, partial(_is_valid, parse_reveal, agreement))
        change = await self._reducer.run(partial(self._change, agreement, total[MASKED_TENSOR], reveals))
        return await self._reducer.run(partial(apply_change, base, change))

    async def _reveal(self, party: SecureSumParty, agreement: SurvivorSet) -> None:
        """Votes for the survivors, and reveals once enough others did.

        Raises:
            PrivacyError: this member has opened the same round for other survivors.
        """
        before = self._revealed.get(self._round, agreement.survivors)
        if before != agreement.survivors:
            raise PrivacyError(
                f"round {self._opened.number} of {self._opened.model} was opened for {', '.join(before)} already, and "
                "without one of them their difference would show: go on from another model, or without `secure`"
            )
        dropped = set(self._sharers) - set(agreement.survivors)
        vote = party.vote(agreement.survivors, dropped)
        self._say(self._about(ConsistencyCheck, signature=vote))
        votes = await self._enough(self._votes, partial(_is_valid, require_vote, agreement))
        self._revealed[self._round] = agreement.survivors
        shares = await self._reducer.run(partial(party.reveal, votes))
        self._say(self._about(ShareReveal, shares=shares))

    def _change(self, agreement: SurvivorSet, total: Tensor, reveals: Mapping[str, bytes]) -> Tensor:
        """The mean change, on the reducer's thread."""
        weights = [self._weight(name) for name in agreement.survivors]
        return self._quantiser.mean(unmask(agreement, total, reveals), weights)

    def _mask(self, party: SecureSumParty, update: Update, base: ModelState) -> Tensor:
        change = difference(update.state, base)
        if beyond := self._quantiser.exceeding(change):
            log.info("%d of %d values are cut to %g before they are masked", beyond, len(change), self._secure.clip)
        return party.mask(self._quantiser.encode(change, self._weight(self._name)))

    def _weight(self, name: str) -> float:
        """A weight relative to the largest one."""
        return self._key_advertisements[name].weight / max(
            self._key_advertisements[sharer].weight for sharer in self._sharers
        )

    def _keys(self) -> dict[str, bytes]:
        return {name: self._key_advertisements[name].public_keys for name in self._sharers}

    def _roster(self) -> SecureSumParties:
        terms = SecureSumParameters(tuple(sorted(self._opened.contributors)), self._threshold, self._context)
        return SecureSumParties(terms, {name: PartyKeys.unpacked(keys, name) for name, keys in self._keys().items()})

    async def _enough(self, said: Mapping[str, bytes], passes: Callable[[str, bytes], bool]) -> dict[str, bytes]:
        """Waits until as many as the threshold have said what is right, and returns that.

        Each is looked at once, on the reducer's thread, for signatures take time; whoever said something else is left
        out, and named in the log.
        """
        right: dict[str, bytes] = {}
        seen: set[str] = set()
        while len(right) < self._threshold:
            await self._until(lambda: said.keys() - seen)
            for name in sorted(said.keys() - seen):
                seen.add(name)
                if await self._reducer.run(partial(passes, name, said[name])):
                    right[name] = said[name]
        return right

    @property
    def _round(self) -> tuple[str, int]:
        return self._opened.model, self._opened.number

    @property
    def _threshold(self) -> int:
        return threshold_of(self._secure, len(self._opened.contributors))

    @property
    def _quantiser(self) -> Quantiser:
        return Quantiser(self._secure.clip, len(self._sharers))

    async def _until(self, there: Callable[[], object]) -> None:
        while not there():
            self._changed.clear()
            await self._changed.wait()

    def _about(self, kind: type[Any], **fields: Any) -> Any:
        return round_message(kind, self._opened, **fields)


def _is_valid(
    check: Callable[[SurvivorSet, str, bytes], object], agreement: SurvivorSet, name: str, content: bytes
) -> bool:
    try:
        check(agreement, name, content)
    except PrivacyError as error:
        log.warning("%s", error)
        return False
    return True

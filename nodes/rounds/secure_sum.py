"""A secure sum within a round: contributions leave a member masked, and only the sum of all is ever unmasked.

    trained -> keys to all -> the leader names the sharers -> shares to each -> masked contribution (as any other)
    closed  -> signatures over the survivors -> reveals -> every member unmasks the sum

Carries `fednet.privacy.secure_sum` between members; what is safe to send when is decided there. The loss of a sharer
ends the attempt until everybody holds its shares, and only drops it after that; another attempt has other keys and
masks. Knows nothing of how the masked vectors travel and are added up (`nodes.rounds.reduction`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from fednet.api import ModelState, Update
from fednet.errors import PrivacyError
from fednet.federated.config import Secure
from fednet.federated.packed_state import PackedState
from fednet.privacy.consistency_check import require_vote
from fednet.privacy.masked_state import MASKED_TENSOR, masked_state, unmasked_state
from fednet.privacy.quantise import Quantiser
from fednet.privacy.secure_sum import SecureSumParty
from fednet.privacy.secure_sum_setup import (
    PartyKeys,
    SecureSumParameters,
    SecureSumParties,
    SurvivorSet,
)
from fednet.privacy.threshold import default_threshold
from fednet.privacy.unmasking import Unmasking, parse_reveal
from nodes.rounds.context import RoundContext
from nodes.rounds.revealed import RevealedSum
from protocol.machines.statements import AttemptStatements
from protocol.messages.round_values import ContributionRef
from protocol.messages.rounds import RoundMessage, RoundOpen
from protocol.messages.secure_sum import (
    ConsistencyCheck,
    EncryptedShare,
    Equivocation,
    KeyAdvertisement,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)
from protocol.rounds import round_message
from protocol.transcript import is_same

log = logging.getLogger(__name__)


def threshold_of(secure: Secure, contributors: int) -> int:
    """How many survivors a secure sum needs."""
    return secure.threshold or default_threshold(contributors)


class SecureSumParticipant:
    """One member's part in the secure sum of one attempt.

    Args:
        context: what this member works with. Its `revealed` holds the sums for which it has revealed shares.
        opened: the attempt.
        leader: leads it.
        secure: how values are clipped and how many survivors it takes.
        statements: what is signed in this attempt.
    """

    def __init__(
        self, context: RoundContext, opened: RoundOpen, leader: str, secure: Secure, statements: AttemptStatements
    ) -> None:
        self._context, self._opened, self._leader, self._secure = context, opened, leader, secure
        self._statements, self._session = statements, bytes.fromhex(statements.opening)
        self._party: SecureSumParty | None = None
        self._advertisements: dict[str, KeyAdvertisement] = {}
        self._ciphertexts: dict[str, bytes] = {}
        self._signatures: dict[str, bytes] = {}
        self._reveals: dict[str, bytes] = {}
        self._sharers: tuple[str, ...] = ()
        self._changed = asyncio.Event()

    def receive(self, sender: str, message: RoundMessage) -> None:
        """Takes in a member's message about the secure sum; the first of its kind counts."""
        match message:
            case KeyAdvertisement():
                if refusal := self._statements.refusal(sender, message):
                    log.warning("the keys of %s for round %d are refused: %s", sender, message.number, refusal)
                else:
                    self._advertised(sender, message)
            case ShareDistribution() if sender == self._leader and not self._sharers:
                for name, advertisement in message.advertisements.items():
                    if not self._statements.refusal(name, advertisement):
                        self._advertised(name, advertisement)
                self._sharers = tuple(sorted(message.advertisements))
            case EncryptedShare(ciphertext=ciphertext):
                self._ciphertexts.setdefault(sender, ciphertext)
            case ConsistencyCheck(signature=signature):
                self._signatures.setdefault(sender, signature)
            case ShareReveal(shares=shares):
                self._reveals.setdefault(sender, shares)
        self._changed.set()

    def _advertised(self, name: str, advertisement: KeyAdvertisement) -> None:
        """A member's keys; whoever has signed others for the same opening has lied to somebody, and all are told."""
        first = self._advertisements.setdefault(name, advertisement)
        if not is_same(first, advertisement):
            log.warning("%s has advertised different keys or weights for round %d", name, self._opened.number)
            proof = self._about(Equivocation, advertiser=name, first=first, second=advertisement)
            self._context.tell(self._leader, proof)

    async def masked(self, update: Update, base: ModelState) -> PackedState:
        """Our contribution under its masks, once everybody holds everybody's shares.

        Raises:
            PrivacyError: too few take part, a member has sent something invalid, or this member has revealed shares for
                others than the contributors; names who is to be left out.
        """
        context, run = self._context, self._context.reducer.run
        context.revealed.require_only(self._sum_of(self._opened.contributors))
        party = self._party = SecureSumParty(context.name, self._opened.contributors, self._threshold, self._session)
        advertisement = self._about(
            KeyAdvertisement, opening=self._statements.opening, public_keys=party.advertise(),
            weight=update.weight, values=dict(update.values),
        )  # fmt: skip
        context.publish(context.signatory.signed(advertisement))
        await self._until(lambda: bool(self._sharers) and self._advertisements.keys() >= set(self._sharers))
        if context.name not in self._sharers:
            raise PrivacyError(f"{self._leader} has named the sharers without {context.name}, whose keys were too late")
        self._require_equal_weights()
        for name, ciphertext in (await run(partial(party.share, self._keys(), self._transcript()))).items():
            context.tell(name, self._about(EncryptedShare, ciphertext=ciphertext))
        others = set(self._sharers) - {context.name}
        await self._until(lambda: self._ciphertexts.keys() >= others)
        await run(partial(party.receive, {name: self._ciphertexts[name] for name in others}))
        context.tell(self._leader, self._about(SharesReceived))
        return await run(partial(self._mask, party, update, base))

    async def unmasked(
        self, total: PackedState, contributions: Mapping[str, ContributionRef], base: ModelState
    ) -> PackedState:
        """The mean of the survivors' contributions, from the sum of their masked vectors.

        Raises:
            PrivacyError: the sum cannot be unmasked, or a contribution does not count what its member has advertised.
        """
        for name, contribution in contributions.items():
            keys = self._advertisements.get(name)
            said = keys and ContributionRef(weight=keys.weight, blobs=contribution.blobs, values=keys.values)
            if said is None or not is_same(said, contribution):
                raise PrivacyError(f"the contribution of {name!r} has another weight than its keys", (name,))
        survivors = SurvivorSet(self._parties(), self._sharers, tuple(sorted(contributions)))
        if self._party is not None and self._context.name in self._sharers:
            await self._reveal(self._party, survivors)
        reveals = await self._enough(self._reveals, partial(_passes, parse_reveal, survivors))
        return await self._context.reducer.run(partial(self._unmask, survivors, total, reveals, base))

    async def _reveal(self, party: SecureSumParty, survivors: SurvivorSet) -> None:
        """Signs the set of survivors, and reveals shares once enough others did.

        Raises:
            PrivacyError: they are fewer than this member's quorum, or it has revealed shares of the same round, or
                base, for others.
        """
        context, names = self._context, survivors.survivors
        revealed = self._sum_of(names)
        context.require_quorum(names)
        context.revealed.require_only(revealed)
        signature = party.vote(names, set(self._sharers) - set(names))
        context.publish(self._about(ConsistencyCheck, signature=signature))
        signatures = await self._enough(self._signatures, partial(_passes, require_vote, survivors))
        await context.reducer.run(partial(context.revealed.remember, revealed))
        shares = await context.reducer.run(partial(party.reveal, signatures))
        context.publish(self._about(ShareReveal, shares=shares))

    def _sum_of(self, survivors: tuple[str, ...]) -> RevealedSum:
        """The sum of these members' contributions to this round."""
        opened = self._opened
        base = self._context.store.checkpoints[opened.model].version.outcome.digest
        return RevealedSum(model=opened.model, number=opened.number, base=base, survivors=survivors)

    def _unmask(
        self, survivors: SurvivorSet, total: PackedState, reveals: Mapping[str, bytes], base: ModelState
    ) -> PackedState:
        """On the reducer's thread."""
        weights, removal = [self._weight(name) for name in survivors.survivors], Unmasking(survivors, reveals).removal()
        quantiser = self._quantiser

        def mean(piece: Tensor) -> Tensor:
            return quantiser.mean(removal.next(piece), weights)

        clip, masked = self._secure.clip, total.state[MASKED_TENSOR]
        return unmasked_state(masked, base, clip, mean, self._context.store.allocate)

    def _mask(self, party: SecureSumParty, update: Update, base: ModelState) -> PackedState:
        """On the reducer's thread."""
        masking, weight, clip, clipped = party.masking(), self._weight(self._context.name), self._secure.clip, 0
        quantiser = self._quantiser

        def mask(change: Tensor) -> Tensor:
            nonlocal clipped
            clipped += quantiser.exceeding(change)
            return masking.next(quantiser.encode(change, weight))

        packed = masked_state(update.state, base, clip, mask, self._context.store.allocate)
        if clipped:
            log.info("%d values are clipped to %g before masking", clipped, clip)
        return packed

    def _require_equal_weights(self) -> None:
        """Where a site's noise is a part of the sum's, each contributor's must count the same.

        Raises:
            PrivacyError: some count more than others.
        """
        own = self._advertisements[self._context.name].weight
        others = [name for name in self._sharers if self._advertisements[name].weight != own]
        if self._context.floor.shares_noise and others:
            raise PrivacyError(
                f"its own configuration is the floor: all contributions count the same, and {', '.join(others)} "
                "advertised another weight"
            )

    def _weight(self, name: str) -> float:
        """A weight relative to the largest one."""
        return self._advertisements[name].weight / max(self._advertisements[each].weight for each in self._sharers)

    def _keys(self) -> dict[str, bytes]:
        return {name: self._advertisements[name].public_keys for name in self._sharers}

    def _parties(self) -> SecureSumParties:
        terms = SecureSumParameters(tuple(sorted(self._opened.contributors)), self._threshold, self._session)
        keys = {name: PartyKeys.unpacked(packed, name) for name, packed in self._keys().items()}
        return SecureSumParties(terms, keys, self._transcript())

    def _transcript(self) -> bytes:
        """What the masks, boxes, votes and reveals of this attempt are bound to."""
        return bytes.fromhex(self._statements.transcript({name: self._advertisements[name] for name in self._sharers}))

    async def _enough(self, received: Mapping[str, bytes], passes: Callable[[str, bytes], bool]) -> dict[str, bytes]:
        """Waits for as many valid messages as the threshold, and returns them.

        Each is checked once, on the reducer's thread since signatures take time; an invalid one is left out, and its
        sender is named in the log.
        """
        valid: dict[str, bytes] = {}
        seen: set[str] = set()
        while len(valid) < self._threshold:
            await self._until(lambda: received.keys() - seen)
            for name in sorted(received.keys() - seen):
                seen.add(name)
                if await self._context.reducer.run(partial(passes, name, received[name])):
                    valid[name] = received[name]
        return valid

    @property
    def _threshold(self) -> int:
        return threshold_of(self._secure, len(self._opened.contributors))

    @property
    def _quantiser(self) -> Quantiser:
        return Quantiser(self._secure.clip, len(self._sharers))

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _about(self, kind: type[Any], **fields: Any) -> Any:
        return round_message(kind, self._opened, **fields)


def _passes(check: Callable[[SurvivorSet, str, bytes], object], survivors: SurvivorSet, name: str, data: bytes) -> bool:
    try:
        check(survivors, name, data)
    except PrivacyError as error:
        log.warning("%s", error)
        return False
    return True

"""Secure sums among liars: the simulation of rounds with the real `SecureSumParticipant` of nodes, keys and masks.

A site masks and unmasks real vectors on an event loop that runs until it is idle after each step; only the way of the
vectors is cut short. At the end it is checked that the liars can compute no honest contribution
(`tests.byzantine.view`) and that nobody has revealed a sum of fewer than its floor, which its noise is accounted for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, reduce
from types import SimpleNamespace
from typing import Any, cast

import torch
from pydantic import ValidationError

from fednet.api import Update
from fednet.errors import MethodError, PrivacyError
from fednet.federated.config import Federation, Secure
from fednet.federated.floors import Floor
from fednet.federated.packed_state import PackedState
from fednet.federated.state_storage import WritableStorage
from fednet.privacy.masked_state import MASKED_TENSOR
from fednet.privacy.threshold import default_threshold
from nodes.rounds.context import RoundContext
from nodes.rounds.revealed import RevealedSums
from nodes.rounds.secure_sum import SecureSumParticipant
from protocol.machines import participant_values as taking_part
from protocol.machines.events import Heard
from protocol.machines.machine import MachineEvent
from protocol.machines.participant import RoundParticipant
from protocol.messages.round_values import BlobRef, ContributionRef
from protocol.messages.rounds import RoundClose, RoundOpen
from tests.byzantine.liar import Face
from tests.byzantine.scenario import GUEST, Scenario, Violation
from tests.byzantine.simulation import ByzantineWorld, HonestSite, require, simulate
from tests.byzantine.view import Masked, exposed
from tests.protocol.machines.simulated_site import Site
from tests.protocol.machines.simulated_values import PLAN, Terms

CLIP = 64.0
BASE = {"w": torch.zeros(4)}
TURNS = 6
"""Turns of the event loop in which work that waits for nobody is done; what is not is done after the next step."""


@dataclass(frozen=True)
class SumTerms(Terms):
    """Of a secure plan."""

    def threshold(self, contributors: int) -> int:
        return default_threshold(contributors)


@dataclass
class SumWorld(ByzantineWorld):
    """Members whose rounds are secure.

    Attributes:
        masked: by honest members; what with, and to which base and round.
        blobs: what can be fetched.
        revealed: for which sums each has revealed, on its disk.
        failure: of an honest member's work.
    """

    blobs: dict[str, PackedState] = field(default_factory=dict)
    masked: list[tuple[Any, SecureSumParticipant]] = field(default_factory=list)
    revealed: dict[str, RevealedSums] = field(default_factory=dict)
    failure: Violation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.least = max(self.scenario.quorum, len(self.liars) + 2)
        federation = Federation(secure=Secure(clip=CLIP), quorum=self.floor(""))
        self.plan = PLAN.model_copy(update={"federation": federation.model_dump_json()})
        self.loop = asyncio.new_event_loop()

    @property
    def member(self) -> type[HonestSite]:
        return HonestSumSite

    def terms(self, name: str) -> Terms:
        plain = super().terms(name)
        return SumTerms(True, plain.quorum, plain.enough)

    def floor(self, name: str) -> int:
        return self.least

    def deliver(self, index: int, *, again: bool = False) -> None:
        super().deliver(index, again=again)
        self.settle()

    def work(self, index: int) -> None:
        super().work(index)
        self.settle()

    def settle(self) -> None:
        """Everything is done that waits for nobody."""
        if asyncio.all_tasks(self.loop):
            self.loop.run_until_complete(_turns())
        if self.failure is not None:
            raise self.failure

    def kill(self, name: str) -> None:
        for task in asyncio.all_tasks(self.loop):
            if task.get_name() == name:
                task.cancel()
        super().kill(name)

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(_turns())
        self.loop.close()

    @property
    def must_go_on(self) -> bool:
        """Nor are there any for others than shares were revealed for, from the same base."""
        base = max((self.disks[name].version for name in self.honest), key=lambda version: version.number)
        wanted = (PLAN.model, base.outcome.digest)
        sums = {each._survivors.get(wanted, self.honest) for name, each in self.revealed.items() if name in self.honest}
        enough = super().must_go_on and len(self.honest) >= self.least
        return enough and len(sums - {self.honest}) < 2 and set().union(*sums) <= set(self.honest)

    def require_private(self) -> None:
        """The liars can compute nothing, and nobody has revealed a sum below its floor."""
        vectors = []
        for contribution, each in self.masked:
            party = each._party
            assert party is not None
            weights = {name: each._advertisements[name].weight for name in each._sharers}
            vectors.append(Masked(party, contribution, weights))
            agreed = party._agreement if party._revealed else None
            below = agreed is not None and len(agreed.survivors) < self.least
            require(not below, f"{party.name} has revealed below its floor")
        found = exposed(vectors, self.liars)
        require(not found, f"{', '.join(self.liars)} can compute what was contributed: {sorted(found)}")


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Inline:
    """Does the work of a thread at once."""

    async def run(self, job: Callable[[], Any]) -> Any:
        return job()


class SumSite(Site):
    """A member of secure rounds."""

    world: SumWorld
    secure: tuple[RoundParticipant | None, SecureSumParticipant | None] = (None, None)

    @cached_property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What it has begun."""
        return []

    def open(self, sender: str, opened: RoundOpen) -> None:
        try:
            Federation.of_peer(opened.plan.federation)
        except ValidationError:  # a fault of the leader's, at a node's boundary
            return
        super().open(sender, opened)

    def take_part(self, event: MachineEvent) -> None:
        part = self.part
        super().take_part(event)
        if part is None or part is not self.part or not part.opened.contributors:
            return
        if part.is_over:
            for task in self.tasks:
                task.cancel()
        elif isinstance(event, Heard) and event.sender in part.holders and (secure := self.sum_of(part)) is not None:
            secure.receive(event.sender, event.message)

    def sum_of(self, part: RoundParticipant) -> SecureSumParticipant | None:
        """The secure sum of an attempt; None where its plan has none."""
        if self.secure[0] is not part:
            config = Federation.of_peer(part.opened.plan.federation).secure
            self.secure = (part, None)
            if config is not None:
                secure = SecureSumParticipant(self.context(), part.opened, part.leader, config, part.statements)
                self.secure = (part, secure)
        return self.secure[1]

    def context(self) -> RoundContext:
        """As much of a context as sums need."""
        checkpoints = {PLAN.model: SimpleNamespace(version=self.disk.version)}
        store: Any = SimpleNamespace(checkpoints=checkpoints, allocate=WritableStorage)
        unused: Any = None
        revealed = self.world.revealed.setdefault(self.name, RevealedSums(None))
        return RoundContext(
            self.name, unused, store, unused, cast("Any", Inline()), self.publish, self.tell, self.signatory, unused,
            lambda: 0, revealed, self.floor,
        )  # fmt: skip

    @property
    def floor(self) -> Floor:
        """Its own configuration."""
        return Floor(Secure(clip=CLIP), self.world.floor(self.name))

    def contribute(self, opened: RoundOpen) -> MachineEvent | None:
        assert self.part is not None
        return self.begin(self.part, self.contribution(self.part))

    def compute(self, opened: RoundOpen, close: RoundClose | None) -> MachineEvent | None:
        if close is None:
            return super().compute(opened, close)
        assert self.part is not None
        return self.begin(self.part, self.outcome(self.part, close))

    def begin(self, part: RoundParticipant, work: Coroutine[Any, Any, MachineEvent]) -> None:
        """Does work on the loop; its end is an event of the part, if that is still the present one."""

        async def whole() -> None:
            event = await work
            if self.part is part and self.name in self.world.sites:
                self.take_part(event)

        self.tasks.append(self.world.loop.create_task(self.contained(whole()), name=self.name))

    async def contained(self, work: Coroutine[Any, Any, None]) -> None:
        """An error of a liar's own code is its own."""
        with suppress(Exception):
            await work

    async def contribution(self, part: RoundParticipant) -> MachineEvent:
        """What has become of this member's contribution."""
        try:
            return taking_part.ContributionMade(await self._contribution(part.opened, self.sum_of(part)))
        except MethodError as error:
            peers = error.peers if isinstance(error, PrivacyError) else ()
            rejected = [taking_part.MemberRejected(name, str(error)) for name in peers]
            return rejected[0] if rejected else taking_part.ContributionDeclined(str(error)[:200])

    async def _contribution(self, opened: RoundOpen, secure: SecureSumParticipant | None) -> ContributionRef:
        federation = Federation.of_peer(opened.plan.federation)
        undercut = self.floor.undercut_by(federation, default_threshold(len(opened.contributors)))
        if undercut or secure is None:
            raise PrivacyError(undercut or "not secure")
        weight = 1.0 + self.world.names.index(self.name)
        update = Update({"w": torch.full((4,), 0.1 * weight * opened.number)}, weight, {"loss": 1.0})
        masked = await secure.masked(update, BASE)
        blob = BlobRef(digest=masked.tree.root, size=masked.tree.size)
        self.world.blobs[blob.digest] = masked
        if self.name in self.world.honest:
            self.world.masked.append(((self.name, opened.base.digest, opened.number), secure))
        offer = ContributionRef(weight=weight, blobs=(blob,), values={"loss": 1.0})
        self.world.offers[self.name, opened.number] = offer
        return offer

    async def outcome(self, part: RoundParticipant, close: RoundClose) -> MachineEvent:
        """What has become of the sum, as `nodes.rounds.part` says it."""
        secure, vectors = self.sum_of(part), []
        for name, contribution in sorted(close.contributions.items()):
            vector = self.world.blobs.get(contribution.blobs[0].digest if contribution.blobs else "")
            if vector is None:
                return taking_part.MemberRejected(name, "there is no such blob", gone=True)
            vectors.append(vector.state[MASKED_TENSOR])
        if secure is None or not vectors:
            return taking_part.PartFailed("there is no sum")
        try:
            total = PackedState.of({MASKED_TENSOR: reduce(torch.add, vectors)})
            mean = await secure.unmasked(total, close.contributions, BASE)
        except PrivacyError as error:
            at_fault = error.peers and taking_part.MemberRejected(error.peers[0], str(error))
            return at_fault or taking_part.PartFailed(str(error))
        except MethodError as error:
            return taking_part.PartFailed(str(error))
        return taking_part.OutcomeComputed(BlobRef(digest=mean.tree.root, size=mean.tree.size))


class HonestSumSite(SumSite, HonestSite):
    """An honest member of secure rounds."""

    world: SumWorld

    async def contained(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Violation as violation:
            self.world.failure = violation
        except Exception as error:
            self.world.failure = Violation(f"{self.name} has ended: {type(error).__name__}: {error}")


class SumFace(SumSite, Face):
    """The honest code of a liar in secure rounds."""


SumWorld.face = SumFace
SumWorld.command = "python -m tests.soak.byzantine --sums"


def simulate_sums(seed: int, **changes: Any) -> Counter[str]:
    """Plays what a seed makes, with secure rounds of four members and one liar, or of five and two.

    Raises:
        Violation: something that must not happen; says what, and by which seed.
    """
    dice = random.Random(f"sums {seed}")  # noqa: S311 - replayable
    names, count = dice.choice([("abcd", 1), ("abcde", 2)])
    liars = (GUEST,) if Scenario.of(seed).role == "guest" else tuple(sorted(dice.sample(names, count)))
    scenario = {"names": tuple(names), "liars": liars, "keyed": True, **changes}
    logging.disable(logging.WARNING)  # liars are named again and again
    try:
        return simulate(seed, SumWorld.of, **scenario)
    finally:
        logging.disable(logging.NOTSET)

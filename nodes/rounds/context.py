"""What a member's part in rounds is done with: its bench, its models, and blobs from and for its peers.

An outcome is taken over as a whole or not at all: whoever is told to stop meanwhile stops afterwards. Refuses to
know how a round runs (`nodes.rounds.participant`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial

from fednet.api import ModelState
from fednet.errors import MethodError, ModelError
from fednet.federated.state import digest, model_tensors, require_finite, require_like, unpack
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread
from nodes.errors import PeerError
from nodes.rounds.checkpoints import Checkpoint, CheckpointStore
from nodes.rounds.conversion import version_after
from nodes.rounds.worker import RoundWorker
from protocol.messages import Message
from protocol.messages.rounds import (
    BlobRef,
    LeaderAnnouncement,
    ModelVersion,
    RecordRequest,
    RoundCommit,
    RoundPlanMessage,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundContext:
    """What a member's seats work with.

    Attributes:
        name: this member.
        run: the run's name.
        bench: does the method's work.
        models: what this member has.
        depot: blobs that are offered and fetched.
        reducer: the thread on which states are packed, checked and reduced.
        say: tells all members, this one too.
        tell: tells one member, be it this one.
        revealed: by model and round, for whose sum this member has revealed shares; it does so for no other.
        sealed: whether this member contributes to secure rounds only, whatever is ordered.
    """

    name: str
    run: str
    bench: RoundWorker
    models: CheckpointStore
    blob_store: BlobStore
    reducer: ComputeThread
    say: Callable[[Message], None]
    tell: Callable[[str, Message], None]
    revealed: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    sealed: bool = False

    async def reach(
        self, model: str, standing: ModelVersion, holders: Sequence[str], term: int, record: RoundCommit | None = None
    ) -> Checkpoint:
        """Sees to it that this member has what others stand at; records that it missed are asked for.

        Raises:
            MethodError: the participant knows no such model, or one of other shapes.
            PeerError: nobody has it any more.
        """
        kept = await self.known(model)
        if kept.standing == standing:
            return kept
        state, data = await self._obtained(model, standing.outcome, holders)
        require_like(model_tensors(state), model_tensors(kept.state), "the peers' model")
        reached = Checkpoint(standing, state, data)
        await self.adopt(model, reached, term, record)
        missing = self.models.missing(model)
        if missing is not None and holders[0] != self.name:
            self.tell(holders[0], RecordRequest(model=model, after=missing - 1))
        return reached

    async def catch_up(self, lead: str, said: LeaderAnnouncement) -> None:
        """Reaches what the lead has, where no round does it anyway."""
        try:
            for model, standing in said.versions.items():
                if (await self.known(model)).standing.number < standing.number:
                    await self.reach(model, standing, (lead,), said.term)
        except (MethodError, PeerError) as error:  # it is behind until the next word of its lead
            log.warning("%s cannot catch up yet: %s", self.name, error)

    async def settled(self, record: RoundCommit, holders: Sequence[str]) -> Checkpoint:
        """What an earlier lead may have closed a round with.

        Raises:
            MethodError: it does not fit.
            PeerError: nobody has it any more.
        """
        vote = self.models.votes.get(record.model)
        if vote is not None and vote.kept.standing.outcome == record.outcome:
            return vote.kept
        state, data = await self._obtained(record.model, record.outcome, holders)
        return Checkpoint(version_after(record), state, data)

    async def adopt(self, model: str, kept: Checkpoint, term: int, record: RoundCommit | None = None) -> None:
        """Takes over a state for good: on disk, for peers that are behind, and for the participant."""
        await _run_uninterrupted(self._adopt(model, kept, term, record))

    async def vote(self, plan: RoundPlanMessage, record: RoundCommit, kept: Checkpoint) -> None:
        """Keeps for good what this member is about to vote for."""
        await _run_uninterrupted(self._vote(plan, record, kept))

    async def fetch(self, piece: BlobRef, holders: Sequence[str]) -> memoryview:
        """A blob, from the first of the holders that has it."""
        others = [name for name in dict.fromkeys(holders) if name != self.name]
        return await self.blob_store.fetch(piece.digest, piece.size, others)

    async def known(self, model: str) -> Checkpoint:
        """What this member has of a model; the beginning, where no round has touched it.

        Raises:
            MethodError: the participant knows no such model.
        """
        if model in self.models.kept:
            return self.models.kept[model]
        state = await self.bench.initial_state(model)
        kept = await self.reducer.run(partial(Checkpoint.of, state))
        if model not in self.models.kept:
            await self.reducer.run(partial(self.models.adopt, model, kept, 0))
            self.blob_store.keep(kept.standing.outcome.digest, kept.packed)
        return self.models.kept[model]

    async def resume(self) -> None:
        """Hands what earlier lives have left to the participant, and offers it to peers that are behind.

        Raises:
            MethodError: the participant can no longer use it.
        """
        for vote in self.models.votes.values():
            self.blob_store.keep(vote.kept.standing.outcome.digest, vote.kept.packed)
        for model, kept in self.models.kept.items():
            self.blob_store.keep(kept.standing.outcome.digest, kept.packed)
            if kept.standing.number:
                await self.bench.adopt(model, kept.standing.number, kept.state)

    async def _obtained(
        self, model: str, left: BlobRef, holders: Sequence[str]
    ) -> tuple[ModelState, bytes | memoryview]:
        vote = self.models.votes.get(model)
        if vote is not None and vote.kept.standing.outcome == left:
            return vote.kept.state, vote.kept.packed
        data = await self.fetch(left, holders)
        return await self.reducer.run(partial(unpack_state, data, left.digest)), data

    async def _adopt(self, model: str, kept: Checkpoint, term: int, record: RoundCommit | None) -> None:
        self.bench.interrupt()
        before = self._offered(model)
        await self.reducer.run(partial(self.models.adopt, model, kept, term, record))
        self._offer(model, before)
        await self.bench.adopt(model, kept.standing.number, kept.state)

    async def _vote(self, plan: RoundPlanMessage, record: RoundCommit, kept: Checkpoint) -> None:
        before = self._offered(record.model)
        await self.reducer.run(partial(self.models.vote, plan, record, kept))
        self._offer(record.model, before)

    def _offered(self, model: str) -> list[Checkpoint]:
        """What peers may fetch of a model."""
        vote, kept = self.models.votes.get(model), self.models.kept.get(model)
        return [*([kept] if kept else []), *([vote.kept] if vote else [])]

    def _offer(self, model: str, before: Sequence[Checkpoint]) -> None:
        for each in self._offered(model):
            self.blob_store.keep(each.standing.outcome.digest, each.packed)
        for each in before:
            self.blob_store.drop(each.standing.outcome.digest)


def unpack_state(data: memoryview, digest_: str) -> ModelState:
    """The state in a blob.

    Raises:
        ModelError: it is not the state that has this digest.
    """
    state = unpack(data)
    if digest(state) != digest_:
        raise ModelError(f"what was fetched is not the state {digest_[:12]}")
    return state


def unpack_validated_state(data: memoryview, name: str, like: ModelState, whose: str) -> ModelState:
    """The state in a blob, once it fits.

    Raises:
        ModelError: it is another one, not of the names and shapes of `like`, or not finite.
    """
    state = unpack_state(data, name)
    require_like(state, like, whose)
    require_finite(state, whose)
    return state


async def wait_finished(task: asyncio.Future[None]) -> None:
    """Waits until a task has ended, also when whoever waits is cancelled meanwhile: it then stops afterwards."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _run_uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Does work to its end, even if whoever waits for it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    await wait_finished(task)
    task.result()

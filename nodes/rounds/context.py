"""What a member's part in rounds works with: the participant, the checkpoints, and models from and for its peers.

Every state of a peer enters through `RoundContext.fetch_state` and is checked there, once. An outcome is adopted as a
whole or not at all: a cancellation takes effect afterwards. Knows nothing of how a round runs
(`nodes.rounds.part`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fednet.api import ModelState
from fednet.errors import ModelError, PrivacyError
from fednet.federated.floors import Floor
from fednet.federated.hash_tree import CHUNK, HashTree
from fednet.federated.packed_state import PackedState
from fednet.federated.state import model_tensors, require_finite, require_like, size
from fednet.federated.state_file import MAX_HEADER_BYTES, Layout
from fednet.federated.state_storage import StateStorage
from fednet.files import make_folder, write_whole
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread
from nodes.rounds.checkpoints import Checkpoint, CheckpointStore
from nodes.rounds.links import MemberLinks
from nodes.rounds.revealed import RevealedSums
from nodes.rounds.worker import RoundWorker
from protocol.certificates import possibly_committed
from protocol.machines.signatory import Signatory
from protocol.machines.story import Subject, packed
from protocol.messages import Message
from protocol.messages.election import RecordRequest
from protocol.messages.round_values import BlobRef, ModelVersion, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundOpen
from protocol.rounds import version_after

STORIES, STORY = "stories", ".story"
"""The folder, beside the checkpoints, and the ending of what was written of rounds that failed."""

MAX_STORIES = 16
"""Stories that are kept."""

MAX_SLOTS_FACTOR = 9
"""Bytes of a state with the slots of a server's optimiser, at most, for each byte of the model: of an element of one
byte there may be two slots in single precision."""


@dataclass(frozen=True)
class RoundContext:
    """What a member's part in rounds works with.

    Attributes:
        name: this member.
        worker: does the method's work.
        store: this member's checkpoints.
        blob_store: what peers can fetch here, and what is fetched from them.
        reducer: the thread on which states are packed, checked and reduced.
        publish: sends a message to all members, this one too.
        tell: sends a message to one member, possibly this one.
        signatory: signs what this member says, and checks what others have signed.
        links: with the other members.
        absent: how many configured members cannot be heard.
        revealed: the sums for which this member has revealed shares.
        floor: what it asks of every round at least, whatever is requested.
    """

    name: str
    worker: RoundWorker
    store: CheckpointStore
    blob_store: BlobStore
    reducer: ComputeThread
    publish: Callable[[Message], None]
    tell: Callable[[str, Message], None]
    signatory: Signatory
    links: MemberLinks
    absent: Callable[[], int]
    revealed: RevealedSums
    floor: Floor

    def require_quorum(self, contributors: Collection[str]) -> None:
        """Refuses to have part in a sum of fewer contributions than this member's own configuration asks for.

        Raises:
            PrivacyError: they are fewer; its noise may be accounted for as a part of that of so many.
        """
        if len(contributors) < self.floor.quorum:
            raise PrivacyError(
                f"its own configuration is the floor: the round was closed with {len(contributors)} contributions, and "
                f"this site's quorum is {self.floor.quorum}"
            )

    async def checkpoint(self, model: str) -> Checkpoint:
        """This member's checkpoint of a model; the initial one, where no round has touched it.

        Raises:
            MethodError: the participant knows no such model.
        """
        if model not in self.store.checkpoints:
            initial = Checkpoint.of(await self.worker.initial_state(model))
            if model not in self.store.checkpoints:
                await self.reducer.run(partial(self.store.adopt, model, initial, 0))
                self.blob_store.keep(initial.blob)
        return self.store.checkpoints[model]

    async def resume(self) -> None:
        """Hands the checkpoints of earlier incarnations to the participant, and offers them to peers that are behind.

        Raises:
            MethodError: the participant can no longer use them.
        """
        for model in self.store.checkpoints.keys() | self.store.votes.keys():
            self._offer(model, ())
        for model, checkpoint in self.store.checkpoints.items():
            if checkpoint.version.number:
                await self.worker.adopt(model, checkpoint.version.number, checkpoint.state)

    async def reach(self, record: RoundCommit, holders: Sequence[str], term: int) -> None:
        """Brings a model to the outcome of a round that a majority has voted for; asks for the records in between.

        Raises:
            MethodError: the participant knows no such model, or one of other shapes.
            PeerError: no holder has it any more.
        """
        model, version = record.model, version_after(record)
        if (await self.checkpoint(model)).version.number >= record.number:
            return
        await self.adopt(model, await self._fetched(model, version, holders), term, record)
        missing = self.store.first_missing(model)
        if missing is not None and holders[0] != self.name:
            self.tell(holders[0], RecordRequest(model=model, after=missing - 1))

    async def base(self, opened: RoundOpen, holders: Sequence[str]) -> Checkpoint:
        """The checkpoint that a round starts from; before the first round of a model it is the leader's.

        Raises:
            MethodError: this member holds another one, or the leader's does not fit.
            PeerError: no holder has it any more.
        """
        model, own = opened.model, await self.checkpoint(opened.model)
        if opened.number != own.version.number + 1:
            raise ModelError(
                f"round {opened.number} of {model} was opened, and {own.version.number + 1} follows what this member "
                "holds"
            )
        if own.version.outcome != opened.base:
            if own.version.number or model in opened.records:
                raise ModelError(
                    f"round {opened.number} of {model} starts from {opened.base.digest[:12]}, and this member holds "
                    f"{own.version.outcome.digest[:12]} after round {own.version.number}"
                )
            initial = await self._fetched(model, ModelVersion(number=0, outcome=opened.base), holders)
            await self.adopt(model, initial, opened.term)
        return self.store.checkpoints[model]

    async def recovered(self, record: RoundCommit, holders: Sequence[str]) -> Checkpoint:
        """The outcome that an earlier leader may have committed a round with.

        Raises:
            MethodError: too few votes are shown for it to be possible, or it does not fit the model.
            PeerError: no holder has it any more.
        """
        votes, majority = len(self.signatory.valid_votes(record)), self.signatory.majority
        if not possibly_committed(votes, self.absent(), majority):
            raise ModelError(
                f"round {record.number} of {record.model} cannot have been committed with {votes} votes: {majority} "
                f"are needed, and {self.absent()} members cannot be heard"
            )
        return await self._fetched(record.model, version_after(record), holders)

    def keep_story(self, subject: Subject) -> None:
        """Writes down what has become of a round that failed, beside the checkpoints; the latest are kept."""
        if self.store.folder is not None:
            self.reducer.run(partial(_write_story, self.store.folder / STORIES, subject.opened, packed(subject)))

    async def adopt(self, model: str, checkpoint: Checkpoint, term: int, commit: RoundCommit | None = None) -> None:
        """Adopts the outcome of a round: on disk, for peers that are behind, and for the participant."""
        await _uninterrupted(self._adopt(model, checkpoint, term, commit))

    async def persist_vote(self, plan: RoundPlanMessage, record: RoundCommit, checkpoint: Checkpoint) -> None:
        """Keeps on disk what this member is about to vote for."""
        await _uninterrupted(self._persist_vote(plan, record, checkpoint))

    async def fetch_state(
        self, blob: BlobRef, holders: Sequence[str], like: ModelState, owner: str, *, with_slots: bool = False
    ) -> PackedState:
        """A state from the first of the holders that has it, checked.

        Args:
            blob: its digest and size.
            holders: peers to ask, in this order.
            like: a state whose names, shapes and dtypes it must have.
            owner: named in errors.
            with_slots: whether it may have slots of the server's optimiser besides.

        Raises:
            ModelError: it is too large, unlike `like`, or not finite.
            PeerError: no holder has it any more.
        """
        most = MAX_SLOTS_FACTOR * size(like) + MAX_HEADER_BYTES if with_slots else Layout.of_state(like).size
        if blob.size > most:
            raise ModelError(f"{owner}: {blob.size} bytes were offered, expected {most} at most: use the same model")
        others = [name for name in dict.fromkeys(holders) if name != self.name]
        storage = await self.reducer.run(partial(self.store.allocate, blob.size))
        async with self.blob_store.stream(blob.digest, blob.size, others) as stream:
            for offset in range(0, blob.size, CHUNK):
                await self.reducer.run(partial(storage.write, offset, await stream.take()))
        return await self.reducer.run(partial(_validated, storage, stream.tree, like, owner, with_slots=with_slots))

    async def _fetched(self, model: str, version: ModelVersion, holders: Sequence[str]) -> Checkpoint:
        """A version of a model that other members have; this member may have voted for it."""
        vote = self.store.votes.get(model)
        if vote is not None and vote.checkpoint.version.outcome == version.outcome:
            return Checkpoint(version, vote.checkpoint.packed)
        like = model_tensors((await self.checkpoint(model)).state)
        packed = await self.fetch_state(version.outcome, holders, like, "the peers' model", with_slots=True)
        return Checkpoint(version, packed)

    async def _adopt(self, model: str, checkpoint: Checkpoint, term: int, commit: RoundCommit | None) -> None:
        self.worker.interrupt()
        before = self._offered(model)
        await self.reducer.run(partial(self.store.adopt, model, checkpoint, term, commit))
        self._offer(model, before)
        await self.worker.adopt(model, checkpoint.version.number, checkpoint.state)

    async def _persist_vote(self, plan: RoundPlanMessage, record: RoundCommit, checkpoint: Checkpoint) -> None:
        before = self._offered(record.model)
        await self.reducer.run(partial(self.store.vote, plan, record, checkpoint))
        self._offer(record.model, before)

    def _offered(self, model: str) -> list[Checkpoint]:
        """The checkpoints of a model that peers may fetch."""
        vote, checkpoint = self.store.votes.get(model), self.store.checkpoints.get(model)
        return [*([checkpoint] if checkpoint else []), *([vote.checkpoint] if vote else [])]

    def _offer(self, model: str, before: Sequence[Checkpoint]) -> None:
        for each in self._offered(model):
            self.blob_store.keep(each.blob)
        for each in before:
            self.blob_store.drop(each.version.outcome.digest)


def _write_story(folder: Path, opened: RoundOpen, story: bytes) -> None:
    make_folder(folder)
    name = f"{opened.model}-{opened.number:06d}-{opened.term}-{opened.attempt}"
    write_whole(folder / f"{name}-{hashlib.sha256(story).hexdigest()[:8]}{STORY}", story)
    for path in sorted(folder.glob(f"*{STORY}"), key=lambda path: path.stat().st_mtime)[:-MAX_STORIES]:
        path.unlink()


def _validated(
    storage: StateStorage, tree: HashTree | None, like: ModelState, owner: str, *, with_slots: bool
) -> PackedState:
    """The state in a file, once it fits and is finite; on the reducer's thread."""
    packed = PackedState.read(storage, tree)
    require_like(model_tensors(packed.state) if with_slots else packed.state, like, owner)
    require_finite(packed.state, owner)
    return packed


async def wait_finished(task: asyncio.Future[None]) -> None:
    """Waits until a task has ended; a cancellation of the waiting takes effect afterwards."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Does work to its end, even if its caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    await wait_finished(task)
    task.result()

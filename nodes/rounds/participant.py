"""One member's part in one attempt at a round, from its opening to its commit.

    caught up -> contribute            -> offered to all
              -> collect every offer   -> receipts to the lead
              -> closed: reduce        -> vote -> committed: adopt

A vote is kept for good before it is cast: should the lead die, the next one learns of it and settles on it.
Collecting begins with the first offer, not with the close. In a mesh every member reduces everything; in a sharded
round the i-th member reduces shard i and fetches the others' shards. Refuses to know who leads and when a round
closes (`nodes.rounds.coordinator`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from fednet.api import ModelState, RoundTask, Update
from fednet.errors import MethodError, ModelError, PrivacyError
from fednet.federated.aggregation import reduce
from fednet.federated.server import server_step
from fednet.federated.shards import join, split
from fednet.federated.staleness import rebased_update
from fednet.federated.state import digest, model_tensors, pack, require_finite, require_like, size
from nodes.errors import PeerError
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.context import RoundContext, unpack_state, unpack_validated_state
from nodes.rounds.conversion import federation_from, to_commit, version_after
from nodes.rounds.secure_sum import SecureSumParticipant
from protocol.messages.rounds import (  # fmt: skip
    BlobRef,
    ContributionAvailable,
    ContributionReceipt,
    ContributionRef,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import SecureSumMessage
from protocol.rounds import round_message

log = logging.getLogger(__name__)

T = TypeVar("T")

SIZE_MARGIN_BYTES = 1 << 16
"""Bytes by which a packed state may be larger than its tensors, for their names and shapes."""


class RoundParticipant:
    """One member's part in one attempt at a round.

    Args:
        means: what it works with.
        opened: the round.
        lead: who leads it.

    Attributes:
        left: whether this member has been told to leave it before its end.
    """

    def __init__(self, means: RoundContext, opened: RoundOpen, lead: str) -> None:
        self.opened = opened
        self.lead = lead
        self.left = False
        self._context = means
        self._federation = federation_from(opened.plan)
        self._sharded = self._federation.transport == "sharded"
        loop = asyncio.get_running_loop()
        self._base: asyncio.Future[Checkpoint] = loop.create_future()
        self._closing: asyncio.Future[RoundClose] = loop.create_future()
        self._committing: asyncio.Future[RoundCommit] = loop.create_future()
        self._reduced: dict[str, asyncio.Future[BlobRef]] = {name: loop.create_future() for name in opened.members}
        self._collected: dict[str, asyncio.Task[ModelState]] = {}
        self._blobs: list[str] = []
        self._jobs: list[asyncio.Task[Any]] = []
        self._own: Sequence[ModelState] = ()
        self._part_like: ModelState = {}
        self._masked: SecureSumParticipant | None = None
        if self._federation.secure is not None and opened.contributors:
            self._masked = SecureSumParticipant(
                means.name, means.run, opened, lead, self._federation.secure,
                reducer=means.reducer, say=means.say, tell=means.tell, revealed=means.revealed,
            )  # fmt: skip

    @property
    def closed(self) -> bool:
        """Whether its lead has committed it."""
        return self._committing.done()

    def offered(self, name: str, contribution: ContributionAvailable) -> None:
        """A contribution can be fetched; the first of each contributor counts."""
        if name in self.opened.contributors and name not in self._collected:
            self._collected[name] = self._begin(self._collect(name, contribution.contribution))

    def secure(self, name: str, message: SecureSumMessage) -> None:
        """Something about the secure sum, where the round is one."""
        if self._masked is not None and name in self.opened.members:
            self._masked.hear(name, message)

    def closing(self, close: RoundClose) -> None:
        """The lead has closed the round."""
        _set_result(self._closing, close)

    def reduced(self, name: str, reduced: ShardReduced) -> None:
        """Somebody's shard of the aggregate can be fetched."""
        if name in self._reduced:
            _set_result(self._reduced[name], reduced.shard)

    def committed(self, commit: RoundCommit) -> None:
        """The lead has committed the round."""
        _set_result(self._committing, commit)

    async def run(self) -> None:
        """Takes part, to the end of the round."""
        try:
            await self._take_part()
        except (MethodError, PeerError) as error:
            self._decline(str(error), votes=False)
        finally:
            for job in self._jobs:
                job.cancel()
            self._collected.clear()
            self._own = ()

    def forget(self) -> None:
        """Nobody fetches from this round any more."""
        while self._blobs:
            self._context.blob_store.drop(self._blobs.pop())

    async def _take_part(self) -> None:
        opened, means = self.opened, self._context
        for model, standing in opened.versions.items():
            await means.reach(model, standing, self._holders, opened.term)
        base = means.models.kept[opened.model]
        self._part_like = await means.reducer.run(partial(self._like, base))
        self._base.set_result(base)
        if means.name in opened.contributors:
            self._begin(self._contribute(base))
        kept, record = await self._outcome(base)
        await means.vote(opened.plan, record, kept)
        means.tell(self.lead, round_message(RoundVote, opened, outcome=record.outcome))
        commit = await self._committing
        if commit.outcome == record.outcome:
            await means.adopt(opened.model, kept, opened.term, commit)
        else:
            log.warning("round %d of %s left something else here than with the majority", opened.number, opened.model)
            await means.reach(opened.model, version_after(commit), self._holders, opened.term, commit)
        means.tell(self.lead, round_message(ModelAdopted, opened))

    async def _contribute(self, base: Checkpoint) -> None:
        opened, means = self.opened, self._context
        task = RoundTask(opened.model, opened.plan.task, opened.number, dict(opened.plan.options))
        try:
            if means.sealed and self._masked is None:
                raise PrivacyError("it contributes behind a secure sum only: order rounds with `secure`")
            update = await self._made(task, base)
            await means.reducer.run(partial(_require_valid_update, update.state, model_tensors(base.state)))
            state = (
                update.state if self._masked is None else await self._masked.outgoing(update, model_tensors(base.state))
            )
            self._own, packed = await means.reducer.run(partial(self._parted, state))
            pieces = tuple(BlobRef(digest=name, size=len(data)) for name, data in packed)
            share = ContributionRef(weight=update.weight, blobs=pieces, values=dict(update.values))
        except (_InvalidUpdate, ValidationError) as error:
            means.tell(
                self.lead, round_message(ContributionReceipt, opened, contributor=means.name, refused=_truncated(error))
            )
        except MethodError as error:
            self._decline(str(error), votes=True)
        except Exception as error:  # what goes wrong in a method must not keep the others waiting
            log.exception("round %d of %s", opened.number, opened.model)
            self._decline(f"{type(error).__name__} while contributing; see this node's log", votes=True)
        else:
            for name, data in packed:
                self._keep(name, data)
            means.say(round_message(ContributionAvailable, opened, contribution=share))

    async def _made(self, task: RoundTask, base: Checkpoint) -> Update:
        """Our contribution to this very round; what was begun for an earlier one is carried over."""
        buffer = self._federation.buffer
        made = await self._context.bench.contribute(task, base, patient=buffer is not None)
        staleness = base.standing.number - made.began.standing.number
        if buffer is None or staleness == 0:
            return made.update
        began, now = model_tensors(made.began.state), model_tensors(base.state)
        return await self._context.reducer.run(
            partial(rebased_update, made.update, began, now, staleness, buffer.exponent)
        )

    def _parted(self, state: ModelState) -> tuple[Sequence[ModelState], list[tuple[str, bytes]]]:
        """Our contribution, whole or in shards, and what of it travels; on the reducer's thread."""
        parts = split(state, len(self.opened.members)) if self._sharded else (state,)
        return parts, [(digest(part), pack(part)) for part in parts]

    async def _collect(self, name: str, share: ContributionRef) -> ModelState:
        """A contribution, or our shard of it, checked; its receipt goes to the lead, where that waits for it."""
        base = await asyncio.shield(self._base)
        try:
            state = await self._part(name, share, base)
        except (MethodError, PeerError) as error:
            self._receipt(name, str(error))
            raise
        self._receipt(name, "")
        return state

    async def _part(self, name: str, share: ContributionRef, base: Checkpoint) -> ModelState:
        mine, count = (self._place, len(self.opened.members)) if self._sharded else (0, 1)
        if name == self._context.name:
            return self._own[mine]
        if len(share.blobs) != count:
            raise ModelError(f"its contribution has {len(share.blobs)} parts, not {count}")
        piece = share.blobs[mine]
        like = self._part_like
        if piece.size > size(like) + SIZE_MARGIN_BYTES:
            raise ModelError(f"its contribution has {piece.size} bytes where {size(like)} belong")
        data = await self._context.fetch(piece, (name, *self._holders))
        state = await self._context.reducer.run(partial(unpack_validated_state, data, piece.digest, like, name))
        self._keep(piece.digest, data)
        return state

    def _like(self, base: Checkpoint) -> ModelState:
        """What our part of a contribution looks like."""
        whole = self._whole(base)
        return split(whole, len(self.opened.members))[self._place] if self._sharded else whole

    def _whole(self, base: Checkpoint) -> ModelState:
        """What a whole contribution looks like."""
        model = model_tensors(base.state)
        return model if self._masked is None else self._masked.like(model)

    async def _outcome(self, base: Checkpoint) -> tuple[Checkpoint, RoundCommit]:
        """What the round leaves, and its record, should a majority find the same."""
        opened, run = self.opened, self._context.reducer.run
        if opened.recovered is not None:
            record = opened.recovered.model_copy(update={"term": opened.term, "attempt": opened.attempt})
            kept = await self._context.settled(record, self._holders)
            require_like(model_tensors(kept.state), model_tensors(base.state), "the peers' model")
            return kept, record
        close = await self._closing
        if self._context.name in close.contributions:
            self._context.bench.taken()
        if opened.plan.given is not None:
            state = await self._given(opened.plan.given, base)
        else:
            state = await self._aggregate(close, base)
        kept = await run(partial(Checkpoint.of, state, opened.number, opened.plan.key, opened.index))
        return kept, to_commit(opened, close, self.lead, kept.standing.outcome)

    async def _aggregate(self, close: RoundClose, base: Checkpoint) -> ModelState:
        states = {name: await self._held(name, share, base) for name, share in close.contributions.items()}
        weights = {name: share.weight for name, share in close.contributions.items()}
        run = self._context.reducer.run
        whole = await run(partial(self._combined, states, weights))
        if self._sharded:
            whole = await self._joined(whole, self._whole(base))
        if self._masked is not None:
            whole = await self._masked.opened(whole, close.contributions, model_tensors(base.state))
        return await run(partial(server_step, self._federation.server, base.state, whole))

    def _combined(self, states: Mapping[str, ModelState], weights: Mapping[str, float]) -> ModelState:
        """The contributions, or our shards of them, as one; what is masked is only added up."""
        if self._masked is not None:
            return self._masked.combine(states)
        return reduce(self._federation.rule, states, weights)

    async def _given(self, piece: BlobRef, base: Checkpoint) -> ModelState:
        """The model that the asker gives; the server's optimiser starts afresh."""
        like = model_tensors(base.state)
        if piece.size > size(like) + SIZE_MARGIN_BYTES:
            raise ModelError(f"the given model has {piece.size} bytes where {size(like)} belong")
        data = await self._context.fetch(piece, (self.opened.plan.requester, *self._holders))
        self._keep(piece.digest, data)
        return await self._context.reducer.run(
            partial(unpack_validated_state, data, piece.digest, like, "the given model")
        )

    async def _held(self, name: str, share: ContributionRef, base: Checkpoint) -> ModelState:
        """A contribution that the lead has counted; if its contributor is gone, others hold it."""
        try:
            return await self._collected[name]
        except (KeyError, PeerError):
            return await self._part(name, share, base)

    async def _joined(self, shard: ModelState, like: ModelState) -> ModelState:
        """The aggregate, from our shard of it and those of the others."""
        means, members = self._context, self.opened.members
        name, data = await means.reducer.run(lambda: (digest(shard), pack(shard)))
        self._keep(name, data)
        means.say(round_message(ShardReduced, self.opened, shard=BlobRef(digest=name, size=len(data))))
        shards = await asyncio.gather(*(self._shard(member, shard) for member in members))
        return await means.reducer.run(partial(join, shards, like))

    async def _shard(self, member: str, own: ModelState) -> ModelState:
        if member == self._context.name:
            return own
        piece = await self._reduced[member]
        data = await self._context.fetch(piece, (member, *self._holders))
        self._keep(piece.digest, data)  # should its keeper die, others have it from us
        return await self._context.reducer.run(partial(unpack_state, data, piece.digest))

    @property
    def _holders(self) -> tuple[str, ...]:
        return (self.lead, *self.opened.members)

    @property
    def _place(self) -> int:
        return self.opened.members.index(self._context.name)

    def _receipt(self, name: str, refused: str) -> None:
        if self._sharded or self._context.name == self.lead:
            self._context.tell(
                self.lead,
                round_message(ContributionReceipt, self.opened, contributor=name, refused=_truncated(refused)),
            )

    def _decline(self, reason: str, *, votes: bool) -> None:
        self._context.tell(
            self.lead, round_message(RoundDecline, self.opened, reason=_truncated(reason), can_vote=votes)
        )

    def _keep(self, name: str, data: bytes | memoryview) -> None:
        self._context.blob_store.keep(name, data)
        self._blobs.append(name)

    def _begin(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever needs it awaits it
        self._jobs.append(task)
        return task


def _require_valid_update(state: ModelState, base: ModelState) -> None:
    """Refuses our own contribution where peers would refuse it, before anything of it is said."""
    try:
        require_like(state, base, "the contribution")
        require_finite(state, "the contribution")
    except ModelError as error:
        raise _InvalidUpdate(str(error)) from error


class _InvalidUpdate(ModelError):
    """Our own contribution is of another shape, or not finite."""


def _truncated(reason: object) -> str:
    return str(reason)[:500]


def _set_result(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)

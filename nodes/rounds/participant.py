"""One member's part in one attempt at a round, from its opening to its commit.

    caught up -> contribute               -> announced to all
              -> fetch every contribution -> receipts to the leader
              -> closed: reduce           -> vote -> committed: adopt

A vote is on disk before it is cast: should the leader die, the next one learns of it and recovers the outcome.
Fetching begins with the first announcement, not with the close. In a mesh every member reduces everything; in a
sharded round the i-th member reduces shard i and fetches the others' shards. Knows nothing of who leads and when a
round closes (`nodes.rounds.coordinator`).
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
from fednet.federated.aggregation import reduce, server_step
from fednet.federated.config import Federation
from fednet.federated.shards import join, split
from fednet.federated.staleness import rebased_update
from fednet.federated.state import model_tensors, require_finite, require_like
from fednet.federated.state_file import PackedState
from nodes.blob_store import Blob
from nodes.errors import PeerError
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.context import RoundContext
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
    RoundMessage,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.rounds import commit_of, round_message, version_after

log = logging.getLogger(__name__)

T = TypeVar("T")


class RoundParticipant:
    """One member's part in one attempt at a round.

    Args:
        context: what it works with.
        opened: the attempt.
        leader: leads it.

    Attributes:
        opened: the attempt.
        leader: leads it.
        abandoned: whether this member has left it before its end.
    """

    def __init__(self, context: RoundContext, opened: RoundOpen, leader: str) -> None:
        self.opened, self.leader, self.abandoned = opened, leader, False
        self._context = context
        self._federation = Federation.model_validate_json(opened.plan.federation)
        self._sharded = self._federation.transport == "sharded"
        loop = asyncio.get_running_loop()
        self._base: asyncio.Future[Checkpoint] = loop.create_future()
        self._close: asyncio.Future[RoundClose] = loop.create_future()
        self._commit: asyncio.Future[RoundCommit] = loop.create_future()
        self._reduced: dict[str, asyncio.Future[BlobRef]] = {name: loop.create_future() for name in opened.members}
        self._collected: dict[str, asyncio.Task[ModelState]] = {}
        self._offered_blobs: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._own_parts: Sequence[ModelState] = ()
        self._part_likes: Sequence[ModelState] = ()
        self._secure_sum: SecureSumParticipant | None = None
        if self._federation.secure is not None and opened.contributors:
            self._secure_sum = SecureSumParticipant(context, opened, leader, self._federation.secure)

    @property
    def can_adopt(self) -> bool:
        """Whether this member is in the round: it has the base, so that it adopts the outcome without catching up."""
        return self._base.done() and not self.abandoned

    @property
    def committed(self) -> bool:
        """Whether the leader has committed the round."""
        return self._commit.done()

    def receive(self, sender: str, message: RoundMessage) -> None:
        """Takes in a member's message about this attempt; the first of its kind counts."""
        match message:
            case ContributionAvailable():
                if sender in self.opened.contributors and sender not in self._collected:
                    self._collected[sender] = self._spawn(self._collect(sender, message.contribution))
            case ShardReduced() if sender in self._reduced:
                _set_once(self._reduced[sender], message.shard)
            case RoundClose() if sender == self.leader:
                _set_once(self._close, message)
            case RoundCommit() if sender == self.leader:
                _set_once(self._commit, message)
            case _ if self._secure_sum is not None and sender in self.opened.members:
                self._secure_sum.receive(sender, message)

    async def run(self) -> None:
        """Takes part, to the end of the round."""
        try:
            await self._take_part()
        except (MethodError, PeerError) as error:
            self.abandoned = True
            self._decline(str(error), can_vote=False)
        except Exception as error:  # the leader's fault, and the others need not wait for this member
            self.abandoned = True
            self._decline(f"{type(error).__name__} in the round; see this node's log", can_vote=False)
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            self._collected.clear()
            self._own_parts = ()

    def release(self) -> None:
        """Offers nothing of this round any more."""
        while self._offered_blobs:
            self._context.blob_store.drop(self._offered_blobs.pop())

    async def _take_part(self) -> None:
        opened, context = self.opened, self._context
        for model, version in opened.versions.items():
            await context.reach(model, version, self._holders, opened.term)
        base = context.store.checkpoints[opened.model]
        self._part_likes = await context.reducer.run(lambda: self._parts(self._like(base)))
        self._base.set_result(base)
        if context.name in opened.contributors:
            self._spawn(self._contribute(base))
        checkpoint, record = await self._outcome(base)
        await context.persist_vote(opened.plan, record, checkpoint)
        context.tell(self.leader, round_message(RoundVote, opened, outcome=record.outcome))
        commit = await self._commit
        if commit.outcome == record.outcome:
            await context.adopt(opened.model, checkpoint, opened.term, commit)
        else:
            log.warning("round %d of %s has another outcome here than at the majority", opened.number, opened.model)
            await context.reach(opened.model, version_after(commit), self._holders, opened.term, commit)
        context.tell(self.leader, round_message(ModelAdopted, opened))

    async def _contribute(self, base: Checkpoint) -> None:
        opened, context = self.opened, self._context
        try:
            if context.secure_only and self._secure_sum is None:
                raise PrivacyError("it contributes behind a secure sum only: request rounds with `secure`")
            update, model = await self._update(base), model_tensors(base.state)
            await context.reducer.run(partial(_require_valid, update.state, model))
            state = update.state if self._secure_sum is None else await self._secure_sum.masked(update, model)
            self._own_parts = parts = self._parts(state)
            packed = await context.reducer.run(lambda: [PackedState.of(part) for part in parts])
            blobs = tuple(BlobRef(digest=each.tree.root, size=each.tree.size) for each in packed)
            contribution = ContributionRef(weight=update.weight, blobs=blobs, values=dict(update.values))
        except (_InvalidContribution, ValidationError) as error:
            self._send_receipt(context.name, str(error))
        except MethodError as error:
            self._decline(str(error), can_vote=True)
        except Exception as error:  # a failure in a method must not keep the others waiting
            log.exception("round %d of %s", opened.number, opened.model)
            self._decline(f"{type(error).__name__} while contributing; see this node's log", can_vote=True)
        else:
            for each in packed:
                self._offer(each)
            context.publish(round_message(ContributionAvailable, opened, contribution=contribution))

    async def _update(self, base: Checkpoint) -> Update:
        """Our contribution to this very round; work that was begun for an earlier one is carried over."""
        opened, buffer = self.opened, self._federation.buffer
        task = RoundTask(opened.model, opened.plan.task, opened.number, dict(opened.plan.options))
        local = await self._context.worker.contribute(task, base, buffered=buffer is not None)
        staleness = base.version.number - local.base.version.number
        if buffer is None or staleness == 0:
            return local.update
        old, new = model_tensors(local.base.state), model_tensors(base.state)
        return await self._context.reducer.run(
            partial(rebased_update, local.update, old, new, staleness, buffer.exponent)
        )

    async def _collect(self, name: str, contribution: ContributionRef) -> ModelState:
        """Our part of a contribution; its receipt goes to the leader, which waits for it."""
        await asyncio.shield(self._base)
        try:
            state = await self._part(name, contribution)
        except (MethodError, PeerError) as error:
            self._acknowledge(name, str(error))
            raise
        self._acknowledge(name, "")
        return state

    async def _part(self, name: str, contribution: ContributionRef) -> ModelState:
        """A contribution, or our shard of it."""
        index = self._index if self._sharded else 0
        if name == self._context.name:
            return self._own_parts[index]
        if len(contribution.blobs) != len(self._part_likes):
            raise ModelError(f"{name}: {len(contribution.blobs)} parts were offered, expected {len(self._part_likes)}")
        return await self._fetch(contribution.blobs[index], name, self._part_likes[index], name)

    async def _outcome(self, base: Checkpoint) -> tuple[Checkpoint, RoundCommit]:
        """The outcome of the round, and its record, should a majority have the same."""
        opened = self.opened
        if opened.recovered is not None:
            record = opened.recovered.model_copy(update={"term": opened.term, "attempt": opened.attempt})
            return await self._context.recovered(record, self._holders), record
        close = await self._close
        if self._context.name in close.contributions:
            self._context.worker.counted()
        if opened.plan.given is not None:  # the server's optimiser starts afresh
            requester, like = opened.plan.requester, model_tensors(base.state)
            state = await self._fetch(opened.plan.given, requester, like, "the given model")
        else:
            state = await self._aggregate(close, base)
        checkpoint = await self._context.reducer.run(
            lambda: Checkpoint.of(PackedState.of(state), opened.number, opened.plan.key, opened.index)
        )
        return checkpoint, commit_of(opened, close, self.leader, checkpoint.version.outcome)

    async def _aggregate(self, close: RoundClose, base: Checkpoint) -> ModelState:
        contributions, run = close.contributions, self._context.reducer.run
        states = {name: await self._counted(name, each) for name, each in contributions.items()}
        weights = {name: each.weight for name, each in contributions.items()}
        whole = await run(partial(self._reduce, states, weights))
        if self._sharded:
            whole = await self._joined(whole, self._like(base))
        if self._secure_sum is not None:
            whole = await self._secure_sum.unmasked(whole, contributions, model_tensors(base.state))
        return await run(partial(server_step, self._federation.server, base.state, whole))

    async def _counted(self, name: str, contribution: ContributionRef) -> ModelState:
        """A contribution that the leader has counted; if its contributor is gone, others hold it."""
        try:
            return await self._collected[name]
        except (KeyError, PeerError):
            return await self._part(name, contribution)

    def _reduce(self, states: Mapping[str, ModelState], weights: Mapping[str, float]) -> ModelState:
        """The contributions, or our shards of them, as one; masked ones are only added up."""
        if self._secure_sum is not None:
            return self._secure_sum.sum(states)
        return reduce(self._federation.rule, states, weights)

    async def _joined(self, shard: ModelState, like: ModelState) -> ModelState:
        """The aggregate, from our shard of it and those of the others."""
        context, members = self._context, self.opened.members
        packed = await context.reducer.run(partial(PackedState.of, shard))
        self._offer(packed)
        ref = BlobRef(digest=packed.tree.root, size=packed.tree.size)
        context.publish(round_message(ShardReduced, self.opened, shard=ref))
        shards = await asyncio.gather(*(self._shard(index, shard) for index in range(len(members))))
        return await context.reducer.run(partial(join, shards, like))

    async def _shard(self, index: int, own: ModelState) -> ModelState:
        member = self.opened.members[index]
        if member == self._context.name:
            return own
        return await self._fetch(await self._reduced[member], member, self._part_likes[index], f"{member}'s shard")

    async def _fetch(self, blob: BlobRef, holder: str, like: ModelState, owner: str) -> ModelState:
        """A state of a peer; offered in turn, should its holder die."""
        packed = await self._context.fetch_state(blob, (holder, *self._holders), like, owner)
        self._offer(packed)
        return packed.state

    def _like(self, base: Checkpoint) -> ModelState:
        """What a whole contribution looks like."""
        model = model_tensors(base.state)
        return model if self._secure_sum is None else self._secure_sum.like(model)

    def _parts(self, state: ModelState) -> Sequence[ModelState]:
        """A contribution, whole or in shards."""
        return split(state, len(self.opened.members)) if self._sharded else (state,)

    @property
    def _holders(self) -> tuple[str, ...]:
        return (self.leader, *self.opened.members)

    @property
    def _index(self) -> int:
        return self.opened.members.index(self._context.name)

    def _acknowledge(self, name: str, refused: str) -> None:
        """Receipts are for the leader, which holds every contribution in a mesh, and for all keepers of shards."""
        if self._sharded or self._context.name == self.leader:
            self._send_receipt(name, refused)

    def _send_receipt(self, name: str, refused: str) -> None:
        receipt = round_message(ContributionReceipt, self.opened, contributor=name, refused=refused[:500])
        self._context.tell(self.leader, receipt)

    def _decline(self, reason: str, *, can_vote: bool) -> None:
        self._context.tell(
            self.leader, round_message(RoundDecline, self.opened, reason=reason[:500], can_vote=can_vote)
        )

    def _offer(self, packed: PackedState) -> None:
        self._context.blob_store.keep(Blob(packed.tree, packed.bytes_at))
        self._offered_blobs.append(packed.tree.root)

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # raised where it is awaited
        self._tasks.append(task)
        return task


def _require_valid(state: ModelState, base: ModelState) -> None:
    """Refuses our own contribution where peers would refuse it, before anything of it leaves this member."""
    try:
        require_like(state, base, "the contribution")
        require_finite(state, "the contribution")
    except ModelError as error:
        raise _InvalidContribution(str(error)) from error


class _InvalidContribution(ModelError):
    """Our own contribution has other names or shapes than the model, or is not finite."""


def _set_once(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)

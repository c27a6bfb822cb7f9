"""Carries out what a member's machine instructs in one attempt at a round: messages, timers, and work on states.

    base -> contribute -> announced to all
         -> closed: contributions stream in and are reduced (`nodes.rounds.reduction`)
         -> vote on disk -> committed: adopt

What is done when is decided by `protocol.machines.participant`; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from functools import partial

from pydantic import ValidationError

from fednet.api import ModelState, RoundTask, Update
from fednet.errors import MethodError, PrivacyError
from fednet.federated.aggregation import server_step
from fednet.federated.chunkwise import InvalidChunk
from fednet.federated.config import Federation, Replace
from fednet.federated.packed_state import PackedState
from fednet.federated.staleness import rebased_update
from fednet.federated.state import model_tensors
from fednet.federated.state_file import Layout
from fednet.privacy.masked_state import masked_layout
from fednet.privacy.threshold import default_threshold
from nodes.errors import PeerError
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.context import RoundContext
from nodes.rounds.reduction import RoundReduction
from nodes.rounds.reduction_values import ClosedContributions, MemberUnavailable, ShardDiffers
from nodes.rounds.secure_sum import SecureSumParticipant
from nodes.rounds.worker import InvalidUpdate, LocalUpdate, require_valid
from protocol.machines.events import Begin, CheckShard, Heard, KeepStory, Publish, ShardChecked, Tell, Warn
from protocol.machines.machine import MAX_HEARD, Instruction, MachineEvent, Tick
from protocol.machines.participant import RoundParticipant
from protocol.machines.participant_values import (
    Adopt,
    BasePrepared,
    Compute,
    Contribute,
    ContributionCounted,
    ContributionDeclined,
    ContributionInvalid,
    ContributionMade,
    FalseShardFound,
    LeaderLost,
    Left,
    MemberRejected,
    OutcomeComputed,
    PartFailed,
    PersistVote,
    PrepareBase,
    RoundAdopted,
    Stage,
    VotePersisted,
)
from protocol.messages.round_values import ContributionRef
from protocol.messages.rounds import (
    ContributionAvailable,
    FalseShard,
    RoundClose,
    RoundMessage,
    RoundOpen,
    ShardReduced,
)

log = logging.getLogger(__name__)


class RoundPart:
    """One member's part in one attempt at a round.

    Args:
        context: what it works with.
        opened: the attempt.
        leader: leads it.

    Attributes:
        opened: the attempt.
        leader: leads it.
        machine: decides.
    """

    def __init__(self, context: RoundContext, opened: RoundOpen, leader: str) -> None:
        self.opened, self.leader = opened, leader
        self._context = context
        self._federation = Federation.of_peer(opened.plan.federation)
        is_secure = self._federation.secure is not None and bool(opened.contributors)
        self.machine = RoundParticipant(
            context.name, opened, leader, context.signatory, self._federation.quorum, is_secure=is_secure
        )
        self._statements = self.machine.statements.checked_by(context.signatory)  # not for the machine's story
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._shards: dict[str, asyncio.Future[ShardReduced]] = {name: loop.create_future() for name in opened.members}
        self._leaves = dict[str, bytes]()  # of contributions, as their contributors tell them
        self._tasks = list[asyncio.Task[None]]()
        self._heard = Counter[str]()
        self._timer: asyncio.TimerHandle | None = None
        self._base: Checkpoint
        self._outcome: Checkpoint
        self._reduction: RoundReduction | None = None
        self._closed: ClosedContributions | None = None
        self._secure_sum: SecureSumParticipant | None = None
        if self._federation.secure is not None and is_secure:
            self._secure_sum = SecureSumParticipant(context, opened, leader, self._federation.secure, self._statements)

    @property
    def can_adopt(self) -> bool:
        """Whether this member is in the round: it has the base, so that it adopts the outcome without catching up."""
        return self.machine.holds_base

    @property
    def adopts(self) -> bool:
        """Whether only the committed outcome is left to adopt: this member does not leave the attempt any more."""
        return self.machine.adopts

    @property
    def abandoned(self) -> bool:
        """Whether this member has left the attempt before its end."""
        return self.machine.state in {Stage.LEAVING, Stage.ABANDONED}

    @property
    def finishes(self) -> bool:
        """Whether this member goes on to its vote though nobody leads the attempt any more."""
        return self.machine.finishes

    def abandon(self, *, leader_lost: bool = False) -> None:
        """Leaves the attempt; where nobody leads it any more it may have to be finished first."""
        self._feed(LeaderLost() if leader_lost else Left())

    def receive(self, sender: str, message: RoundMessage) -> None:
        """Takes in a member's message about this attempt."""
        self._heard[sender] += 1
        if self._heard[sender] > MAX_HEARD:
            return
        if (message.model, message.number) != (self.opened.model, self.opened.number):
            return
        if isinstance(message, ShardReduced):
            self._shard_reduced(sender, message)
        elif isinstance(message, ContributionAvailable):
            self._leaves[sender] = message.leaves
        self._feed(Heard(sender, message))
        if self._secure_sum is not None and sender in self.machine.holders:
            self._secure_sum.receive(sender, message)

    def _shard_reduced(self, sender: str, reduced: ShardReduced) -> None:
        shard = self._shards.get(sender)
        if shard is not None and not shard.done() and self._statements.has_reduced(sender, reduced):
            shard.set_result(reduced)

    async def check(self, accuser: str, accusation: FalseShard) -> ShardChecked:
        """Whether a member's share is false, as another one says."""
        is_false = None
        if self._reduction is not None and self._closed is not None:
            with suppress(InvalidChunk):
                is_false = await self._reduction.is_false(self._closed, accusation)
        return ShardChecked(accuser, accusation, is_false)

    async def run(self) -> None:
        """Takes part, to the end of the round."""
        try:
            self._feed(Begin())
            await self._over
        finally:
            for task in self._tasks:
                task.cancel()

    def release(self) -> None:
        """Offers nothing of this round any more."""
        if self._reduction is not None:
            self._reduction.release()

    def _feed(self, event: MachineEvent) -> None:
        loop = asyncio.get_running_loop()
        for instruction in self.machine.handle(event, loop.time()):
            self._carry_out(instruction)
        if self.machine.deadline < float("inf") and self._timer is None:
            self._timer = loop.call_at(self.machine.deadline, self._feed, Tick())
        if (self.machine.is_over or self.abandoned) and not self._over.done():
            self._over.set_result(None)

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Publish(message):
                self._context.publish(message)
            case Tell(name, message):
                self._context.tell(name, message)
            case Warn(text):
                log.warning(text)
            case KeepStory(subject):
                self._context.keep_story(subject)
            case ContributionCounted():
                self._context.worker.counted()
            case Contribute():
                self._tasks.append(asyncio.ensure_future(self._contribute()))
            case _:
                self._tasks.append(asyncio.ensure_future(self._work(instruction)))

    async def _work(self, instruction: Instruction) -> None:
        """Work on states; its end is an event."""
        try:
            event = await self._done(instruction)
        except InvalidChunk as error:
            event = MemberRejected(error.contributor, str(error))
        except ShardDiffers as error:
            event = FalseShardFound(error.owner, self._shards[error.owner].result(), error.chunk)
        except MemberUnavailable as error:
            event = MemberRejected(error.member, str(error), gone=True)
        except PrivacyError as error:
            event = MemberRejected(error.peers[0], str(error)) if error.peers else PartFailed(str(error))
        except (MethodError, PeerError) as error:
            event = PartFailed(str(error))
        except Exception as error:  # the leader's fault, and the others need not wait for this member
            if not self._over.done():
                self._over.set_exception(error)
            event = PartFailed(f"{type(error).__name__} in the round; see this node's log")
        self._feed(event)

    async def _done(self, instruction: Instruction) -> MachineEvent:
        opened, context = self.opened, self._context
        match instruction:
            case PrepareBase():
                await self._prepare()
                return BasePrepared()
            case Compute(close):
                self._outcome = await self._computed(close)
                return OutcomeComputed(self._outcome.version.outcome)
            case PersistVote(record):
                await context.persist_vote(opened.plan, record, self._outcome)
                return VotePersisted()
            case Adopt(record, own):
                if self._reduction is not None:
                    self._reduction.release_contribution()
                if own:
                    await context.adopt(opened.model, self._outcome, opened.term, record)
                else:
                    await context.reach(record, self.machine.holders, opened.term)
                return RoundAdopted()
            case CheckShard(accuser, accusation):
                return await self.check(accuser, accusation)
        raise TypeError(f"{instruction} is no work")

    async def _prepare(self) -> None:
        """Once all can hear this member: has the models of the opening, and the state that the round starts from."""
        opened, context, holders = self.opened, self._context, self.machine.holders
        await context.links.all(set(opened.members) - {context.name})
        for record in opened.records.values():
            await context.reach(record, holders, opened.term)
        self._base = await context.base(opened, holders)
        model, sharded = model_tensors(self._base.state), self._federation.sharded(len(opened.members))
        layout = Layout.of_state(model) if self._secure_sum is None else masked_layout(model)
        self._reduction = RoundReduction(
            context, self._statements, opened, layout, self._shards,
            sharded=sharded, audit=max(self._federation.audit, context.floor.audit),
        )  # fmt: skip

    async def _contribute(self) -> None:
        opened, context = self.opened, self._context
        try:
            self._feed(await self._contribution())
        except (InvalidUpdate, ValidationError) as error:
            self._feed(ContributionInvalid(str(error)))
        except MethodError as error:
            at_fault = error.peers if isinstance(error, PrivacyError) else ()
            reason = str(error)
            self._feed(MemberRejected(at_fault[0], reason) if at_fault else ContributionDeclined(reason))
        except Exception as error:  # a failure in a method must not keep the others waiting
            log.exception("round %d of %s", opened.number, opened.model)
            self._feed(ContributionDeclined(f"{type(error).__name__} while contributing; see {context.name}'s log"))

    async def _contribution(self) -> ContributionMade:
        context, base, reduction = self._context, self._base, self._reduction
        assert reduction is not None  # noqa: S101 - made with the base
        usual = default_threshold(len(self.opened.contributors))
        if undercut := context.floor.undercut_by(self._federation, usual):
            raise PrivacyError(f"its own configuration is the floor: {undercut}")
        local = await self._update(base)
        update, packed = local.update, local.packed
        if self._secure_sum is not None:
            packed = await self._secure_sum.masked(update, model_tensors(base.state))
        blob, leaves = reduction.contribute(packed)
        return ContributionMade(
            ContributionRef(weight=update.weight, blobs=(blob,), values=dict(update.values)), leaves
        )

    async def _update(self, base: Checkpoint) -> LocalUpdate:
        """Our contribution to this very round; work that was begun for an earlier one is carried over."""
        opened, buffer = self.opened, self._federation.buffer
        task = RoundTask(opened.model, opened.plan.task, opened.number, dict(opened.plan.options))
        local = await self._context.worker.contribute(task, base, buffered=buffer is not None)
        staleness = base.version.number - local.base.version.number
        if buffer is None or staleness == 0:
            return local
        return await self._context.reducer.run(partial(self._rebased, local, base, staleness, buffer.exponent))

    def _rebased(self, local: LocalUpdate, base: Checkpoint, staleness: int, exponent: float) -> LocalUpdate:
        old, new = model_tensors(local.base.state), model_tensors(base.state)
        update = rebased_update(local.update, old, new, staleness, exponent)
        require_valid(update.state, new)
        packed = PackedState.of(update.state, self._context.store.allocate)
        return LocalUpdate(Update(packed.state, update.weight, update.values), packed, base)

    async def _computed(self, close: RoundClose | None) -> Checkpoint:
        """The outcome of the round: the aggregate of the contributions, or what is given or recovered."""
        opened, context, base = self.opened, self._context, self._base
        if close is None:
            assert opened.recovered is not None  # noqa: S101 - only such an attempt has no close
            return await context.recovered(opened.recovered, self.machine.holders)
        if opened.plan.given is not None:  # the server's optimiser starts afresh
            holders, like = (opened.plan.requester, *self.machine.holders), model_tensors(base.state)
            packed = await context.fetch_state(opened.plan.given, holders, like, "the given model")
        else:
            packed = await self._aggregate(close, base)
        return Checkpoint.of(packed, opened.number, opened.plan.key, opened.index)

    async def _aggregate(self, close: RoundClose, base: Checkpoint) -> PackedState:
        reduction = self._reduction
        assert reduction is not None  # noqa: S101 - made with the base
        rule = self._federation.rule if self._secure_sum is None else None
        agreed = self._statements.agreed(close)
        self._closed = ClosedContributions(rule, close.contributions, agreed, self._leaves)
        packed = await reduction.run(self._closed)
        if self._secure_sum is not None:
            packed = await self._secure_sum.unmasked(packed, close.contributions, model_tensors(base.state))
        if isinstance(self._federation.server, Replace):
            return packed
        return await self._context.reducer.run(partial(self._next_model, base, packed.state))

    def _next_model(self, base: Checkpoint, aggregate: ModelState) -> PackedState:
        stepped = server_step(self._federation.server, base.state, aggregate)
        return PackedState.of(stepped, self._context.store.allocate)

"""One member's part in one attempt at a round, from its opening to its commit.

    caught up -> contribute -> announced to all
              -> closed: contributions stream in and are reduced (`nodes.rounds.reduction`)
              -> vote -> committed: adopt

A vote is on disk before it is cast: should the leader die, the next one learns of it and recovers the outcome. A
contribution that is not valid, or cannot be had, is reported to the leader, which opens the round again without it.
Knows nothing of who leads and when a round closes (`nodes.rounds.coordinator`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from fednet.api import ModelState, RoundTask, Update
from fednet.errors import MethodError, ModelError, PrivacyError
from fednet.federated.aggregation import server_step
from fednet.federated.chunkwise import ChunkReduction, InvalidChunk
from fednet.federated.config import Federation, Replace, ServerConfig
from fednet.federated.staleness import rebased_update
from fednet.federated.state import model_tensors, require_finite, require_like
from fednet.federated.state_file import Layout, PackedState, StateFile
from fednet.privacy.secure_sum_setup import default_threshold
from nodes.errors import PeerError
from nodes.rounds.checkpoints import Checkpoint
from nodes.rounds.context import RoundContext
from nodes.rounds.reduction import MemberUnavailable, RoundReduction
from nodes.rounds.secure_sum import SecureSumParticipant
from nodes.rounds.statements import AttemptStatements
from protocol.messages.round_values import BlobRef, ContributionRef
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    ShardReduced,
)
from protocol.rounds import round_message

log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE = 5.0
"""Seconds after which a member reports that another one gives nothing; who is gone, the leader notices by then."""


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
        self._federation = Federation.of_peer(opened.plan.federation)
        loop = asyncio.get_running_loop()
        self._base: asyncio.Future[Checkpoint] = loop.create_future()
        self._close: asyncio.Future[RoundClose] = loop.create_future()
        self._commit: asyncio.Future[RoundCommit] = loop.create_future()
        self._shards: dict[str, asyncio.Future[BlobRef | None]] = {
            name: loop.create_future() for name in opened.members
        }
        self._reduction: RoundReduction | None = None
        self._contributing: asyncio.Task[None] | None = None
        self._statements = AttemptStatements(context.signatory, opened, leader)
        self._secure_sum: SecureSumParticipant | None = None
        if self._federation.secure is not None and opened.contributors:
            self._secure_sum = SecureSumParticipant(context, opened, leader, self._federation.secure, self._statements)

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
        if (message.model, message.number) != (self.opened.model, self.opened.number):
            return
        match message:
            case ShardReduced() if sender in self._shards:
                _set_once(self._shards[sender], message.shard)
            case RoundClose() if sender == self.leader:
                _set_once(self._close, message)
            case RoundCommit() if sender == self.leader:
                _set_once(self._commit, message)
            case _ if self._secure_sum is not None and sender in self._holders:
                self._secure_sum.receive(sender, message)

    async def run(self) -> None:
        """Takes part, to the end of the round."""
        try:
            await self._take_part()
        except InvalidChunk as error:
            self._abandon(partial(self._send_receipt, error.contributor, str(error)))
        except MemberUnavailable as error:
            self._abandon(partial(self._send_receipt, error.member, str(error)), GRACE)
        except (MethodError, PeerError) as error:
            self._abandon(partial(self._decline, str(error), can_vote=False))
        except Exception as error:  # the leader's fault, and the others need not wait for this member
            self._abandon(
                partial(self._decline, f"{type(error).__name__} in the round; see this node's log", can_vote=False)
            )
            raise
        finally:
            if self._contributing is not None:
                self._contributing.cancel()

    def release(self) -> None:
        """Offers nothing of this round any more."""
        if self._reduction is not None:
            self._reduction.release()

    def _abandon(self, report: Callable[[], None], after: float = 0.0) -> None:
        """Leaves the attempt, and tells the leader why; by then it may have noticed itself that somebody is gone."""
        self.abandoned = True
        asyncio.get_running_loop().call_later(after, report)

    async def _take_part(self) -> None:
        opened, context = self.opened, self._context
        for record in opened.records.values():
            await context.reach(record, self._holders, opened.term)
        base = await context.base(opened, self._holders)
        sharded = self._federation.sharded(len(opened.members))
        layout = self._layout(model_tensors(base.state))
        self._reduction = reduction = RoundReduction(context, opened, layout, self._shards, sharded=sharded)
        self._base.set_result(base)
        if context.name in opened.contributors:
            self._contributing = asyncio.ensure_future(self._contribute(base, reduction))
        checkpoint, record = await self._outcome(base, reduction)
        vote = self._statements.vote(record)
        record = record.model_copy(update={"votes": {context.name: vote.signature}})
        await context.persist_vote(opened.plan, record, checkpoint)
        context.publish(vote)
        commit = await self._commit
        reduction.release_contribution()
        if commit.outcome == record.outcome:
            await context.adopt(opened.model, checkpoint, opened.term, commit)
        else:
            log.warning("round %d of %s has another outcome here than at the majority", opened.number, opened.model)
            await context.reach(commit, self._holders, opened.term)
        context.tell(self.leader, round_message(ModelAdopted, opened))

    def _layout(self, model: ModelState) -> Layout:
        """Of a contribution."""
        return Layout.of_state(model) if self._secure_sum is None else self._secure_sum.layout(model)

    async def _contribute(self, base: Checkpoint, reduction: RoundReduction) -> None:
        opened, context = self.opened, self._context
        try:
            usual = default_threshold(len(opened.contributors))
            if undercut := context.floor.undercut_by(self._federation, usual):
                raise PrivacyError(f"its own configuration is the floor: {undercut}")
            update, model = await self._update(base), model_tensors(base.state)
            await context.reducer.run(partial(_require_valid, update.state, model))
            state = update.state if self._secure_sum is None else await self._secure_sum.masked(update, model)
            blob = await reduction.contribute(StateFile(state))
            contribution = ContributionRef(weight=update.weight, blobs=(blob,), values=dict(update.values))
        except (_InvalidContribution, ValidationError) as error:
            self._send_receipt(context.name, str(error))
        except MethodError as error:
            self._decline(str(error), can_vote=True)
        except Exception as error:  # a failure in a method must not keep the others waiting
            log.exception("round %d of %s", opened.number, opened.model)
            self._decline(f"{type(error).__name__} while contributing; see this node's log", can_vote=True)
        else:
            opening = self._statements.opening
            offer = round_message(ContributionAvailable, opened, opening=opening, contribution=contribution)
            context.publish(context.signatory.signed(offer))

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

    async def _outcome(self, base: Checkpoint, reduction: RoundReduction) -> tuple[Checkpoint, RoundCommit]:
        """The outcome of the round, and its record, should a majority have the same."""
        opened = self.opened
        if opened.recovered is not None:
            checkpoint = await self._context.recovered(opened.recovered, self._holders)
            return checkpoint, self._statements.recovered(opened.recovered, checkpoint.version.outcome)
        close = await self._close
        for name in self._statements.unfounded(close):
            raise ModelError(f"{self.leader} has closed the round with a contribution that {name} did not offer")
        if self._context.name in close.contributions:
            self._context.require_quorum(close.contributions)
            self._context.worker.counted()
        if opened.plan.given is not None:  # the server's optimiser starts afresh
            holders, like = (opened.plan.requester, *self._holders), model_tensors(base.state)
            packed = await self._context.fetch_state(opened.plan.given, holders, like, "the given model")
        else:
            packed = await self._aggregate(close, base, reduction)
        checkpoint = Checkpoint.of(packed, opened.number, opened.plan.key, opened.index)
        return checkpoint, self._statements.record(close, checkpoint.version.outcome)

    async def _aggregate(self, close: RoundClose, base: Checkpoint, reduction: RoundReduction) -> PackedState:
        weights = {name: each.weight for name, each in close.contributions.items()}
        rule = self._federation.rule if self._secure_sum is None else None
        packed = await reduction.run(ChunkReduction(rule, reduction.layout, weights), close.contributions)
        aggregate = packed.state
        if self._secure_sum is not None:
            model = model_tensors(base.state)
            aggregate = await self._secure_sum.unmasked(aggregate, close.contributions, model)
        elif isinstance(self._federation.server, Replace):
            return packed
        return await self._context.reducer.run(partial(_next_model, self._federation.server, base.state, aggregate))

    @property
    def _holders(self) -> tuple[str, ...]:
        return (self.leader, *self.opened.members)

    def _send_receipt(self, name: str, refused: str) -> None:
        receipt = round_message(ContributionReceipt, self.opened, contributor=name, refused=refused[:500])
        self._context.tell(self.leader, receipt)

    def _decline(self, reason: str, *, can_vote: bool) -> None:
        self._context.tell(
            self.leader, round_message(RoundDecline, self.opened, reason=reason[:500], can_vote=can_vote)
        )


def _next_model(server: ServerConfig, base: ModelState, aggregate: ModelState) -> PackedState:
    return PackedState.of(server_step(server, base, aggregate))


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

"""Carries out what a leader's machine instructs: messages, timers, and work that takes time.

What is done when is decided by `protocol.machines.coordinator`; nothing is decided here. One machine serves one term of
this member.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from pydantic import ValidationError

from fednet.errors import MethodError
from fednet.federated.config import Federation
from nodes.fault_boundary import OWN_ERRORS
from nodes.node import Node
from nodes.rounds.catching_up import CatchUp
from nodes.rounds.context import RoundContext
from nodes.rounds.plan_terms import FederationTerms
from protocol.election import Election
from protocol.machines.attempt import RoundAttempt
from protocol.machines.attempt_values import StaleContribution
from protocol.machines.coordinator import RoundCoordinator
from protocol.machines.coordinator_values import (
    AdoptOutcome,
    Duty,
    EndPart,
    NotPrepared,
    OutcomeAdopted,
    PartEnded,
    PlanDropped,
    Prepared,
    PreparePlan,
    Promised,
    Reach,
    Reached,
    Recall,
    Recalled,
    Requested,
    StoreView,
)
from protocol.machines.events import (
    Arrived,
    Begin,
    CheckShard,
    Departed,
    Heard,
    KeepStory,
    Publish,
    ShardChecked,
    Tell,
    Warn,
)
from protocol.machines.machine import MAX_HEARD, Instruction, MachineEvent, Tick
from protocol.machines.requests import RequestQueue
from protocol.machines.signatory import Signatory
from protocol.messages import Message
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import FalseShard, RoundCommit, RoundMessage
from protocol.quorum import DeadlineEstimator
from protocol.rounds import attempt_of

log = logging.getLogger(__name__)


class LeadingTerms:
    """This member's terms as leader of rounds, one after another.

    Args:
        node: spawns work, and contains the errors of plans that cannot be carried out.
        election: the leader and the members that are alive.
        signatory: checks what the members have signed.
        publish: sends a message to all members, this one too.
        catching_up: brings this member up to date.
        absent: the configured members that are not alive, with the reason.
        part_ended: waits until this member has ended its own part in the latest round.
        check_shard: looks whether a share is false, as a member says.

    Attributes:
        requests: the plans to hold rounds for.
        attempts: how many attempts at rounds it has opened; the number of the latest.
    """

    def __init__(
        self,
        node: Node,
        election: Election,
        signatory: Signatory,
        publish: Callable[[Message], None],
        *,
        catching_up: CatchUp,
        absent: Callable[[], Mapping[str, str]],
        part_ended: Callable[[], Awaitable[None]],
        check_shard: Callable[[str, FalseShard], Awaitable[ShardChecked]],
    ) -> None:
        self.requests = RequestQueue()
        self.attempts = 0
        self._node, self._election, self._signatory, self._publish = node, election, signatory, publish
        self._catching_up, self._absent, self._part_ended = catching_up, absent, part_ended
        self._check_shard = check_shard
        self._estimator = DeadlineEstimator(node.spec.rounds)
        self._machine: RoundCoordinator | None = None
        self._context: RoundContext
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_in: RoundAttempt | None = None
        self._heard = Counter[str]()

    @property
    def duty(self) -> Duty | None:
        """What this member does as leader; None if it does not lead."""
        return self._machine.state if self._machine is not None else None

    def begin(self, context: RoundContext) -> None:
        """This member leads from now on."""
        self.end()
        self._context = context
        self._machine = RoundCoordinator(
            self._election, self._signatory, self.requests, policy=self._node.spec.rounds, absent=self._absent,
            estimator=self._estimator, attempts=self.attempts,
        )  # fmt: skip
        self._feed(Begin())

    def end(self) -> None:
        """This member leads no longer."""
        self._machine = None
        if self._work is not None:
            self._work.cancel()
        self._rearm()

    def receive(self, sender: str, message: RoundMessage) -> None:
        """A member's message about a round counts if it is about the present attempt, and among its first in that."""
        attempt = self._machine.attempt if self._machine is not None else None
        if attempt is None or not attempt.concerns(message):
            return
        if attempt is not self._heard_in:
            self._heard_in, self._heard = attempt, Counter()
        self._heard[sender] += 1
        if self._heard[sender] <= MAX_HEARD:
            self._feed(Heard(sender, message))

    def requested(self) -> None:
        """A plan waits."""
        self._feed(Requested())

    def promised(self) -> None:
        """A member has promised this member's term."""
        self._feed(Promised())

    def refuse_stale(self, name: str, number: int) -> None:
        """Names a contributor to an earlier round in the record of the present one."""
        self._feed(StaleContribution(name, number))

    def arrived(self, name: str) -> RoundCommit | None:
        """A member is alive (again); returns the record whose outcome it is to adopt, if members are adopting one."""
        self._feed(Arrived(name))
        attempt = self._machine.attempt if self._machine is not None else None
        return attempt.commit if attempt is not None else None

    def departed(self, name: str, reason: str) -> None:
        """A member is gone."""
        self._feed(Departed(name, reason))

    def leads_from_outside(self, message: RoundMessage) -> bool:
        """Whether a message is about an attempt that this member leads and takes no part in, as it is unable to."""
        attempt = self._machine.attempt if self._machine is not None else None
        return attempt is not None and attempt.concerns(message) and self._election.me not in attempt.opened.members

    def in_progress(self, commit: RoundCommit) -> bool:
        """Whether members are still adopting the outcome of a round."""
        attempt = self._machine.attempt if self._machine is not None else None
        return attempt is not None and attempt_of(attempt.opened) == attempt_of(commit)

    def _feed(self, event: MachineEvent) -> None:
        """Hands an event to the machine, and does what it instructs; an unforeseen error is its plan's."""
        machine = self._machine
        if machine is None:
            return
        done = False
        with self._node.boundary.around(self._requester(), "a plan of rounds", passing=OWN_ERRORS):
            for instruction in machine.handle(event, asyncio.get_running_loop().time()):
                self._carry_out(instruction)
            done = True
        self.attempts = machine.attempts
        self._rearm()
        if not done and not isinstance(event, PlanDropped):
            self._feed(PlanDropped())

    def _requester(self) -> str:
        """Who has brought the plan that is being held."""
        return next((sender for _, sender in self.requests.plans.values()), self._node.name)

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._machine is not None and self._machine.deadline < float("inf"):
            self._timer = asyncio.get_running_loop().call_at(self._machine.deadline, self._feed, Tick())

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Publish(message):
                self._publish(message)
            case Tell(name, message):
                self._context.tell(name, message)
            case Warn(text):
                log.warning(text)
            case KeepStory(subject):
                self._context.keep_story(subject)
            case CheckShard(accuser, accusation):
                self._node.spawn_for(accuser, partial(self._check, accuser, accusation), "lead")
            case _:
                self._work = self._node.spawn(partial(self._do, instruction)(), "lead")

    async def _check(self, accuser: str, accusation: FalseShard) -> None:
        self._feed(await self._check_shard(accuser, accusation))

    async def _do(self, instruction: Instruction) -> None:
        """Work that takes time; its end is an event.

        Raises:
            MethodError: the participant cannot use a model of its peers.
        """
        context = self._context
        match instruction:
            case EndPart():
                await self._part_ended()
                self._feed(PartEnded())
            case Reach(record, holders):
                await self._catching_up.reach(context, record, holders)
                self._feed(Reached())
            case Recall():
                for model in list(context.store.checkpoints):
                    await self._catching_up.recall(context, model)
                self._feed(Recalled(context.store.latest()))
            case PreparePlan(plan):
                self._feed(await self._prepared(plan))
            case AdoptOutcome(record):
                await self._part_ended()
                await self._catching_up.reach(context, record, sorted(record.weights))
                self._feed(OutcomeAdopted(self._view(record.model, record.key)))

    async def _prepared(self, plan: RoundPlanMessage) -> Prepared | NotPrepared:
        try:
            terms = FederationTerms(Federation.of_peer(plan.federation), self._node.spec.seed)
            await self._context.checkpoint(plan.model)
        except (MethodError, ValidationError) as error:
            return NotPrepared(str(error))
        return Prepared(terms, self._view(plan.model, plan.key))

    def _view(self, model: str, key: str) -> StoreView:
        store = self._context.store
        lost = frozenset(store.records[-1].lost if store.records else ())
        return StoreView(store.latest(), store.checkpoints[model].version, store.rounds_done(key), lost)

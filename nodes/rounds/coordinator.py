"""Leading rounds: brings this member up to date, settles open outcomes, and holds the requested rounds in their order.

A leader says when a round opens and closes and nothing else; it is a member like every other and takes part itself.
Knows nothing of how leaders are elected (`nodes.rounds.leadership`) and what one attempt consists of
(`nodes.rounds.attempt`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from pydantic import ValidationError

from fednet.errors import MethodError
from fednet.federated.config import Federation
from fednet.federated.participation import sampled_participants
from nodes.fault_boundary import OWN_ERRORS, FaultBoundary
from nodes.rounds.attempt import RoundAttempt
from nodes.rounds.catching_up import CatchUp
from nodes.rounds.context import RoundContext
from nodes.rounds.failures import AttemptFailed, RoundImpossible, abort_message
from nodes.rounds.signatory import Signatory
from protocol.certificates import possibly_committed
from protocol.election import PREPARE_INTERVAL, Election, ElectionWon
from protocol.messages import Message
from protocol.messages.election import AcceptedVote, LeaderAnnouncement, Prepare
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundMessage, RoundOpen
from protocol.quorum import DeadlineEstimator, QuorumPolicy
from protocol.rounds import attempt_of

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 100
"""Attempts at one round, most of which end with a death; a round that fails more often will not succeed."""

MAX_REQUESTS = 64
"""Plans that wait at a member; a further one is refused."""

PROMISE_TIMEOUT = 5.0
"""Seconds for which a new leader waits for the promises of all members that are alive, where a round was left open."""

FIRST_ROUND_WAIT = 30.0
"""Seconds for which a leader's first round waits for the configured members that have not been linked yet."""


class RequestQueue:
    """The plans that wait, in the order in which they came.

    Attributes:
        plans: by key, with the node that has brought each: its requester, or a leader that has opened a round of it.
        changed: set when one is added.
    """

    def __init__(self) -> None:
        self.plans: dict[str, tuple[RoundPlanMessage, str]] = {}
        self.changed = asyncio.Event()

    def add(self, plan: RoundPlanMessage, sender: str) -> bool:
        """Adds a plan that a node has brought; False if too many wait already."""
        if plan.key not in self.plans and len(self.plans) >= MAX_REQUESTS:
            return False
        self.plans.setdefault(plan.key, (plan, sender))
        self.changed.set()
        return True

    def remove(self, key: str) -> None:
        """Removes a plan whose rounds are over."""
        self.plans.pop(key, None)


class RoundCoordinator:
    """The duty of the leader.

    Args:
        election: the leader and the members that are alive.
        signatory: checks what the members have signed.
        publish: sends a message to all members, this one too.
        policy: when a round goes on without everybody.
        seed: of the draw of contributors.
        catching_up: brings this member up to date.
        absent: the configured members that are not alive, with the reason.
        participation_ended: waits until this member has ended its own part in the latest round.
        boundary: contains the errors of plans that cannot be carried out.

    Attributes:
        requests: the plans to hold rounds for.
        attempts: how many attempts at rounds it has opened; the number of the latest.
    """

    def __init__(
        self,
        election: Election,
        signatory: Signatory,
        publish: Callable[[Message], None],
        *,
        policy: QuorumPolicy,
        seed: int,
        catching_up: CatchUp,
        absent: Callable[[], Mapping[str, str]],
        participation_ended: Callable[[], Awaitable[None]],
        boundary: FaultBoundary,
    ) -> None:
        self.requests = RequestQueue()
        self.attempts = 0
        self._election, self._signatory, self._publish = election, signatory, publish
        self._policy, self._seed = policy, seed
        self._catching_up, self._absent, self._participation_ended = catching_up, absent, participation_ended
        self._boundary = boundary
        self._estimator = DeadlineEstimator(policy)
        self._attempt: RoundAttempt | None = None
        self._arrived = asyncio.Event()

    def receive(self, sender: str, message: RoundMessage) -> None:
        """A member's message about a round counts if it is about the present attempt."""
        if self._attempt is not None and self._attempt.concerns(message):
            self._attempt.receive(sender, message)

    def leads_from_outside(self, message: RoundMessage) -> bool:
        """Whether a message is about an attempt that this member leads and takes no part in, as it is unable to."""
        attempt = self._attempt
        return attempt is not None and attempt.concerns(message) and self._election.me not in attempt.opened.members

    def refuse_stale(self, name: str, number: int) -> None:
        """Names a contributor to an earlier round in the record of the present one."""
        if self._attempt is not None:
            self._attempt.refuse_stale(name, number)

    def in_progress(self, commit: RoundCommit) -> bool:
        """Whether members are still adopting the outcome of a round."""
        return self._attempt is not None and attempt_of(self._attempt.opened) == attempt_of(commit)

    def arrived(self, name: str) -> RoundCommit | None:
        """A member is alive (again); returns the record whose outcome it is to adopt, if members are adopting one."""
        self._arrived.set()
        return self._attempt.arrived(name) if self._attempt is not None else None

    def promised(self) -> None:
        """A member has promised this member's term."""
        self._arrived.set()

    def departed(self, name: str, reason: str) -> None:
        """A member is gone."""
        self._arrived.set()
        if self._attempt is not None:
            self._attempt.departed(name, reason)

    async def lead(self, elected: ElectionWon, context: RoundContext) -> None:
        """Leads until it is cancelled.

        Raises:
            MethodError: the participant cannot use a model of its peers.
        """
        await self._participation_ended()
        if self._election.open_votes():
            await self._all_promised()
        records, votes = self._election.latest_records(), self._election.open_votes()
        for record, holder in records.values():
            await self._catching_up.reach(context, record, (holder,))
        for model in list(context.store.checkpoints):
            await self._catching_up.recall(context, model)
        for vote in votes.values():
            await self._recover(context, vote)
        while True:
            self.requests.changed.clear()
            for plan, sender in list(self.requests.plans.values()):
                with self._boundary.around(sender, "a plan of rounds", passing=OWN_ERRORS):
                    await self._hold_plan(context, plan)
                self.requests.remove(plan.key)
            self._publish(LeaderAnnouncement(term=elected.term, attempt=self.attempts, records=context.store.latest()))
            await self.requests.changed.wait()

    async def _hold_plan(self, context: RoundContext, plan: RoundPlanMessage) -> None:
        """Holds the rounds of a plan that are still to be held."""
        store = context.store
        try:
            Federation.of_peer(plan.federation)
            await context.checkpoint(plan.model)
            await self._members_arrived(context)
            for index in range(store.rounds_done(plan.key) + 1, plan.rounds + 1):
                commit = await self.hold(context, plan, index)
                await self._adopted(context, commit)
                context.tell(plan.requester, commit)
        except (RoundImpossible, MethodError, ValidationError) as error:
            impossible = error if isinstance(error, RoundImpossible) else RoundImpossible(str(error), {})
            aborted = abort_message(self._election.term, plan, impossible)
            self._publish(aborted)
            context.tell(plan.requester, aborted)

    async def _recover(self, context: RoundContext, accepted: AcceptedVote) -> None:
        """Commits a round that an earlier leader may have committed, with the same outcome.

        For a committed record a majority has voted, and those that have promised this term have said so: what too few
        can have voted for is held anew.
        """
        plan, record = accepted.plan, accepted.record
        try:
            number = (await context.checkpoint(record.model)).version.number
        except MethodError as error:
            log.warning("a vote for round %d of %s is void: %s", record.number, record.model, error)
            return
        votes = len(self._signatory.valid_votes(record))
        possible = possibly_committed(votes, self._election.silent, self._election.majority)
        if number + 1 != record.number or not possible:
            return
        log.info("%s recovers the outcome that round %d of %s may have had", context.name, record.number, record.model)
        try:
            await self._adopted(context, await self.hold(context, plan, record.index, record))
        except RoundImpossible as error:
            log.warning("round %d of %s is held again: %s", record.number, record.model, error)

    async def _all_promised(self) -> None:
        """Waits, for a bounded time, until every member that is alive has promised this term."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PROMISE_TIMEOUT):
                while self._election.unpromised:
                    self._publish(Prepare(term=self._election.term))
                    self._arrived.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._arrived.wait(), PREPARE_INTERVAL)

    async def hold(
        self, context: RoundContext, plan: RoundPlanMessage, index: int, recovered: RoundCommit | None = None
    ) -> RoundCommit:
        """Holds one round of a plan, in as many attempts as it takes.

        Args:
            context: what this member works with.
            plan: the plan.
            index: which of its rounds, from 1.
            recovered: what an earlier leader may have committed this very round with.

        Returns:
            The record of the round, once every member that is waited for has adopted its outcome.

        Raises:
            RoundImpossible: it cannot be held.
        """
        unable, refused = dict[str, str](), dict[str, str]()
        for _ in range(MAX_ATTEMPTS):
            await self._majority_arrived()
            try:
                opened = self._opened(context, plan, index, recovered=recovered, unable=unable, refused=refused)
                self._attempt = RoundAttempt(
                    opened, self._election, self._signatory, self._policy, self._estimator,
                    unable=unable, refused=refused, absent=self._absent(), publish=self._publish,
                )  # fmt: skip
                return await self._attempt.run()
            except AttemptFailed as error:
                log.warning("round %d of %s is repeated: %s", index, plan.key, error)
            finally:
                self._attempt = None
        raise RoundImpossible(f"{MAX_ATTEMPTS} attempts failed", unable)

    def _opened(
        self,
        context: RoundContext,
        plan: RoundPlanMessage,
        index: int,
        *,
        recovered: RoundCommit | None,
        unable: Mapping[str, str],
        refused: Mapping[str, str],
    ) -> RoundOpen:
        """The next attempt, with the members that are alive and able."""
        election, base = self._election, context.store.checkpoints[plan.model].version
        number = base.number + 1
        members = tuple(sorted(election.alive - unable.keys()))
        if len(members) < election.majority:
            raise RoundImpossible(f"{len(members)} of {election.majority} needed can take part", unable)
        contributors: tuple[str, ...] = ()
        if plan.given is None and recovered is None:
            share = Federation.of_peer(plan.federation).participation
            sampled = sampled_participants(members, share, self._seed, plan.model, number)
            contributors = tuple(name for name in sampled if name not in refused)
        self.attempts += 1
        return RoundOpen(
            model=plan.model, number=number, term=election.term, attempt=self.attempts, index=index, plan=plan,
            records=context.store.latest(), base=base.outcome, recovered=recovered,
            members=members, contributors=contributors,
        )  # fmt: skip

    async def _members_arrived(self, context: RoundContext) -> None:
        """Before its first round waits, for a bounded time, for the members that have neither arrived nor departed.

        Those that the last round went on without are not waited for again.
        """
        known = context.store.records[-1].lost if context.store.records else {}
        try:
            async with asyncio.timeout(FIRST_ROUND_WAIT):
                while not self.attempts and self._election.awaited - known.keys():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            log.warning("the rounds begin without %s", ", ".join(sorted(self._election.awaited)))

    async def _majority_arrived(self) -> None:
        """Waits until a majority of the configured members is alive: without it no round can close."""
        while len(self._election.alive) < self._election.majority:
            alive = ", ".join(sorted(self._election.alive))
            log.warning("waiting: %d members are needed and %s are alive", self._election.majority, alive)
            self._arrived.clear()
            await self._arrived.wait()

    async def _adopted(self, context: RoundContext, commit: RoundCommit) -> None:
        """Waits until this member, too, has adopted the outcome of a round."""
        await self._participation_ended()
        await self._catching_up.reach(context, commit, sorted(commit.weights))

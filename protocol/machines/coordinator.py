"""Leading rounds for one term: brings this member up to date, settles open outcomes, holds the requested rounds.

    elected -> ending -> (completing) -> reaching* -> recalling -> preparing -> (gathering) -> waiting -> holding
    holding -> waiting (another attempt) | adopting -> waiting (the next round) | preparing (the next plan) | idle
    holding -> completing (what may have been committed is recovered before anything else)

A leader says when a round opens and closes and nothing else; it is a member like every other and takes part itself.
Knows nothing of how leaders are elected (`protocol.election`) and what one attempt consists of
(`protocol.machines.attempt`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import inf

from protocol.election import PREPARE_INTERVAL, Election
from protocol.machines.attempt import RoundAttempt
from protocol.machines.attempt_values import (
    AttemptFailed,
    AttemptTerms,
    Committed,
    RoundImpossible,
    StaleContribution,
)
from protocol.machines.coordinator_values import (
    ANNOUNCE_INTERVAL,
    DUTIES,
    FIRST_ROUND_WAIT,
    MAX_ATTEMPTS,
    PROMISE_TIMEOUT,
    AdoptOutcome,
    Duty,
    EndPart,
    Job,
    NotPrepared,
    OutcomeAdopted,
    PartEnded,
    PlanDropped,
    PlanTerms,
    Prepared,
    PreparePlan,
    Reach,
    Reached,
    Recall,
    Recalled,
    StoreView,
)
from protocol.machines.events import Arrived, Begin, Departed, Heard, KeepStory, Publish, ShardChecked, Tell, Warn
from protocol.machines.failures import abort_message
from protocol.machines.machine import Machine, MachineEvent, Tick
from protocol.machines.recovery import OpenVotes
from protocol.machines.requests import RequestQueue
from protocol.machines.signatory import Signatory
from protocol.messages.election import LeaderAnnouncement, Prepare
from protocol.messages.rounds import RoundCommit, RoundOpen
from protocol.quorum import DeadlineEstimator, QuorumPolicy


class RoundCoordinator(Machine[Duty]):
    """The duty of the leader in one term.

    Args:
        election: the leader and the members that are alive.
        signatory: checks what the members have signed.
        requests: the plans to hold rounds for.
        policy: when a round goes on without everybody.
        absent: the configured members that are not alive, with the reason.
        estimator: learns how long contributions take.
        attempts: how many attempts at rounds this member has opened before.

    Attributes:
        attempt: the present one.
        attempts: the number of the latest attempt.
    """

    transitions = DUTIES

    def __init__(
        self,
        election: Election,
        signatory: Signatory,
        requests: RequestQueue,
        *,
        policy: QuorumPolicy,
        absent: Callable[[], Mapping[str, str]],
        estimator: DeadlineEstimator,
        attempts: int = 0,
    ) -> None:
        super().__init__(Duty.ELECTED, remembers=64)  # its attempts remember theirs
        self.attempt: RoundAttempt | None = None
        self.attempts = attempts
        self._election, self._signatory, self._requests = election, signatory, requests
        self._policy, self._absent, self._estimator = policy, absent, estimator
        self._term = election.term
        self._records: Mapping[str, RoundCommit] = {}
        self._to_reach = deque[tuple[RoundCommit, str]]()
        self._open_votes = OpenVotes(election, signatory)
        self._job: Job | None = None
        self._terms: PlanTerms
        self._view: StoreView
        self._now, self._until = 0.0, inf  # the time of the present event, and the end of a wait
        self._repeat_at = 0.0  # when a prepare, or an announcement, is sent again
        self._warned_of = frozenset[str]()  # the members that were alive, too few

    def _handle(self, event: MachineEvent, now: float) -> None:
        self._now = now
        match event:
            case Begin():
                self._go(Duty.ENDING)
                self._instruct(EndPart())
            case PartEnded() if self._election.open_votes():
                self._go(Duty.COMPLETING)
                self._until = now + PROMISE_TIMEOUT
            case PartEnded():
                self._bring_up_to_date()
            case Reached():
                self._reach_next()
            case Recalled(records):
                self._records = records
                self._next_job()
            case Prepared(terms, view):
                self._terms, self._view, self._records = terms, view, view.records
                self._prepared(now)
            case NotPrepared(reason):
                self._drop(RoundImpossible(reason, {}))
            case OutcomeAdopted(view):
                self._view, self._records = view, view.records
                self._round_over()
            case PlanDropped():
                self.attempt = None
                self._plan_over()
            case Heard(_, message) | ShardChecked(_, message) if self.attempt and self.attempt.concerns(message):
                self._lead(event, now)
            case Arrived() | Departed() | StaleContribution() | Tick() if self.attempt is not None:
                self._lead(event, now)
        self._wait(now)

    def _wait(self, now: float) -> None:
        """Looks whether a wait is over, and when to look again."""
        self.deadline = inf
        if self.state is Duty.COMPLETING:
            self._complete(now)
        if self.state is Duty.GATHERING:
            self._gather(now)
        if self.state is Duty.WAITING:
            self._await_majority(now)
        if self.state is Duty.HOLDING and self.attempt is not None:
            self.deadline = self.attempt.deadline
        if self.state is Duty.IDLE:
            self._next_job() if self._requests.plans else self._announce(now)

    def _complete(self, now: float) -> None:
        """Waits, for a bounded time, until every member that is alive has promised this term.

        All of that time where they have promised already, and what was open is open still.
        """
        if now >= self._until or not (self._election.unpromised or self._open_votes):
            self._bring_up_to_date()
            return
        if now >= self._repeat_at:
            self._instruct(Publish(Prepare(term=self._term)))
            self._repeat_at = now + PREPARE_INTERVAL
        self.deadline = min(self._repeat_at, self._until)

    def _bring_up_to_date(self) -> None:
        """Reaches the latest outcome of every model, then settles what was left open."""
        self._to_reach.extend(self._election.latest_records().values())
        self._open_votes.learn()
        self._reach_next()

    def _reach_next(self) -> None:
        if self._to_reach:
            record, holder = self._to_reach.popleft()
            self._go(Duty.REACHING)
            self._instruct(Reach(record, (holder,)))
        else:
            self._go(Duty.RECALLING)
            self._instruct(Recall())

    def _next_job(self) -> None:
        """Goes on with the next open vote, then with the next plan."""
        if self._open_votes:
            vote = self._open_votes.next()
            self._prepare(Job(vote.plan, vote, vote.record.index))
        elif self._requests.plans:
            plan, _sender = next(iter(self._requests.plans.values()))
            self._prepare(Job(plan))
        else:
            self._job = None
            self._go(Duty.IDLE)
            self._repeat_at = self._now

    def _announce(self, now: float) -> None:
        """Tells the members what is held, again and again: one may have lost the last message of the last round."""
        if now >= self._repeat_at:
            records = dict(self._records)
            self._instruct(Publish(LeaderAnnouncement(term=self._term, attempt=self.attempts, records=records)))
            self._repeat_at = now + ANNOUNCE_INTERVAL
        self.deadline = self._repeat_at

    def _prepare(self, job: Job) -> None:
        self._job = job
        self._go(Duty.PREPARING)
        self._instruct(PreparePlan(job.plan))

    def _prepared(self, now: float) -> None:
        job = self._present()
        if job.recovered is not None:
            if self._open_votes.may_be_committed(job.recovered, self._view.version):
                self._go(Duty.WAITING)
            else:
                self._next_job()
        elif self._view.done >= job.plan.rounds:
            self._plan_over()
        else:
            self._job = Job(job.plan, index=self._view.done + 1)
            self._until = now + FIRST_ROUND_WAIT
            self._go(Duty.GATHERING)

    def _gather(self, now: float) -> None:
        """Before its first round waits, for a bounded time, for the members that have neither arrived nor departed.

        Those that the last round went on without are not waited for again.
        """
        awaited = self._election.awaited
        if not self.attempts and awaited - self._view.lost:
            if now < self._until:
                self.deadline = self._until
                return
            self._instruct(Warn(f"the rounds begin without {', '.join(sorted(awaited))}"))
        self._go(Duty.WAITING)

    def _await_majority(self, now: float) -> None:
        """Opens the next attempt once a majority of the configured members is alive: without it none can close."""
        alive, majority = self._election.alive, self._election.majority
        if len(alive) < majority:
            if alive != self._warned_of:
                self._instruct(Warn(f"waiting: {majority} members are needed and {', '.join(sorted(alive))} are alive"))
            self._warned_of = alive
            return
        job = self._present()
        members = tuple(sorted(alive - job.unable.keys()))
        if len(members) < majority:
            self._give_up(RoundImpossible(f"{len(members)} of {majority} needed can take part", job.unable))
        elif job.attempts == MAX_ATTEMPTS:
            self._give_up(RoundImpossible(f"{MAX_ATTEMPTS} attempts failed", job.unable))
        else:
            self._open(job, members, now)

    def _open(self, job: Job, members: tuple[str, ...], now: float) -> None:
        """The next attempt, with the members that are alive and able."""
        plan, base = job.plan, self._view.version
        number, contributors = base.number + 1, tuple[str, ...]()
        if plan.given is None and job.recovered is None:
            drawn = self._terms.drawn(members, plan.model, number)
            contributors = tuple(name for name in drawn if name not in job.refused)
        self.attempts += 1
        job.attempts += 1
        opened = RoundOpen(
            model=plan.model, number=number, term=self._term, attempt=self.attempts, index=job.index, plan=plan,
            records=dict(self._records), base=base.outcome, recovered=job.recovered_record,
            members=members, contributors=contributors,
        )  # fmt: skip
        terms = self._attempt_terms(job, opened)
        self.attempt = RoundAttempt(self._election.me, opened, terms, self._signatory, now)
        self._go(Duty.HOLDING)
        self._lead(Begin(), now)

    def _attempt_terms(self, job: Job, opened: RoundOpen) -> AttemptTerms:
        terms, policy = self._terms, self._policy
        return AttemptTerms(
            policy=policy.model_copy(update={"quorum": max(policy.quorum, terms.quorum)}),
            deadline=self._estimator.deadline() if policy.kind == "survivors" else inf,
            enough=terms.enough, sharded=terms.sharded(len(opened.members)),
            threshold=terms.threshold(len(opened.contributors)) if opened.contributors else 0,
            configured=self._election.members, alive=tuple(sorted(self._election.alive)), absent=self._absent(),
            unable=job.unable, refused=job.refused,
        )  # fmt: skip

    def _lead(self, event: MachineEvent, now: float) -> None:
        """Hands an event to the present attempt, and goes on from its end."""
        assert self.attempt is not None  # noqa: S101 - checked by the caller
        attempt, job = self.attempt, self._present()
        for instruction in attempt.handle(event, now):
            self._instruct(instruction) if not isinstance(instruction, _ENDS) else self._end(attempt, job, instruction)

    def _end(self, attempt: RoundAttempt, job: Job, end: Committed | AttemptFailed | RoundImpossible) -> None:
        self.attempt, job.unable, job.refused = None, attempt.unable, attempt.refused
        for seconds in attempt.seconds:
            self._estimator.record(seconds)
        if not isinstance(end, Committed):
            self._instruct(KeepStory(attempt))
        match end:
            case Committed(record):
                self._go(Duty.ADOPTING)
                self._instruct(AdoptOutcome(record))
                job.commit = record
            case AttemptFailed(reason):
                self._go(Duty.WAITING)
                self._instruct(Warn(f"round {job.index} of {job.plan.key} is repeated: {reason}"))
            case RoundImpossible():
                self._give_up(end)

    def _round_over(self) -> None:
        """The present round is committed, and this member has its outcome."""
        job = self._present()
        if job.recovered is not None:
            self._next_job()
            return
        self._instruct(Tell(job.plan.requester, job.commit))
        if job.index < job.plan.rounds:
            self._job = job.next_round
            self._go(Duty.WAITING)
        else:
            self._plan_over()

    def _give_up(self, why: RoundImpossible) -> None:
        """The present plan cannot be carried out; what may have been committed is tried for again."""
        vote = self._present().recovered
        if vote is None or not self._open_votes.may_be_committed(vote, self._view.version):
            self._drop(why)
            return
        if text := self._open_votes.keep(vote, why.reason):
            self._instruct(Warn(text))
        self._until, self._repeat_at = self._now + PROMISE_TIMEOUT, self._now
        self._go(Duty.COMPLETING)

    def _drop(self, why: RoundImpossible) -> None:
        """The present plan is no more; an outcome under it goes on under another one that it was stated with."""
        job = self._present()
        if (record := job.recovered_record) is not None:
            self._instruct(Warn(f"the vote for round {record.number} of {record.model} is void: {why.reason}"))
            self._next_job()
            return
        aborted = abort_message(self._term, job.plan, why)
        self._instruct(Publish(aborted), Tell(job.plan.requester, aborted))
        self._plan_over()

    def _plan_over(self) -> None:
        self._requests.remove(self._present().plan.key)
        self._next_job()

    def _present(self) -> Job:
        assert self._job is not None  # noqa: S101 - only a leader that has one gets here
        return self._job


_ENDS = (Committed, AttemptFailed, RoundImpossible)

"""Leading rounds, for as long as this member holds the duty.

The lead says when a round opens and closes and nothing else: states go between the members. It is a member like
every other, with a seat of its own. Whom it waits for is the ledger's to decide (`protocol.rounds`), who leads the
council's (`protocol.election`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from fednet.federated.participation import sampled_participants
from nodes.rounds.attempt import AttemptFailed, RoundAttempt, RoundImpossible
from nodes.rounds.conversion import federation_from
from nodes.rounds.secure_sum import threshold_of
from protocol.election import Election
from protocol.messages import Message
from protocol.messages.rounds import (  # fmt: skip
    BlobRef,
    ContributionAvailable,
    ContributionReceipt,
    ModelAdopted,
    ModelVersion,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundPlanMessage,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import KeyAdvertisement, SecureSumMessage, ShareDistribution, SharesReceived
from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker
from protocol.rounds import ContributionTracker, VoteTracker, attempt_of, round_message

log = logging.getLogger(__name__)


MAX_ATTEMPTS = 100
"""Attempts at one round, most of which end with a death; what breaks more often will not end well."""


class RoundCoordinator:
    """The duty to lead.

    Args:
        council: who leads, and who is there.
        policy: when a round goes on without everybody.
        seed: of the draw of contributors.
        say: tells all members, this one too.

    Attributes:
        attempts: how many attempts at rounds it has opened; the number of the latest.
    """

    def __init__(self, council: Election, policy: QuorumPolicy, seed: int, say: Callable[[Message], None]) -> None:
        self._election = council
        self._policy = policy
        self._seed = seed
        self._say = say
        self._pace = DeadlineEstimator(policy)
        self.attempts = 0
        self._round: RoundAttempt | None = None
        self._unable: dict[str, str] = {}
        self._awaited = asyncio.Event()

    async def hold(
        self,
        plan: RoundPlanMessage,
        index: int,
        standings: Mapping[str, ModelVersion],
        settled: RoundCommit | None = None,
    ) -> RoundCommit:
        """Holds one round of a programme, in as many attempts as it takes.

        Args:
            plan: the programme.
            index: which of its rounds, from 1.
            standings: how far the models are.
            settled: what an earlier lead may have closed this very round with.

        Returns:
            The record of the round, once every member that is waited for has taken over its outcome.

        Raises:
            Hopeless: it cannot be held.
        """
        self._unable = {}
        for _ in range(MAX_ATTEMPTS):
            await self._majority()
            try:
                return await self._attempt(plan, index, standings, settled)
            except AttemptFailed as broken:
                log.warning("round %d of %s begins again: %s", index, plan.key, broken)
            finally:
                self._round = None
        raise RoundImpossible(f"{MAX_ATTEMPTS} attempts were broken off", self._unable)

    def offered(self, name: str, contribution: ContributionAvailable) -> None:
        """A member contributes; one that is not to this attempt is refused by name."""
        held = self._round
        if held is not None and self._current(contribution):
            held.contribution_tracker.add(name, contribution.contribution, _now())
            held.changed.set()

    def stale(self, name: str, number: int) -> None:
        """A contribution to a round that is over: it is named in the record of the present one."""
        if self._round is not None and number < self._round.opened.number:
            self._round.contribution_tracker.refused.setdefault(name, f"stale: it contributed to round {number}")

    def receipt(self, name: str, receipt: ContributionReceipt) -> None:
        """A keeper holds its part of a contribution, or refuses it."""
        held = self._round
        if held is None or not self._current(receipt):
            return
        if receipt.refused:
            held.contribution_tracker.refuse(name, receipt.contributor, receipt.refused)
        else:
            held.contribution_tracker.mark_held(name, receipt.contributor, _now())
        held.changed.set()

    def declined(self, name: str, decline: RoundDecline) -> None:
        """A member cannot contribute, and perhaps not vote either."""
        held = self._round
        if held is None or not self._current(decline):
            return
        held.withdraw(name, f"declined: {decline.reason}")
        if not decline.can_vote:
            held.lose(name, f"declined: {decline.reason}")
            self._unable[name] = f"declined: {decline.reason}"
            held.broken |= len(held.contribution_tracker.holders) > 1
        held.changed.set()

    def voted(self, name: str, vote: RoundVote) -> None:
        """A member has computed what the round leaves."""
        held = self._round
        if held is not None and self._current(vote) and held.voting.arrive(name, _now()):
            held.vote_tracker.cast(name, vote.outcome)
            held.changed.set()

    def secure(self, name: str, message: SecureSumMessage) -> None:
        """A member has advertised its keys, or holds everybody's shares."""
        held = self._round
        if held is None or not self._current(message):
            return
        if isinstance(message, KeyAdvertisement):
            held.key_advertisements.arrive(name, _now())
        elif isinstance(message, SharesReceived) and held.sharing is not None:
            held.sharing.arrive(name, _now())
        held.changed.set()

    def reduced(self, name: str, reduced: ShardReduced) -> None:
        """A keeper has announced its shard of the aggregate."""
        if self._round is not None and self._current(reduced):
            self._round.reduced.add(name)

    def holds(self, record: RoundCommit) -> bool:
        """Whether a round is still under way: not every member has taken over its outcome."""
        return self._round is not None and attempt_of(self._round.opened) == attempt_of(record)

    def adopted(self, name: str, adopted: ModelAdopted) -> None:
        """A member has taken over what the round left."""
        held = self._round
        if held is not None and self._current(adopted) and held.adopting.arrive(name, _now()):
            held.changed.set()

    def arrived(self) -> None:
        """A member is there (again)."""
        self._awaited.set()

    def departed(self, name: str, reason: str) -> None:
        """Nobody waits for the dead; whose shard is needed breaks the attempt."""
        held = self._round
        if held is None:
            return
        held.depart(name, reason)
        held.changed.set()

    async def _majority(self) -> None:
        """Waits until a majority of the configured members is there: without it nothing can close."""
        while len(self._election.alive) < self._election.majority:
            there = ", ".join(sorted(self._election.alive))
            log.warning("%d members are needed and %s are here: waiting", self._election.majority, there)
            self._awaited.clear()
            await self._awaited.wait()

    async def _attempt(
        self, plan: RoundPlanMessage, index: int, standings: Mapping[str, ModelVersion], settled: RoundCommit | None
    ) -> RoundCommit:
        held = self._round = self._opened(plan, index, standings, settled)
        self._say(held.opened)
        if settled is None:
            outcome = await self._contributed(held)
            self._say(held.close(outcome, _now()))
        votes = await self._until(held, held.voting)
        left = self._agreed(held, votes)
        if settled is None:
            commit = held.commit(left)
        else:
            commit = settled.model_copy(update={"term": held.opened.term, "attempt": held.opened.attempt})
        self._say(commit)
        held.adopting.opened = _now()
        await self._until(held, held.adopting)
        return commit

    async def _contributed(self, held: RoundAttempt) -> QuorumOutcome:
        """Waits for the contributions; a model that is given needs none."""
        if held.opened.plan.given is not None:
            return QuorumOutcome(True, (), (), {}, True, 0.0)
        secure = federation_from(held.opened.plan).secure
        if secure is not None:
            await self._dealt(held, threshold_of(secure, len(held.opened.contributors)))
        outcome = await self._until(held, held.contribution_tracker.quorum)
        for seconds in held.contribution_tracker.quorum.durations():
            self._pace.record(seconds)
        if not outcome.quorate:
            self._require_majority(outcome)
            needed = held.contribution_tracker.quorum.policy.quorum
            raise RoundImpossible(f"{len(outcome.contributed)} of {needed} needed contributed", _all_lost(outcome))
        return outcome

    async def _dealt(self, held: RoundAttempt, threshold: int) -> None:
        """Waits until everybody who has a contribution holds everybody's shares, so that any of them may be lost."""
        adverts = await self._until(held, held.key_advertisements)
        names = adverts.contributed
        for name in adverts.late:
            held.withdraw(name, "late: its keys did not come in time")
        if len(names) < threshold:
            self._require_majority(adverts)
            raise RoundImpossible(
                f"{len(names)} of {threshold} needed for a secure sum contributed", _all_lost(adverts)
            )
        held.sharing = QuorumTracker.open(names, _now(), held.contribution_tracker.quorum.policy, self._pace)
        self._say(round_message(ShareDistribution, held.opened, sharers=names))
        sharing = await self._until(held, held.sharing)
        if sharing.contributed != names:
            raise AttemptFailed(f"late: {', '.join(sharing.late)}")
        held.sharers, held.needed = set(names), threshold

    def _opened(
        self, plan: RoundPlanMessage, index: int, standings: Mapping[str, ModelVersion], settled: RoundCommit | None
    ) -> RoundAttempt:
        federation, now, council = federation_from(plan), _now(), self._election
        members = tuple(sorted(council.alive - self._unable.keys()))
        if len(members) < council.majority:
            raise RoundImpossible(f"{len(members)} of {council.majority} needed can take part", self._unable)
        number = standings[plan.model].number + 1
        names: tuple[str, ...] = ()
        if plan.given is None and settled is None:
            names = sampled_participants(members, federation.participation, self._seed, plan.model, number)
        self.attempts += 1
        opened = RoundOpen(
            model=plan.model, number=number, term=council.term, attempt=self.attempts, index=index, plan=plan,
            versions=dict(standings), members=members, contributors=names, recovered=settled,
        )  # fmt: skip
        keepers = frozenset(members if federation.transport == "sharded" and names else (council.me,))
        quorate = self._policy.model_copy(update={"quorum": max(self._policy.quorum, federation.quorum)})
        voting = self._policy.model_copy(update={"quorum": council.majority})
        step = QuorumTracker.open((*names, *self._unable), now, quorate, self._pace)
        step.enough = federation.buffer.size if federation.buffer is not None else None
        for name, reason in self._unable.items():
            step.lose(name, reason)
        return RoundAttempt(
            opened=opened,
            lead=council.me,
            began=now,
            contribution_tracker=ContributionTracker(step, keepers),
            vote_tracker=VoteTracker(council.majority),
            voting=QuorumTracker.open(members, now, voting, self._pace),
            adopting=QuorumTracker.open(members, now, voting, self._pace),
            key_advertisements=QuorumTracker.open(names, now, quorate, self._pace),
        )

    async def _until(self, held: RoundAttempt, step: QuorumTracker) -> QuorumOutcome:
        """Waits until a step of an attempt has closed."""
        while not (outcome := step.outcome(_now())).closed:
            if held.broken and step is not held.adopting:
                raise AttemptFailed(", ".join(f"{name} {reason}" for name, reason in outcome.lost.items()))
            held.changed.clear()
            try:
                async with asyncio.timeout_at(outcome.until):
                    await held.changed.wait()
            except TimeoutError:
                pass
        if held.broken and step is not held.adopting:
            raise AttemptFailed("a member that is needed is gone")
        return outcome

    def _require_majority(self, outcome: QuorumOutcome) -> None:
        """Who is missing may come back: only with a majority there is anything hopeless.

        Raises:
            Broken: fewer than a majority is there.
        """
        if len(self._election.alive) < self._election.majority:
            raise AttemptFailed(", ".join(f"{name} {reason}" for name, reason in outcome.lost.items()))

    def _agreed(self, held: RoundAttempt, votes: QuorumOutcome) -> BlobRef:
        left = held.vote_tracker.agreed()
        if left is None:
            self._require_majority(votes)
            found = {name: f"computed {piece.digest[:12]}" for name, piece in held.vote_tracker.votes.items()}
            raise RoundImpossible(
                f"{held.vote_tracker.majority} members must agree on what round {held.opened.number} leaves",
                {**votes.lost, **dict.fromkeys(votes.late, "late"), **found},
            )
        for name in held.vote_tracker.dissenters(left):
            log.warning("%s has computed something else in round %d", name, held.opened.number)
        return left

    def _current(self, message: RoundMessage) -> bool:
        held = self._round
        return (
            held is not None and held.opened.model == message.model and attempt_of(held.opened) == attempt_of(message)
        )


def _all_lost(outcome: QuorumOutcome) -> dict[str, str]:
    return {**outcome.lost, **dict.fromkeys(outcome.late, "late")}


def _now() -> float:
    return asyncio.get_running_loop().time()

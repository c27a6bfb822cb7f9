"""One attempt at a round, as its leader sees it: opened, contributions counted, closed, voted on, committed.

States travel between the members; the leader counts messages and waits. Who is waited for, and until when, is decided
by `protocol.quorum` and `protocol.rounds`. Knows nothing of the rounds before and after (`nodes.rounds.coordinator`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from fednet.federated.config import Federation
from nodes.rounds.failures import AttemptFailed, RoundImpossible, listed, missing, truncated
from nodes.rounds.secure_sum import threshold_of
from nodes.rounds.signatory import Signatory
from nodes.rounds.statements import AttemptStatements
from protocol.certificates import vote_for
from protocol.election import Election
from protocol.messages import Message
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import Equivocation, KeyAdvertisement, ShareDistribution, SharesReceived
from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker
from protocol.rounds import (
    ContributionTracker,
    VoteTracker,
    attempt_of,
    record_reasons,
    round_message,
)

log = logging.getLogger(__name__)


class RoundAttempt:
    """An attempt that is under way.

    Args:
        opened: how it was opened.
        election: the leader and the members that are alive.
        signatory: checks what the members have signed.
        policy: when a round goes on without everybody.
        estimator: learns how long contributions take.
        unable: members that could take no part in earlier attempts at this round, with the reason; extended here.
        refused: members whose contributions to earlier attempts were rejected, with the reason; extended here.
        absent: configured members that are not alive, with the reason.
        publish: sends a message to all members, this one too.
    """

    def __init__(
        self,
        opened: RoundOpen,
        election: Election,
        signatory: Signatory,
        policy: QuorumPolicy,
        estimator: DeadlineEstimator,
        *,
        unable: dict[str, str],
        refused: dict[str, str],
        absent: Mapping[str, str],
        publish: Callable[[Message], None],
    ) -> None:
        self.opened = opened
        self._election, self._estimator, self._publish = election, estimator, publish
        self._unable, self._rejected = unable, refused
        self._statements = AttemptStatements(signatory, opened, election.me)
        self._commit: RoundCommit | None = None
        self._federation = Federation.of_peer(opened.plan.federation)
        self._opened_at = now = _now()
        sharded = opened.contributors and self._federation.sharded(len(opened.members))
        self._owners = frozenset(opened.members if sharded else ())  # of shards
        quorate = policy.model_copy(update={"quorum": max(policy.quorum, self._federation.quorum)})
        majority = policy.model_copy(update={"quorum": election.majority})
        left_out = {**absent, **unable}
        step = QuorumTracker.open((*opened.contributors, *left_out, *refused), now, quorate, estimator)
        step.enough = self._federation.buffer.size if self._federation.buffer is not None else None
        self._contributions = ContributionTracker(step)
        for name, reason in refused.items():
            self._contributions.refuse(name, reason)
        for name, reason in left_out.items():
            step.lose(name, reason)
        self._votes = VoteTracker(election.majority)
        self._voting = QuorumTracker.open(opened.members, now, majority, estimator)
        self._adopting = QuorumTracker.open(opened.members, now, majority, estimator)
        self._advertising = QuorumTracker.open(opened.contributors, now, quorate, estimator)  # of keys; secure rounds
        self._signatures: dict[str, bytes] = {}  # under contributions
        self._advertisements: dict[str, KeyAdvertisement] = {}
        self._sharing: QuorumTracker | None = None  # the members that are to hold everybody's shares; secure rounds
        self._sharers: set[str] = set()  # those of them that are alive
        self._threshold = 0  # how many of them it takes to unmask the sum
        self._reduced: set[str] = set()  # members that need no contribution any more
        self._close: RoundClose | None = None
        self._failed = ""  # why the attempt cannot go on
        self._changed = asyncio.Event()

    def concerns(self, message: RoundMessage) -> bool:
        """Whether a message belongs to this attempt."""
        return self.opened.model == message.model and attempt_of(self.opened) == attempt_of(message)

    def receive(self, sender: str, message: RoundMessage) -> None:
        """Counts a member's message about this attempt."""
        now = _now()
        match message:
            case ContributionAvailable():
                self._offered(sender, message, now)
            case ContributionReceipt():
                self._refuse(sender, message.contributor, message.refused)
            case RoundDecline():
                self._declined(sender, f"declined: {message.reason}", can_vote=message.can_vote)
            case KeyAdvertisement() if not self._statements.refusal(sender, message):
                self._advertisements.setdefault(sender, message)
                self._advertising.arrive(sender, now)
            case Equivocation() if self._statements.is_proof(message):
                self._declined(message.advertiser, "it advertised different keys or weights", can_vote=False)
            case SharesReceived() if self._sharing is not None:
                self._sharing.arrive(sender, now)
            case ShardReduced():
                self._reduced.add(sender)
            case RoundVote() if self._voting.arrive(sender, now):
                self._votes.cast(sender, message)
            case ModelAdopted():
                self._adopting.arrive(sender, now)
        self._changed.set()

    def _offered(self, name: str, offer: ContributionAvailable, now: float) -> None:
        """A contribution counts if its contributor has signed it, for this very opening."""
        refusal = self._statements.refusal(name, offer)
        if refusal and name in self.opened.contributors:
            self._refuse(name, name, refusal)
        elif self._contributions.add(name, offer.contribution, now):
            self._signatures[name] = offer.signature

    def refuse_stale(self, name: str, number: int) -> None:
        """Names a contributor to an earlier round in the record of this one."""
        if number < self.opened.number:
            self._contributions.refused.setdefault(name, f"stale: it contributed to round {number}")

    def arrived(self, name: str) -> RoundCommit | None:
        """A member is alive (again): of a committed round it, too, must adopt the outcome.

        Returns:
            The record of the round, if it is committed.
        """
        if self._commit is not None:
            self._adopting.expect(name)
        return self._commit

    def departed(self, name: str, reason: str) -> None:
        """A member is gone.

        In a sharded round it is needed: its share of the result, and until all have reduced theirs also what it has
        contributed. Repeating a secure round once shares of secrets were revealed would unmask it for other survivors;
        by then all have reduced their share, and a member that has fetched that of another one passes it on.
        In a mesh a contributor is needed from the close on, until all others have reduced what it has contributed.
        """
        self._lose(name, reason)
        if name in self._owners:
            needed = not (self._threshold and name in self._reduced)
        else:
            needed = self._close is not None and name in self._close.contributions and not self._all_reduced()
        if needed:
            self._fail(f"{name} {reason}")
        self._changed.set()

    def _all_reduced(self) -> bool:
        """Whether no member that is alive needs a contribution any more."""
        return (self._election.alive & set(self.opened.members)) - self._unable.keys() <= self._reduced

    def _refuse(self, by: str, name: str, reason: str) -> None:
        """A contribution is rejected: before the close by its contributor, after it by a member that reads it.

        A member that is rejected without its contribution is left out of the round: it lies about its share.
        """
        if self._close is None and by == name:
            self._contributions.refuse(name, reason)
        elif self._close is not None and {by, name} <= set(self.opened.members):
            (self._rejected if name in self._close.contributions else self._unable)[name] = reason
            self._fail(f"{by} rejects what {name} has sent: {reason}")

    def _fail(self, reason: str) -> None:
        self._failed = self._failed or reason

    async def run(self) -> RoundCommit:
        """Leads the attempt to its end.

        Returns:
            The record of the round, once every member that is alive has adopted its outcome, in the round or not.

        Raises:
            AttemptFailed: a member that is needed is gone.
            RoundImpossible: too few contributed, or they do not agree on the outcome.
        """
        recovered = self.opened.recovered
        self._publish(self.opened)
        if recovered is None:
            self._close = close = self._closed(await self._collected())
            self._publish(close)
            record_of = partial(self._statements.record, close)
        else:
            record_of = partial(self._statements.recovered, recovered)
        commit = self._certified(await self._until_closed(self._voting), record_of)
        self._publish(commit)
        self._commit, self._adopting.opened = commit, _now()
        for name in self._election.alive - self._unable.keys():
            self._adopting.expect(name)
        await self._until_closed(self._adopting)
        return commit

    async def _collected(self) -> QuorumOutcome:
        """Waits for the contributions; a model that is given needs none."""
        if self.opened.plan.given is not None:
            return QuorumOutcome(True, (), (), self._contributions.outcome(_now()).lost, True, 0.0)
        if self._federation.secure is not None:
            await self._distribute_shares(threshold_of(self._federation.secure, len(self.opened.contributors)))
        step = self._contributions.quorum
        outcome = await self._until_closed(step)
        for seconds in step.durations():
            self._estimator.record(seconds)
        if not outcome.quorate:
            self._require_majority(outcome)
            needed = step.policy.quorum
            raise RoundImpossible(f"{len(outcome.contributed)} of {needed} needed contributed", missing(outcome))
        return outcome

    async def _distribute_shares(self, threshold: int) -> None:
        """Waits until every contributor holds everybody's shares, so that any of them may be lost afterwards."""
        advertised = await self._until_closed(self._advertising)
        names = advertised.contributed
        for name in advertised.late:
            self._withdraw(name, "late: its keys did not come in time")
        if len(names) < threshold:
            self._require_majority(advertised)
            raise RoundImpossible(
                f"{len(names)} of {threshold} needed for a secure sum contributed", missing(advertised)
            )
        self._sharing = QuorumTracker.open(names, _now(), self._contributions.quorum.policy, self._estimator)
        advertisements = {name: self._advertisements[name] for name in names}
        self._publish(round_message(ShareDistribution, self.opened, advertisements=advertisements))
        shared = await self._until_closed(self._sharing)
        if shared.contributed != names:
            raise AttemptFailed(f"late: {', '.join(shared.late)}")
        self._sharers, self._threshold = set(names), threshold

    def _closed(self, outcome: QuorumOutcome) -> RoundClose:
        """Closes the round with those that have contributed; from now on votes are waited for."""
        now, refused = _now(), self._contributions.refused
        contributions = self._contributions.selected(outcome.contributed)
        self._voting.opened = now
        return round_message(
            RoundClose,
            self.opened,
            contributions=contributions,
            signatures={name: self._signatures[name] for name in contributions},
            late=outcome.late,
            lost=truncated(record_reasons(outcome, refused)),
            refused=truncated(refused),
            seconds=now - self._opened_at,
        )

    def _certified(self, voted: QuorumOutcome, record_of: Callable[[BlobRef], RoundCommit]) -> RoundCommit:
        """The record of the round with the votes of a majority; its remarks name what was refused since the close.

        Args:
            voted: who has voted.
            record_of: the record with an outcome.
        """
        agreed = self._votes.agreed()
        record = record_of(agreed.outcome) if agreed is not None else None
        if agreed is None or record is None or vote_for(record) != agreed:
            self._require_majority(voted)
            computed = {name: f"computed {vote.outcome.digest[:12]}" for name, vote in self._votes.votes.items()}
            raise RoundImpossible(
                f"{self._votes.majority} members must agree on the outcome of round {self.opened.number}",
                {**missing(voted), **computed},
            )
        dissent = dict.fromkeys(self._votes.dissenters(agreed), "it computed another aggregate")
        for name in dissent:
            log.warning("%s has computed another outcome of round %d", name, self.opened.number)
        refused = {**dissent, **self._contributions.refused}
        remarks = {name: reason for name, reason in refused.items() if name not in record.refused}
        votes = self._votes.certificate(agreed)
        return record.model_copy(update={"votes": votes, "remarks": truncated(remarks)})

    def _declined(self, name: str, reason: str, *, can_vote: bool) -> None:
        self._withdraw(name, reason)
        if not can_vote:
            self._lose(name, reason)
            self._unable[name] = reason
            if name in self._owners:
                self._fail(f"{name} {reason}")

    def _withdraw(self, name: str, reason: str) -> None:
        """A member's contribution is waited for no longer."""
        self._contributions.quorum.lose(name, reason)
        self._advertising.lose(name, reason)
        if self._sharing is not None and self._sharing.lose(name, reason):
            self._fail(f"{name} {reason}")  # the others wait for its shares

    def _lose(self, name: str, reason: str) -> None:
        """A member is waited for no longer."""
        self._withdraw(name, reason)
        self._voting.lose(name, reason)
        self._adopting.lose(name, reason)
        if name in self._sharers:
            self._sharers.remove(name)
            if len(self._sharers) < self._threshold:
                self._fail(f"{name} {reason}")

    async def _until_closed(self, step: QuorumTracker) -> QuorumOutcome:
        while not (outcome := step.outcome(_now())).closed and not self._has_failed(step):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(outcome.until):
                    await self._changed.wait()
            except TimeoutError:
                pass
        if self._has_failed(step):
            raise AttemptFailed(self._failed)
        return outcome

    def _has_failed(self, step: QuorumTracker) -> bool:
        """Whether a step cannot end; a round that is committed ends in any case."""
        return bool(self._failed) and step is not self._adopting

    def _require_majority(self, outcome: QuorumOutcome) -> None:
        """Without a majority nothing is impossible yet: the missing members may come back.

        Raises:
            AttemptFailed: fewer than a majority is alive.
        """
        if len(self._election.alive) < self._election.majority:
            raise AttemptFailed(listed(outcome.lost))


def _now() -> float:
    return asyncio.get_running_loop().time()

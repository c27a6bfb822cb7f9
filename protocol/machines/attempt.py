"""One attempt at a round, as its leader sees it: opened, contributions counted, closed, voted on, committed.

    opened -> advertising -> sharing -> collecting -> voting -> adopting -> committed
           (secure rounds only)

From every phase but the last it may fail, since a member that it needs is gone: another attempt may succeed. States
travel between the members; the leader counts messages and waits. Who is waited for, and until when, is decided by
`protocol.quorum` and `protocol.rounds`. Knows nothing of the rounds before and after (`protocol.machines.coordinator`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protocol.certificates import vote_for
from protocol.machines.accusations import Accusations, liars
from protocol.machines.attempt_values import (
    PHASES,
    AttemptFailed,
    AttemptTerms,
    Committed,
    Phase,
    RoundImpossible,
    StaleContribution,
)
from protocol.machines.events import Arrived, Begin, Departed, Heard, Publish, ShardChecked
from protocol.machines.failures import listed, missing
from protocol.machines.machine import Machine, MachineEvent
from protocol.machines.signatory import Signatory
from protocol.machines.sizes import truncated
from protocol.machines.statements import AttemptStatements
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    FalseShard,
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
from protocol.quorum import QuorumOutcome, QuorumPolicy, QuorumTracker
from protocol.rounds import ContributionTracker, VoteTracker, attempt_of, record_reasons, round_message


class RoundAttempt(Machine[Phase]):
    """An attempt that is under way.

    Args:
        me: this member.
        opened: how it is opened.
        terms: on which terms.
        signatory: checks what the members have signed.
        now: the time.

    Attributes:
        began: what it was made with, without the signatory.
        opened: how it is opened.
        signatory: checks what the members have signed, and remembers it.
        commit: the record of the round, once it is committed.
        unable: members that can take no part in this round, with the reason.
        refused: members whose contributions others have rejected, with the reason.
        seconds: how long contributions took.
    """

    transitions = PHASES

    def __init__(self, me: str, opened: RoundOpen, terms: AttemptTerms, signatory: Signatory, now: float) -> None:
        super().__init__(Phase.OPENED)
        self.began = {"me": me, "opened": opened, "terms": terms, "now": now}
        self.opened, self.signatory = opened, signatory.recorded()
        self.commit: RoundCommit | None = None
        self.unable, self.refused = dict(terms.unable), dict(terms.refused)
        self.seconds: tuple[float, ...] = ()
        self._terms, self._statements = terms, AttemptStatements(self.signatory, opened, me)
        self._configured, self._alive = frozenset(terms.configured), set(terms.alive)
        self._majority = len(self._configured) // 2 + 1
        self._owners = frozenset(opened.members if opened.contributors and terms.sharded else ())  # of shards
        left_out = {**terms.absent, **terms.unable}
        collecting = self._tracker((*opened.contributors, *left_out, *terms.refused), now)
        collecting.enough = terms.enough
        self._contributions = ContributionTracker(collecting)
        for name, reason in terms.refused.items():
            self._contributions.refuse(name, reason)
        for name, reason in left_out.items():
            collecting.lose(name, reason)
        self._votes, majority = VoteTracker(self._majority), terms.policy.model_copy(update={"quorum": self._majority})
        self._steps = {
            Phase.ADVERTISING: self._tracker(opened.contributors, now),
            Phase.COLLECTING: collecting,
            Phase.VOTING: self._tracker(opened.members, now, majority),
            Phase.ADOPTING: self._tracker(opened.members, now, majority),
        }
        self._opened_at = now
        self._signatures: dict[str, bytes] = {}  # under contributions
        self._advertisements: dict[str, KeyAdvertisement] = {}
        self._sharers: set[str] = set()  # those that hold everybody's shares and are alive
        self._reduced: set[str] = set()  # members that need no contribution any more
        self._accusations = Accusations("", self._owners)
        self._close: RoundClose | None = None
        self._failed = ""  # why the attempt cannot go on

    def concerns(self, message: RoundMessage) -> bool:
        """Whether a message belongs to this attempt."""
        return self.opened.model == message.model and attempt_of(self.opened) == attempt_of(message)

    def _handle(self, event: MachineEvent, now: float) -> None:
        match event:
            case Begin():
                self._instruct(Publish(self.opened))
                self._begin(now)
            case Heard(sender, message):
                self._receive(sender, message, now)
            case ShardChecked(accuser, accusation):
                self.unable |= liars(event)
                self._fail(f"{accuser} calls the share of {accusation.owner} false")
            case StaleContribution(name, number) if number < self.opened.number:
                self._contributions.refused.setdefault(name, f"stale: it contributed to round {number}")
            case Arrived(name):
                self._alive.add(name)
                if self.state is Phase.ADOPTING:
                    self._steps[Phase.ADOPTING].expect(name)
            case Departed(name, reason):
                self._alive.discard(name)
                self._depart(name, reason)
        self._advance(now)

    def _begin(self, now: float) -> None:
        if self.opened.recovered is not None:
            self._go(Phase.VOTING)
        elif self.opened.plan.given is not None:  # a model that is given needs no contributions
            lost = self._contributions.outcome(now).lost
            self._end_collecting(QuorumOutcome(True, (), (), lost, True, 0.0), now)
        else:
            self._go(Phase.ADVERTISING if self._terms.threshold else Phase.COLLECTING)

    def _receive(self, sender: str, message: RoundMessage, now: float) -> None:
        """Counts a member's message about this attempt."""
        match message:
            case ContributionAvailable():
                self._offered(sender, message, now)
            case ContributionReceipt():
                self._refuse(sender, message.contributor, message.refused)
            case RoundDecline(reason=reason, can_vote=can_vote):
                self._declined(sender, f"declined: {reason}", can_vote=can_vote)
            case KeyAdvertisement() if refused := self._statements.refusal(sender, message):
                self._withdraw(sender, f"its keys are refused: {refused}")
            case KeyAdvertisement():
                self._advertisements.setdefault(sender, message)
                self._steps[Phase.ADVERTISING].arrive(sender, now)
            case Equivocation() if self._statements.is_proof(message):
                self._declined(message.advertiser, "it advertised different keys or weights", can_vote=False)
            case SharesReceived() if Phase.SHARING in self._steps:
                self._steps[Phase.SHARING].arrive(sender, now)
            case ShardReduced():
                self._reduced.add(sender)
            case FalseShard() if self._close is not None:
                self._instruct(*self._accusations.hear(sender, message))
            case RoundVote() if self._steps[Phase.VOTING].arrive(sender, now):
                self._votes.cast(sender, message)
            case ModelAdopted():
                self._steps[Phase.ADOPTING].arrive(sender, now)

    def _advance(self, now: float) -> None:
        """Goes on as long as the present phase is over."""
        while (step := self._steps.get(self.state)) is not None:
            if self._failed and self.state is not Phase.ADOPTING:  # a round that is committed ends in any case
                self._fail_now(self._failed)
                return
            outcome = step.outcome(now)
            self.deadline = outcome.until
            if not outcome.closed:
                return
            match self.state:
                case Phase.ADVERTISING:
                    self._end_advertising(outcome, now)
                case Phase.SHARING:
                    self._end_sharing(outcome)
                case Phase.COLLECTING:
                    self.seconds = tuple(step.durations())
                    self._end_collecting(outcome, now)
                case Phase.VOTING:
                    self._end_voting(outcome, now)
                case Phase.ADOPTING if self.commit is not None:
                    self._go(Phase.COMMITTED)
                    self._instruct(Committed(self.commit))

    def _end_advertising(self, advertised: QuorumOutcome, now: float) -> None:
        """From now on every contributor gets everybody's shares, so that any of them may be lost afterwards."""
        names, threshold = advertised.contributed, self._terms.threshold
        for name in advertised.late:
            self._withdraw(name, "late: its keys did not come in time")
        if len(names) < threshold:
            self._give_up(f"{len(names)} of {threshold} needed for a secure sum contributed", advertised)
            return
        self._steps[Phase.SHARING] = self._tracker(names, now)
        advertisements = {name: self._advertisements[name] for name in names}
        self._instruct(Publish(round_message(ShareDistribution, self.opened, advertisements=advertisements)))
        self._go(Phase.SHARING)

    def _end_sharing(self, shared: QuorumOutcome) -> None:
        if set(shared.contributed) != self._steps[Phase.SHARING].expected:
            self._fail_now(f"late: {', '.join(shared.late)}")
            return
        self._sharers = set(shared.contributed)
        self._go(Phase.COLLECTING)

    def _end_collecting(self, outcome: QuorumOutcome, now: float) -> None:
        """Closes the round with those that have contributed; from now on votes are waited for."""
        if not outcome.quorate:
            needed = self._steps[Phase.COLLECTING].policy.quorum
            self._give_up(f"{len(outcome.contributed)} of {needed} needed contributed", outcome)
            return
        contributions, refused = self._contributions.selected(outcome.contributed), self._contributions.refused
        self._close = round_message(
            RoundClose, self.opened, contributions=contributions,
            signatures={name: self._signatures[name] for name in contributions}, late=outcome.late,
            lost=truncated(record_reasons(outcome, refused)), refused=truncated(refused), seconds=now - self._opened_at,
        )  # fmt: skip
        self._instruct(Publish(self._close))
        self._steps[Phase.VOTING].opened = now
        self._go(Phase.VOTING)

    def _end_voting(self, voted: QuorumOutcome, now: float) -> None:
        """Commits the round with the votes of a majority; every member that is alive is to adopt its outcome."""
        commit = self._certified()
        if commit is None:
            computed = {name: f"computed {vote.outcome.digest[:12]}" for name, vote in self._votes.votes.items()}
            reason = f"{self._majority} members must agree on the outcome of round {self.opened.number}"
            self._give_up(reason, voted, computed)
            return
        self.commit = commit
        self._instruct(Publish(commit))
        adopting = self._steps[Phase.ADOPTING]
        adopting.opened = now
        for name in self._alive - self.unable.keys():
            adopting.expect(name)
        self._go(Phase.ADOPTING)

    def _certified(self) -> RoundCommit | None:
        """The record of the round with the votes of a majority; its remarks name what was refused since the close."""
        agreed = self._votes.agreed()
        if agreed is None:
            return None
        record = self._record(agreed.outcome)
        if vote_for(record) != agreed:
            return None
        dissent = dict.fromkeys(self._votes.dissenters(agreed), "it computed another aggregate")
        refused = {**dissent, **self._contributions.refused}
        remarks = {name: reason for name, reason in refused.items() if name not in record.refused}
        return record.model_copy(update={"votes": self._votes.certificate(agreed), "remarks": truncated(remarks)})

    def _record(self, outcome: BlobRef) -> RoundCommit:
        """The record of the round with an outcome."""
        if self._close is not None:
            return self._statements.record(self._close, outcome)
        assert self.opened.recovered is not None  # noqa: S101 - only such an attempt has no close
        return self._statements.recovered(self.opened.recovered, outcome)

    def _offered(self, name: str, offer: ContributionAvailable, now: float) -> None:
        """A contribution counts if its contributor has signed it, for this very opening."""
        refusal = self._statements.refusal(name, offer)
        if refusal and name in self.opened.contributors:
            self._refuse(name, name, refusal)
        elif self._contributions.add(name, offer.contribution, now):
            self._signatures[name] = offer.signature

    def _refuse(self, by: str, name: str, reason: str) -> None:
        """A contribution is rejected: before the close by its contributor, after it or in a secure round by others.

        Who is rejected once the round is closed without its contribution lies about its share, and is left out.
        """
        close, opened = self._close, self.opened
        counted = close.contributions if close else opened.contributors
        if close is None and by == name:
            self._contributions.refuse(name, reason)
        elif (close or self._terms.threshold) and {by, name} <= set(opened.members if close else counted):
            (self.refused if name in counted else self.unable)[name] = reason
            self._fail(f"{by} rejects what {name} has sent: {reason}")

    def _depart(self, name: str, reason: str) -> None:
        """A member is gone.

        In a sharded round it is needed: its share of the result, and until all have reduced theirs also what it has
        contributed. Repeating a secure round once shares of secrets were revealed would unmask it for other survivors;
        by then all have reduced their share, and a member that has fetched that of another one passes it on.
        In a mesh a contributor is needed from the close on, until all others have reduced what it has contributed.
        """
        self._lose(name, reason)
        if name in self._owners:
            needed = not (self._sharers and name in self._reduced)
        else:
            needed = self._close is not None and name in self._close.contributions and not self._all_reduced()
        if needed:
            self._fail(f"{name} {reason}")

    def _all_reduced(self) -> bool:
        """Whether no member that is alive needs a contribution any more."""
        return (self._alive & set(self.opened.members)) - self.unable.keys() <= self._reduced

    def _declined(self, name: str, reason: str, *, can_vote: bool) -> None:
        self._withdraw(name, reason)
        if not can_vote:
            self._lose(name, reason)
            self.unable[name] = reason
            if name in self._owners:
                self._fail(f"{name} {reason}")

    def _withdraw(self, name: str, reason: str) -> None:
        """A member's contribution is waited for no longer."""
        self._contributions.quorum.lose(name, reason)
        self._steps[Phase.ADVERTISING].lose(name, reason)
        sharing = self._steps.get(Phase.SHARING)
        if sharing is not None and sharing.lose(name, reason):
            self._fail(f"{name} {reason}")  # the others wait for its shares

    def _lose(self, name: str, reason: str) -> None:
        """A member is waited for no longer."""
        self._withdraw(name, reason)
        self._steps[Phase.VOTING].lose(name, reason)
        self._steps[Phase.ADOPTING].lose(name, reason)
        if name in self._sharers:
            self._sharers.remove(name)
            if len(self._sharers) < self._terms.threshold:
                self._fail(f"{name} {reason}")

    def _fail(self, reason: str) -> None:
        """The attempt cannot go on, unless it is committed already."""
        self._failed = self._failed or reason

    def _fail_now(self, reason: str) -> None:
        self._go(Phase.FAILED)
        self._instruct(AttemptFailed(reason))

    def _give_up(self, reason: str, outcome: QuorumOutcome, more: Mapping[str, str] | None = None) -> None:
        """Without a majority nothing is impossible yet: the missing members may come back."""
        if len(self._alive & self._configured) < self._majority:
            self._fail_now(listed(outcome.lost))
        else:
            self._go(Phase.IMPOSSIBLE)
            self._instruct(RoundImpossible(reason, {**missing(outcome), **(more or {})}))

    def _tracker(self, names: Collection[str], now: float, policy: QuorumPolicy | None = None) -> QuorumTracker:
        policy = policy or self._terms.policy
        return QuorumTracker(frozenset(names), now, policy, min(self._terms.deadline, policy.hard_limit))

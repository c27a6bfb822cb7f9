"""Leader election: which client coordinates the rounds.

The leader is (term, name). Terms are owned by the configured members in turn: with a, b and c, a owns the terms 1, 4
and 7, b owns 2, 5 and 8, and c owns 3, 6 and 9. So a term has one possible leader, and there is no vote between
candidates. When the owner of the present term is lost, the owner of the lowest later term that is alive sends a prepare
for it; a member that receives it promises to reject every lower term, and sends the versions of its models. With the
promises of a majority of the configured members the candidate leads: any two majorities share a member, so that no
round which an earlier leader has committed with a majority is missed. A member that has voted for an outcome and knows
no commit of it says so as well: the round may have been committed, and the new leader commits that outcome before it
goes on. Whoever knows a term by hearsay tells its owner, who may know nothing of it, so that a false promise stops
nobody. (The ballots of Lamport's "Paxos made simple", 2001, with terms assigned beforehand.)

Pure: knows no network and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.messages.election import AcceptedVote
from protocol.messages.rounds import RoundCommit
from protocol.rounds import attempt_of
from protocol.topics import LARGEST
from protocol.transcript import is_same

PREPARE_INTERVAL = 0.5
"""Seconds between two prepares for the same term, while promises are missing."""

MAX_TERM_STEP = 1 << 32
"""How far a term may lie above the present one, and above those that certified records are of: no peer uses them up."""

RESTART_DELAY = 1.0
"""Seconds that a restarted member waits for a leader announcement before it is a candidate."""

Records = Mapping[str, RoundCommit]
Votes = Mapping[str, AcceptedVote]


@dataclass(frozen=True)
class StartElection:
    """Send a prepare for this term to all."""

    term: int


@dataclass(frozen=True)
class ElectionWon:
    """A majority has promised: lead in this term."""

    term: int


@dataclass(frozen=True)
class TellOwner:
    """Send a promise of the present term to its owner, or to the next candidate, which may know nothing of it."""

    name: str


ElectionOutcome = StartElection | ElectionWon | TellOwner


class Election:
    """The election as one member sees it.

    Args:
        me: this member.
        members: all configured members, this one among them.
        term: the highest term that this member promised before a restart.

    Attributes:
        term: the highest term that is promised; 0 before the first.
        is_leader: whether this member leads in `term`.
    """

    def __init__(self, me: str, members: Iterable[str], term: int = 0) -> None:
        self.me = me
        self.members = tuple(sorted({*members, me}))
        self.term = term
        self.is_leader = False
        self._alive = {me}
        self._seen = {me}
        self._promises: dict[str, tuple[Records, Votes]] = {}
        self._prepared_at: float | None = None
        self._proven_term = 0  # the highest one in which a majority has voted
        self._owner_heard = 0  # the highest term in which its owner itself was heard
        self._owner_told_at: float | None = None
        self._waits_for_leader = term > 0
        self._started_at: float | None = None

    @property
    def majority(self) -> int:
        """The least number of members that is more than half of those configured."""
        return len(self.members) // 2 + 1

    @property
    def leader(self) -> str | None:
        """The owner of the present term; None before the first."""
        return self.owner(self.term) if self.term else None

    @property
    def alive(self) -> frozenset[str]:
        """The members that are linked, this one among them."""
        return frozenset(self._alive)

    @property
    def awaited(self) -> frozenset[str]:
        """The members that have neither arrived nor departed yet."""
        return frozenset(self.members) - self._seen

    def owner(self, term: int) -> str:
        """The member that owns a term."""
        return self.members[(term - 1) % len(self.members)]

    def arrived(self, name: str) -> None:
        """A member is linked."""
        if name in self.members:
            self._alive.add(name)
            self._seen.add(name)

    def departed(self, name: str) -> None:
        """A member has departed."""
        self._seen.add(name)
        if name != self.me:
            self._alive.discard(name)

    @property
    def unpromised(self) -> frozenset[str]:
        """The members that are alive and have not promised the present term to this one, their leader."""
        return self.alive - self._promises.keys()

    @property
    def silent(self) -> int:
        """How many configured members have not promised the present term to this one, their leader."""
        return len(self.members) - len(self._promises)

    def proven(self, term: int) -> None:
        """A certified record is of this term: a majority has followed it."""
        self._proven_term = max(self._proven_term, term)

    def tick(self, now: float, records: Records, accepted: Votes) -> list[ElectionOutcome]:
        """The outcomes at this time: a prepare, if this member is to be a candidate. To be called often."""
        if self._is_waiting(now):
            return []
        return self._owner_to_tell(now) or self._candidacy(now, records, accepted)

    def _owner_to_tell(self, now: float) -> list[ElectionOutcome]:
        """Of the present term whoever is to lead next is told, again and again, until it is heard itself.

        That is its owner, where this member knows it by hearsay, or the next candidate, if its owner is gone: that one
        may not have heard of the term.
        """
        next_term = self._next_term()
        owner = self.owner(next_term)
        if not self.term or owner == self.me or self._owner_heard == next_term:
            return []
        if self._owner_told_at is not None and now < self._owner_told_at + PREPARE_INTERVAL:
            return []
        self._owner_told_at = now
        return [TellOwner(owner)]

    def _candidacy(self, now: float, records: Records, accepted: Votes) -> list[ElectionOutcome]:
        term = self._next_term()
        if self.is_leader or self.owner(term) != self.me or len(self._alive) < self.majority or term > LARGEST:
            return []
        if term == self.term and self._prepared_at is not None and now < self._prepared_at + PREPARE_INTERVAL:
            return []
        if term != self.term or self._prepared_at is None:
            self._promises = {}
        self.term, self._prepared_at = term, now
        self._promises[self.me] = records, accepted
        return [StartElection(term), *self._won()]

    def prepare(self, name: str, term: int) -> bool:
        """A member's prepare has arrived: whether to promise its term; if not, the answer names a higher one."""
        return self.accept_leader(name, term)

    def accept_leader(self, name: str, term: int) -> bool:
        """A member leads in a term, or is a candidate: False if the term is stale or not its own."""
        if not self._is_near(term) or term < 1 or name not in self.members or self.owner(term) != name:
            return False
        if term > self.term:
            self._step_back(term)
        self._owner_heard = term
        return True

    def promise(self, name: str, term: int, records: Records, accepted: Votes) -> list[ElectionOutcome]:
        """A member has promised a term, or names a higher one that it has promised to another candidate."""
        if name not in self.members or not self._is_near(term):
            return []
        if term > self.term:
            self._step_back(term)
        elif term == self.term and self.owner(term) == self.me:
            self._promises[name] = records, accepted
            return list(self._won())
        return []

    def latest_records(self) -> dict[str, tuple[RoundCommit, str]]:
        """Of every model the latest record that was promised with, and which member holds its outcome."""
        latest: dict[str, tuple[RoundCommit, str]] = {}
        for name, (records, _) in sorted(self._promises.items()):
            for model, record in records.items():
                if model not in latest or record.number > latest[model][0].number:
                    latest[model] = (record, name)
        return latest

    def open_votes(self) -> tuple[AcceptedVote, ...]:
        """The votes at the round after the last committed one of every model, as far as promised; the latest first.

        Each record has the votes that all members together know. Those of earlier attempts count, too, should the later
        ones turn out to be void: one member alone can state a vote in an attempt that there never was.
        """
        numbers = {model: record.number for model, (record, _) in self.latest_records().items()}
        found: list[AcceptedVote] = []
        for name, (_, votes) in self._promises.items():
            for model, vote in votes.items():
                if vote.record.number == numbers.get(model, 0) + 1:
                    _add(found, name, vote)
        return tuple(sorted(found, key=lambda vote: attempt_of(vote.record), reverse=True))

    def _is_near(self, term: int) -> bool:
        """Whether a term is neither stale nor out of reach."""
        return self.term <= term <= max(self.term, self._proven_term) + MAX_TERM_STEP

    def _next_term(self) -> int:
        """The lowest term, not below the present one, whose owner is alive.

        A term of this member from before a restart is used up; its next one follows.
        """
        term = max(1, self.term)
        if self.term and self.owner(term) == self.me and self._prepared_at is None:
            return term + len(self.members)
        while self.owner(term) not in self._alive:
            term += 1
        return term

    def _step_back(self, term: int) -> None:
        self.term, self.is_leader = term, False
        self._promises, self._prepared_at, self._owner_told_at = {}, None, None

    def _won(self) -> list[ElectionOutcome]:
        """The election is won once a majority has promised."""
        if self.is_leader or len(self._promises) < self.majority:
            return []
        self.is_leader = True
        return [ElectionWon(self.term)]

    def _is_waiting(self, now: float) -> bool:
        """Whether this member has just restarted: its peers announce the leader to it."""
        if self._waits_for_leader:
            self._started_at = now if self._started_at is None else self._started_at
            self._waits_for_leader = now < self._started_at + RESTART_DELAY
        return self._waits_for_leader


def _same(one: RoundCommit, other: RoundCommit) -> bool:
    """Whether two records are the same but for the votes that are known."""
    return is_same(one.model_copy(update={"votes": other.votes}), other)


def _add(found: list[AcceptedVote], name: str, vote: AcceptedVote) -> None:
    """Adds a member's vote to those for the same record; what it says of its own vote is what counts of that.

    A plan that somebody else states with it does not take the place of one that is known: either may be false.
    """
    own = {name: vote.record.votes[name]} if name in vote.record.votes else {}
    same = [place for place, known in enumerate(found) if _same(known.record, vote.record)]
    votes = {**vote.record.votes, **(found[same[0]].record.votes if same else {}), **own}
    if not any(is_same(found[place].plan, vote.plan) for place in same):
        same.append(len(found))
        found.append(vote)
    for place in same:
        found[place] = found[place].model_copy(update={"record": vote.record.model_copy(update={"votes": votes})})

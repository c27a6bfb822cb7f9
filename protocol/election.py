"""Who leads the rounds: a small duty, held by one client at a time, that passes on when its holder is gone.

A lead is (term, name). Terms belong to the configured members in turn: with a, b and c, terms 1, 4, 7 belong to a,
2, 5, 8 to b and 3, 6, 9 to c. So a term has one possible lead and nobody needs to vote between candidates. When the
holder of the present term is gone, the living member to whom the lowest later term belongs claims it; whoever hears
the claim promises to refuse every lower term, and tells how far its models are. With the promises of a majority of
the configured members the claimant leads: any two majorities share a member, so nothing that an earlier lead has
closed with a majority is missed. Who has voted for an outcome and heard of no commit says so too: somebody else may
have heard of it, and the new lead settles on it before it goes on. (The ballots of Lamport's "Paxos made simple",
2001, with terms shared out beforehand.)

Pure: knows no network and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.messages.rounds import AcceptedVote, ModelVersion
from protocol.rounds import attempt_of

PREPARE_INTERVAL = 0.5
"""Seconds between two claims of the same term, while promises are missing."""

RESTART_DELAY = 1.0
"""Seconds for which a member of an earlier life waits for word of who leads, before it claims a term."""

ModelVersions = Mapping[str, ModelVersion]
Votes = Mapping[str, AcceptedVote]


@dataclass(frozen=True)
class StartElection:
    """Claim this term before everybody."""

    term: int


@dataclass(frozen=True)
class ElectionWon:
    """A majority has promised: lead by this term, from where the furthest of them stand.

    Attributes:
        term: the term.
        versions: of every model the furthest standing, and who has it.
        accepted: of every model the latest vote for the round after that, which may have been closed.
    """

    term: int
    versions: Mapping[str, tuple[ModelVersion, str]]
    accepted: Votes


class Election:
    """One member's knowledge of who leads.

    Args:
        me: this member.
        members: all configured members, this one among them.
        term: the highest term promised in an earlier life.

    Attributes:
        term: the highest term that is promised; 0 before the first.
    """

    def __init__(self, me: str, members: Iterable[str], term: int = 0) -> None:
        self.me = me
        self.members = tuple(sorted({*members, me}))
        self.term = term
        self.is_leader = False
        self._living = {me}
        self._promises: dict[str, tuple[ModelVersions, Votes]] = {}
        self._claimed_at: float | None = None
        self._wary = term > 0
        self._woke: float | None = None

    @property
    def majority(self) -> int:
        """How many of the configured members are more than half of them."""
        return len(self.members) // 2 + 1

    @property
    def leader(self) -> str | None:
        """The holder of the present term; None before the first."""
        return self.owner(self.term) if self.term else None

    @property
    def alive(self) -> frozenset[str]:
        """The members that are there, this one among them."""
        return frozenset(self._living)

    def owner(self, term: int) -> str:
        """To whom a term belongs."""
        return self.members[(term - 1) % len(self.members)]

    def arrived(self, name: str) -> None:
        """A member is linked."""
        if name in self.members:
            self._living.add(name)

    def departed(self, name: str) -> None:
        """A member is gone."""
        if name != self.me:
            self._living.discard(name)

    def tick(self, now: float, versions: ModelVersions, accepted: Votes) -> list[StartElection | ElectionWon]:
        """What the passing of time brings: a claim, where it is this member's turn."""
        if self._listens(now):
            return []
        term = self._due()
        if self.is_leader or self.owner(term) != self.me or len(self._living) < self.majority:
            return []
        if term == self.term and self._claimed_at is not None and now < self._claimed_at + PREPARE_INTERVAL:
            return []
        if term != self.term or self._claimed_at is None:
            self._promises = {}
        self.term, self._claimed_at = term, now
        self._promises[self.me] = versions, accepted
        return [StartElection(term), *self._counted()]

    def prepare(self, name: str, term: int) -> bool:
        """A member claims a term: whether it may be promised; if not, it is told of the higher one."""
        return self.accept_leader(name, term)

    def accept_leader(self, name: str, term: int) -> bool:
        """Somebody leads, or wants to, by a term: False if the term is stale or not the sender's."""
        if term < max(1, self.term) or name not in self.members or self.owner(term) != name:
            return False
        if term > self.term:
            self._step_back(term)
        return True

    def promise(
        self, name: str, term: int, versions: ModelVersions, accepted: Votes
    ) -> list[StartElection | ElectionWon]:
        """A member has promised a term, or tells of a higher one that it has promised to somebody else."""
        if name not in self.members:
            return []
        if term > self.term:
            self._step_back(term)
        elif term == self.term and self.owner(term) == self.me and not self.is_leader:
            self._promises[name] = versions, accepted
            return list(self._counted())
        return []

    def _due(self) -> int:
        """The lowest term, not below the present one, whose owner is there.

        A term that this member held in an earlier life is used up; it claims its next one.
        """
        term = max(1, self.term)
        if self.term and self.owner(term) == self.me and self._claimed_at is None:
            return term + len(self.members)
        while self.owner(term) not in self._living:
            term += 1
        return term

    def _step_back(self, term: int) -> None:
        self.term, self.is_leader = term, False
        self._promises, self._claimed_at = {}, None

    def _counted(self) -> list[ElectionWon]:
        if self.is_leader or len(self._promises) < self.majority:
            return []
        self.is_leader = True
        furthest: dict[str, tuple[ModelVersion, str]] = {}
        for name, (versions, _) in sorted(self._promises.items()):
            for model, standing in versions.items():
                if model not in furthest or standing.number > furthest[model][0].number:
                    furthest[model] = (standing, name)
        return [
            ElectionWon(
                self.term, furthest, self._latest({model: each.number for model, (each, _) in furthest.items()})
            )
        ]

    def _latest(self, numbers: Mapping[str, int]) -> Votes:
        """Of every model the vote of the latest attempt at the round after the last one that is known to be closed."""
        latest: dict[str, AcceptedVote] = {}
        for _, votes in self._promises.values():
            for model, voted in votes.items():
                if voted.record.number == numbers.get(model, 0) + 1 and (
                    model not in latest or attempt_of(voted.record) > attempt_of(latest[model].record)
                ):
                    latest[model] = voted
        return latest

    def _listens(self, now: float) -> bool:
        """Whether this member has only just come back: its peers tell it who leads."""
        if self._wary:
            self._woke = now if self._woke is None else self._woke
            self._wary = now < self._woke + RESTART_DELAY
        return self._wary

"""Leading rounds, for as long as this member holds the duty.

The lead says when a round opens and closes and nothing else: states go between the members. It is a member like
every other, with a seat of its own. Whom it waits for is the ledger's to decide (`protocol.rounds`), who leads the
council's (`protocol.lead`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from fednet.federated.participation import drawn
from nodes.rounds.words import federation_of
from protocol.lead import Council
from protocol.ledger import Outcome, Pace, Policy, Step
from protocol.messages import Message
from protocol.messages.rounds import (
    Abandon,
    Close,
    Commit,
    Contribution,
    Decline,
    OfRound,
    Open,
    Piece,
    Plan,
    Receipt,
    Standing,
    Vote,
)  # fmt: skip
from protocol.rounds import Ballot, Tally, about, attempt_of, record_reasons

log = logging.getLogger(__name__)


class Hopeless(Exception):
    """A programme cannot go on, and who could not take part."""

    def __init__(self, reason: str, lost: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


class Broken(Exception):
    """An attempt cannot be completed, since somebody whose shard is needed is gone; another one can."""


@dataclass
class _Held:
    """An attempt that is under way."""

    opened: Open
    began: float
    tally: Tally
    ballot: Ballot
    voting: Step
    broken: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Chair:
    """The duty to lead.

    Args:
        council: who leads, and who is there.
        policy: when a round goes on without everybody.
        seed: of the draw of contributors.
        say: tells all members, this one too.
    """

    def __init__(self, council: Council, policy: Policy, seed: int, say: Callable[[Message], None]) -> None:
        self._council = council
        self._policy = policy
        self._seed = seed
        self._say = say
        self._pace = Pace(policy)
        self._attempts = count(1)
        self._round: _Held | None = None
        self._awaited = asyncio.Event()

    async def hold(self, plan: Plan, index: int, standings: Mapping[str, Standing]) -> None:
        """Holds one round of a programme, in as many attempts as it takes.

        Raises:
            Hopeless: it cannot be held.
        """
        while True:
            await self._majority()
            try:
                return await self._attempt(plan, index, standings)
            except Broken as broken:
                log.warning("round %d of %s begins again: %s", index, plan.key, broken)
            finally:
                self._round = None

    def offered(self, name: str, contribution: Contribution) -> None:
        """A member contributes; one that is not to this attempt is refused by name."""
        held = self._round
        if held is not None and self._current(contribution):
            held.tally.offered(name, contribution.share, _now())
            held.changed.set()

    def stale(self, name: str, number: int) -> None:
        """A contribution to a round that is over: it is named in the record of the present one."""
        if self._round is not None:
            self._round.tally.refused.setdefault(name, f"stale: it contributed to round {number}")

    def receipt(self, name: str, receipt: Receipt) -> None:
        """A keeper holds its part of a contribution, or refuses it."""
        held = self._round
        if held is None or not self._current(receipt):
            return
        if receipt.refused:
            held.tally.refuse(receipt.contributor, receipt.refused)
        else:
            held.tally.held(name, receipt.contributor, _now())
        held.changed.set()

    def declined(self, name: str, decline: Decline) -> None:
        """A member cannot contribute, and perhaps not vote either."""
        held = self._round
        if held is None or not self._current(decline):
            return
        held.tally.step.lose(name, f"declined: {decline.reason}")
        if not decline.votes:
            held.voting.lose(name, f"declined: {decline.reason}")
            held.broken |= len(held.tally.keepers) > 1
        held.changed.set()

    def voted(self, name: str, vote: Vote) -> None:
        """A member has computed what the round leaves."""
        held = self._round
        if held is not None and self._current(vote) and held.voting.arrive(name, _now()):
            held.ballot.cast(name, vote.left)
            held.changed.set()

    def arrived(self) -> None:
        """A member is there (again)."""
        self._awaited.set()

    def departed(self, name: str, reason: str) -> None:
        """Nobody waits for the dead; whose shard is needed breaks the attempt."""
        held = self._round
        if held is None:
            return
        held.tally.step.lose(name, reason)
        held.voting.lose(name, reason)
        held.broken |= len(held.tally.keepers) > 1 and name in held.tally.keepers
        held.changed.set()

    async def _majority(self) -> None:
        """Waits until a majority of the configured members is there: without it nothing can close."""
        while len(self._council.living) < self._council.majority:
            there = ", ".join(sorted(self._council.living))
            log.warning("%d members are needed and %s are here: waiting", self._council.majority, there)
            self._awaited.clear()
            await self._awaited.wait()

    async def _attempt(self, plan: Plan, index: int, standings: Mapping[str, Standing]) -> None:
        held = self._round = self._opened(plan, index, standings)
        self._say(held.opened)
        if plan.given is None:
            outcome = await self._until(held, held.tally.step)
        else:
            outcome = Outcome(True, (), (), {}, True, 0.0)
        for seconds in held.tally.step.taken():
            self._pace.note(seconds)
        if not outcome.quorate:
            needed = held.tally.step.policy.quorum
            raise Hopeless(f"{len(outcome.contributed)} of {needed} needed contributed", _all_lost(outcome))
        seconds = _now() - held.began
        if plan.given is None:
            self._say(self._close(held, outcome))
        votes = await self._until(held, held.voting)
        self._say(self._commit(held, outcome, self._agreed(held, votes), seconds))

    def _opened(self, plan: Plan, index: int, standings: Mapping[str, Standing]) -> _Held:
        federation, now, council = federation_of(plan), _now(), self._council
        members = tuple(sorted(council.living))
        number = standings[plan.model].number + 1
        names: tuple[str, ...] = ()
        if plan.given is None:
            names = drawn(members, federation.participation, self._seed, plan.model, number)
        opened = Open(
            model=plan.model, number=number, term=council.term, attempt=next(self._attempts), index=index, plan=plan,
            standings=dict(standings), members=members, contributors=names,
        )  # fmt: skip
        keepers = frozenset(members if federation.transport == "sharded" else (council.me,))
        quorate = self._policy.model_copy(update={"quorum": max(self._policy.quorum, federation.quorum)})
        voting = self._policy.model_copy(update={"quorum": council.majority})
        return _Held(
            opened=opened,
            began=now,
            tally=Tally(Step.open(names, now, quorate, self._pace), keepers),
            ballot=Ballot(council.majority),
            voting=Step.open(members, now, voting, self._pace),
        )

    async def _until(self, held: _Held, step: Step) -> Outcome:
        """Waits until a step of an attempt has closed."""
        while not (outcome := step.outcome(_now())).closed:
            if held.broken:
                raise Broken(", ".join(f"{name} {reason}" for name, reason in outcome.lost.items()))
            held.changed.clear()
            try:
                async with asyncio.timeout_at(outcome.until):
                    await held.changed.wait()
            except TimeoutError:
                pass
        if held.broken:
            raise Broken("a member whose shard is needed is gone")
        return outcome

    def _close(self, held: _Held, outcome: Outcome) -> Close:
        shares = held.tally.shares(outcome.contributed)
        if len(held.tally.keepers) > 1:  # everybody has its shard by now
            shares = {name: share.model_copy(update={"pieces": ()}) for name, share in shares.items()}
        held.voting.opened = _now()
        return about(Close, held.opened, shares=shares)

    def _agreed(self, held: _Held, votes: Outcome) -> Piece:
        left = held.ballot.agreed()
        if left is None:
            found = {name: f"computed {piece.digest[:12]}" for name, piece in held.ballot.votes.items()}
            raise Hopeless(
                f"{held.ballot.majority} members must agree on what round {held.opened.number} leaves",
                {**votes.lost, **dict.fromkeys(votes.late, "late"), **found},
            )
        for name in held.ballot.dissenters(left):
            log.warning("%s has computed something else in round %d", name, held.opened.number)
        return left

    def _commit(self, held: _Held, outcome: Outcome, left: Piece, seconds: float) -> Commit:
        opened, shares = held.opened, held.tally.shares(outcome.contributed)
        dissent = dict.fromkeys(held.ballot.dissenters(left), "it computed another aggregate")
        return about(
            Commit,
            opened,
            key=opened.plan.key,
            index=opened.index,
            rounds=opened.plan.rounds,
            lead=self._council.me,
            left=left,
            weights={name: share.weight for name, share in shares.items()},
            values={name: share.values for name, share in shares.items()},
            late=outcome.late,
            lost=record_reasons(outcome, held.tally.refused),
            refused={**dissent, **held.tally.refused},
            seconds=seconds,
        )

    def _current(self, message: OfRound) -> bool:
        held = self._round
        return (
            held is not None and held.opened.model == message.model and attempt_of(held.opened) == attempt_of(message)
        )


def abandon(term: int, plan: Plan, error: Hopeless) -> Abandon:
    """What is said when a programme cannot go on."""
    lost = {name: reason[:500] for name, reason in error.lost.items()}
    return Abandon(term=term, key=plan.key, lost=lost, reason=str(error)[:500])


def _all_lost(outcome: Outcome) -> dict[str, str]:
    return {**outcome.lost, **dict.fromkeys(outcome.late, "late")}


def _now() -> float:
    return asyncio.get_running_loop().time()

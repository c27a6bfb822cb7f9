"""A client's part in the rounds: it hears orders, sits in every round, and leads when it is its turn.

Messages may overtake each other (a contribution comes from another peer than the opening of its round, and what was
lost comes late): what belongs to a round that has not opened here yet waits for it, what belongs to one that is over
is refused and counted. Whatever a member says to all it also says to itself, so that there is one way for everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fednet.conversations import Participant
from fednet.errors import MethodError
from nodes.compute import Compute, ThreadWatch
from nodes.errors import PeerError
from nodes.node import Handler, Node
from nodes.progress import speaker
from nodes.rounds.bench import Bench
from nodes.rounds.chair import Chair, Hopeless, abandon
from nodes.rounds.models import Models
from nodes.rounds.seat import Means, Seat
from nodes.rounds.words import federation_of
from nodes.transfers import Depot
from protocol.lead import Council, Elected, Stand
from protocol.messages import Message
from protocol.messages.presence import PeerInfo
from protocol.messages.rounds import (
    Abandon,
    Claim,
    Close,
    Commit,
    Contribution,
    Decline,
    OfRound,
    Open,
    Order,
    Plan,
    Promise,
    Receipt,
    Reduced,
    Vote,
)  # fmt: skip
from protocol.rounds import attempt_of
from protocol.topics import ROUNDS

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at who should lead."""

MOST_ORDERS = 64
"""Programmes that wait here; a further one is refused."""

MOST_EARLY = 4096
"""Messages that wait for the opening of their round; the oldest give way."""


class Assembly:
    """The rounds conversation at a client.

    Args:
        node: the node that takes part.
        compute: the thread of its device.
        reducer: the thread on which states are packed, checked and reduced.
        depot: blobs that are offered and fetched.
        folder: where closed rounds are kept; None keeps nothing.
    """

    topics: tuple[str, ...] = (ROUNDS,)

    def __init__(self, node: Node, compute: Compute, reducer: Compute, depot: Depot, folder: Path | None) -> None:
        self._node = node
        self._compute = compute
        self._reducer = reducer
        self._depot = depot
        self.models = Models(folder)
        self.council = Council(node.name, node.spec.expected, self.models.term)
        self._chair = Chair(self.council, node.spec.rounds, node.spec.seed, self._say)
        self._orders: dict[str, Plan] = {}
        self._means: Means | None = None
        self._seat: Seat | None = None
        self._past: Seat | None = None
        self._sitting: asyncio.Task[None] | None = None
        self._leading: asyncio.Task[None] | None = None
        self._early: deque[tuple[str, OfRound]] = deque(maxlen=MOST_EARLY)
        self._ordered = asyncio.Event()
        self._table: Mapping[type[Message], Callable[[str, Any], None]] = {
            Order: self._order,
            Claim: self._claim,
            Promise: self._promise,
            Open: self._open,
            Contribution: self._contribution,
            Decline: self._decline,
            Receipt: self._receipt,
            Close: self._close,
            Reduced: self._reduced,
            Vote: self._vote,
            Commit: self._commit,
            Abandon: self._abandon,
        }
        self.handlers: Mapping[type[Message], Handler] = dict.fromkeys(self._table, self._heard)

    async def open(self, participant: Participant) -> None:
        """Takes part from now on; a participant of an earlier life is given what its last rounds have left.

        Raises:
            MethodError: it can no longer use what they have left.
        """
        bench = Bench(participant, self._compute, lambda: ThreadWatch(speaker(self._node)))
        means = Means(self._node.name, bench, self.models, self._depot, self._reducer, self._say, self._tell)
        for model, kept in self.models.kept.items():
            self._depot.keep(kept.standing.left.digest, kept.packed)
            await bench.adopt(model, kept.standing.number, kept.state)
        self._means = means
        self._node.spawn(self._look(), "rounds")

    def close(self) -> None:
        """Takes no further part: work that is under way ends."""
        if self._means is not None:
            self._means.bench.stop()

    def linked(self, peer: PeerInfo) -> None:
        """A member counts as there; one that joins an idle run learns from the next round where it stands."""
        self.council.arrived(peer.name)
        self._chair.arrived()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A member is gone; if it led, somebody else takes over."""
        self.council.departed(peer.name)
        self._chair.departed(peer.name, f"{'left' if left else 'lost'}: {reason}")
        self._consider()

    # Who leads

    async def _look(self) -> None:
        while True:
            self._consider()
            await asyncio.sleep(LOOK)

    def _consider(self) -> None:
        if self._means is not None:
            self._follow(self.council.tick(_now(), self.models.standings()))

    def _follow(self, outcomes: list[Stand | Elected]) -> None:
        for outcome in outcomes:
            match outcome:
                case Stand(term):
                    self._node.publish(ROUNDS, Claim(term=term))
                case Elected():
                    log.info("%s leads by term %d", self._node.name, outcome.term)
                    self._leading = self._node.spawn(self._lead(outcome), "lead")
        if not self.council.leading and self._leading is not None:
            self._leading.cancel()
            self._leading = None

    async def _lead(self, elected: Elected) -> None:
        assert self._means is not None  # noqa: S101 - nobody claims a term before it is open
        try:
            for model, (standing, holder) in elected.standings.items():
                await self._means.reach(model, standing, (holder, *self.council.living), elected.term)
        except (MethodError, PeerError) as error:
            log.warning("%s cannot lead: %s", self._node.name, error)
            return
        while True:
            self._ordered.clear()
            for plan in list(self._orders.values()):
                await self._programme(plan)
            await self._ordered.wait()

    async def _programme(self, plan: Plan) -> None:
        """Holds the rounds of a programme that are still to be held."""
        assert self._means is not None  # noqa: S101 - see above
        try:
            federation_of(plan)
            await self._means.known(plan.model)
            for index in range(self.models.done(plan.key) + 1, plan.rounds + 1):
                await self._chair.hold(plan, index, self.models.standings())
                if self._sitting is not None:
                    await asyncio.wait((self._sitting,))  # this member too has adopted what the round left
        except Hopeless as hopeless:
            self._say(abandon(self.council.term, plan, hopeless))
        except (MethodError, ValidationError) as error:
            self._say(abandon(self.council.term, plan, Hopeless(str(error), {})))
        self._orders.pop(plan.key, None)

    # What is heard

    def _heard(self, envelope: Any, message: Message) -> None:
        self._take(envelope.sender, message)

    def _take(self, sender: str, message: Message) -> None:
        if isinstance(message, Order) or sender in self.council.members:
            self._table[type(message)](sender, message)
        else:
            self._node.counts["no member"] += 1

    def _order(self, sender: str, order: Order) -> None:
        plan = order.plan
        if self.council.leading:
            for record in self.models.of(plan.key):
                self._node.tell(sender, record)
        if self.models.done(plan.key) >= plan.rounds or plan.key in self._orders:
            return
        if len(self._orders) < MOST_ORDERS:
            self._orders[plan.key] = plan
            self._ordered.set()
        elif self.council.leading:
            self._node.tell(sender, abandon(self.council.term, plan, Hopeless("too many orders are waiting", {})))

    def _claim(self, sender: str, claim: Claim) -> None:
        self.council.claimed(sender, claim.term)
        self._follow([])
        self._tell(sender, Promise(term=self.council.term, standings=self.models.standings()))

    def _promise(self, sender: str, promise: Promise) -> None:
        self._follow(self.council.promised(sender, promise.term, promise.standings))

    def _open(self, sender: str, opened: Open) -> None:
        if not self.council.follow(sender, opened.term):
            self._node.counts["stale term"] += 1
            self._tell(sender, Promise(term=self.council.term, standings=self.models.standings()))
            return
        self._follow([])
        if self._means is None:
            log.info("round %d of %s opens before this member is ready", opened.number, opened.model)
            return
        if self._node.name in opened.members and self._newer(opened):
            self._sit(Seat(self._means, opened, sender))

    def _sit(self, seat: Seat) -> None:
        """Takes part in a round; whatever has come early for it is heard now."""
        previous, self._seat = self._seat, seat
        if self._sitting is not None and previous is not None and not previous.closed:
            self._sitting.cancel()
        if self._past is not None:
            self._past.forget()
        self._past = previous
        self._orders.setdefault(seat.opened.plan.key, seat.opened.plan)
        self._sitting = self._node.spawn(_after(self._sitting, seat), "seat")
        early, self._early = self._early, deque(maxlen=MOST_EARLY)
        for sender, message in early:
            self._take(sender, message)

    def _contribution(self, sender: str, contribution: Contribution) -> None:
        if seat := self._in(sender, contribution):
            self._chair.offered(sender, contribution)
            seat.offered(sender, contribution)

    def _close(self, sender: str, close: Close) -> None:
        if (seat := self._in(sender, close)) and sender == seat.lead:
            seat.closing(close)

    def _reduced(self, sender: str, reduced: Reduced) -> None:
        if seat := self._in(sender, reduced):
            seat.reduced(sender, reduced)

    def _commit(self, sender: str, commit: Commit) -> None:
        if (seat := self._in(sender, commit)) and sender == seat.lead:
            seat.committed(commit)
            if commit.index == commit.rounds:
                self._orders.pop(commit.key, None)

    def _abandon(self, sender: str, said: Abandon) -> None:
        if said.term >= self.council.term:
            self._orders.pop(said.key, None)

    def _decline(self, sender: str, decline: Decline) -> None:
        self._chair.declined(sender, decline)

    def _receipt(self, sender: str, receipt: Receipt) -> None:
        self._chair.receipt(sender, receipt)

    def _vote(self, sender: str, vote: Vote) -> None:
        self._chair.voted(sender, vote)

    def _in(self, sender: str, message: OfRound) -> Seat | None:
        """The seat that a message is about; one that is early waits, one that is late is counted."""
        if self._seat is not None and attempt_of(self._seat.opened) == attempt_of(message):
            return self._seat
        if self._newer(message):
            self._early.append((sender, message))
        else:
            self._node.counts["stale round"] += 1
            if isinstance(message, Contribution):
                self._chair.stale(sender, message.number)
        return None

    def _newer(self, message: OfRound) -> bool:
        """Whether a message is about a later attempt than the present one."""
        return self._seat is None or attempt_of(message) > attempt_of(self._seat.opened)

    def _say(self, message: Message) -> None:
        self._node.publish(ROUNDS, message)
        asyncio.get_running_loop().call_soon(self._take, self._node.name, message)

    def _tell(self, name: str, message: Message) -> None:
        if name == self._node.name:
            asyncio.get_running_loop().call_soon(self._take, name, message)
        else:
            self._node.tell(name, message)


async def _after(previous: asyncio.Task[None] | None, seat: Seat) -> None:
    """Takes a seat once the one before it is left: its outcome is the next one's base."""
    if previous is not None:
        await asyncio.wait((previous,))
    await seat.run()


def _now() -> float:
    return asyncio.get_running_loop().time()

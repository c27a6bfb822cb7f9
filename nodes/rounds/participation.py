"""A member's parts in attempts, one after another, and catching up between them.

Messages may overtake each other: one about an attempt that has not been opened here yet waits for its opening. Knows
nothing of what a part does (`nodes.rounds.part`) and whose messages these are (`nodes.rounds.service`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count

from nodes.node import Node
from nodes.rounds.context import wait_finished
from nodes.rounds.part import RoundPart
from protocol.machines.events import ShardChecked
from protocol.messages.rounds import FalseShard, RoundMessage
from protocol.rounds import attempt_of

MAX_EARLY = 64
"""Messages of one member that wait for the opening of their attempt; its own oldest give way, nobody else's."""

Work = Callable[[], Coroutine[None, None, None]]


class ParticipationQueue:
    """What a member does for rounds, one thing at a time.

    Args:
        node: the node whose work it is.

    Attributes:
        current: the present part, or the latest; None before the first.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.current: RoundPart | None = None
        self._previous: RoundPart | None = None
        self._part: asyncio.Task[None] | None = None  # of the current part
        self._catching_up: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None  # the later of the two
        self._settled = (0, 0)
        self._early = defaultdict[str, deque[tuple[int, RoundMessage]]](partial(deque, maxlen=MAX_EARLY))
        self._order = count()  # in which they have come

    def join(self, part: RoundPart) -> list[tuple[str, RoundMessage]]:
        """Takes part in an attempt; returns the messages that have come early, with their senders."""
        self._leave_for_other()
        if self._previous is not None:
            self._previous.release()
        self._previous, self.current = self.current, part
        self._part = self._then(part.run, part.leader)
        early = sorted((place, name, each) for name, waiting in self._early.items() for place, each in waiting)
        self._early.clear()
        return [(name, message) for _, name, message in early]

    def catch_up(self, work: Work, leader: str) -> None:
        """Brings this member up to date with a leader instead of what it does now, an earlier catching up included."""
        self._leave_for_other()
        self._catching_up = self._then(work, leader)

    @property
    def catches_up(self) -> bool:
        """Whether this member is being brought up to date."""
        return self._catching_up is not None and not self._catching_up.done()

    def settle(self, message: RoundMessage) -> None:
        """An attempt is over before this member has joined it: its opening, should it still come, is stale."""
        self._settled = max(self._settled, attempt_of(message))

    def defer(self, sender: str, message: RoundMessage) -> bool:
        """Keeps a message about a later attempt until this member joins it; False for any other."""
        if self.is_later(message):
            self._early[sender].append((next(self._order), message))
            return True
        return False

    def leave(self, before: int) -> None:
        """Ends the present part if it is of an earlier term, unless it goes on to its vote or only has to adopt."""
        if self.current is not None and self.current.opened.term < before:
            self._leave_part(leader_lost=True)

    async def ended(self, before: int) -> None:
        """Waits until the present part has ended, if it is of an earlier term and has more to do than to adopt."""
        part, running = self.current, self._part
        if part is not None and running is not None and not part.adopts and part.opened.term < before:
            await asyncio.wait((running,))

    async def idle(self) -> None:
        """Waits until the present part has ended; this member catches up no longer."""
        self._stop_catching_up()
        if self._last is not None:
            await asyncio.wait((self._last,))

    async def check_shard(self, accuser: str, accusation: FalseShard) -> ShardChecked:
        """Whether a member's share is false, as another one says; by what the present part has."""
        part = self.part_in(accusation)
        return await part.check(accuser, accusation) if part else ShardChecked(accuser, accusation, None)

    def part_in(self, message: RoundMessage) -> RoundPart | None:
        """The present part, if a message is about it."""
        return self.current if self.current and attempt_of(self.current.opened) == attempt_of(message) else None

    def is_outside(self, message: RoundMessage) -> bool:
        """Whether an attempt that is over went on without this member: one that it has not joined, or has left."""
        part = self.part_in(message)
        if part is None:
            return self.is_later(message)
        return not part.can_adopt and attempt_of(message) > self._settled

    def is_later(self, message: RoundMessage) -> bool:
        """Whether a message is about a later attempt than the present one, and than any that is over."""
        present = (0, 0) if self.current is None else attempt_of(self.current.opened)
        return attempt_of(message) > max(present, self._settled)

    def _leave_for_other(self) -> None:
        self._stop_catching_up()
        self._leave_part()

    def _stop_catching_up(self) -> None:
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None

    def _leave_part(self, *, leader_lost: bool = False) -> None:
        """Ends the present part, unless it is finished without its leader, or only its outcome is left to adopt."""
        part = self.current
        if part is None or self._part is None or part.adopts or part.abandoned or part.finishes:
            return
        part.abandon(leader_lost=leader_lost)
        if not part.finishes:
            self._part.cancel()

    def _then(self, work: Work, leader: str) -> asyncio.Task[None]:
        """Does what a leader has set off once what was begun before has ended."""
        self._last = self._node.spawn_for(leader, partial(_after, self._last, work), "round")
        return self._last


async def _after(previous: asyncio.Task[None] | None, work: Work) -> None:
    if previous is not None:
        await wait_finished(previous)
    await work()

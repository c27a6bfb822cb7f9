"""Where a member sits: one seat at a time, the next one taken once the one before it is left.

What a round leaves is the base of the next, so nothing here overtakes. Refuses to know why a seat is taken or left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine

from nodes.node import Node
from nodes.rounds.context import wait_finished
from nodes.rounds.participant import RoundParticipant
from protocol.messages.rounds import RoundMessage
from protocol.rounds import attempt_of

MAX_EARLY_MESSAGES = 4096
"""Messages that wait for the opening of their round; the oldest give way."""

Work = Callable[[], Coroutine[None, None, None]]


class ParticipationQueue:
    """A member's seats, one after another.

    Args:
        node: the node whose work they are.

    Attributes:
        seat: the present one, or the last; None before the first.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.seat: RoundParticipant | None = None
        self._past: RoundParticipant | None = None
        self._running_task: asyncio.Task[None] | None = None
        self._early: deque[tuple[str, RoundMessage]] = deque(maxlen=MAX_EARLY_MESSAGES)

    def start(self, seat: RoundParticipant) -> list[tuple[str, RoundMessage]]:
        """Takes a seat; what the last but one has offered is offered no more.

        Returns:
            What has come early, with its senders: perhaps for this very seat.
        """
        self.leave()
        if self._past is not None:
            self._past.forget()
        self._past, self.seat = self.seat, seat
        self.run_after(seat.run)
        early = list(self._early)
        self._early.clear()
        return early

    def wait(self, sender: str, message: RoundMessage) -> bool:
        """Keeps a message about a later attempt than the present one until its seat is taken; False for any other."""
        if self.later(message):
            self._early.append((sender, message))
            return True
        return False

    def leave(self, under: int | None = None) -> None:
        """Leaves the seat, unless its round is closed and only its outcome is still to be taken over.

        Args:
            under: a term; a seat that is not of an earlier one is kept.
        """
        seat = self.seat
        if seat is None or seat.closed or seat.left or self._running_task is None:
            return
        if under is None or seat.opened.term < under:
            seat.left = True
            self._running_task.cancel()

    def run_after(self, work: Work) -> None:
        """Does something once the seat is left."""
        self._running_task = self._node.spawn(_run_after(self._running_task, work), "seat")

    async def left(self, under: int | None = None) -> None:
        """Waits until the seat is left.

        Args:
            under: a term; only a seat of an earlier one whose round is not closed is waited for.
        """
        seat, sitting = self.seat, self._running_task
        if sitting is not None and (
            under is None or (seat is not None and not seat.closed and _is_of_earlier_term(seat, under))
        ):
            await asyncio.wait((sitting,))

    def of(self, message: RoundMessage) -> RoundParticipant | None:
        """The seat that a message is about, if it is the present one."""
        return self.seat if self.seat is not None and attempt_of(self.seat.opened) == attempt_of(message) else None

    def later(self, message: RoundMessage) -> bool:
        """Whether a message is about a later attempt than the present one."""
        return self.seat is None or attempt_of(message) > attempt_of(self.seat.opened)


def _is_of_earlier_term(seat: RoundParticipant, term: int) -> bool:
    return seat.opened.term < term


async def _run_after(previous: asyncio.Task[None] | None, work: Work) -> None:
    if previous is not None:
        await wait_finished(previous)
    await work()

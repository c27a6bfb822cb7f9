"""Leader election at one member: promises terms, follows the leader, and leads when it is elected.

Whether a term is claimed, promised or won is decided by `protocol.election`; this carries it out. A term is on disk
before it is promised, so that a later incarnation does not forget it. Knows nothing of what a leader does
(`nodes.rounds.leading`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from nodes.compute import ComputeThread
from nodes.node import Node
from nodes.rounds.checkpoints import CheckpointStore
from nodes.rounds.context import RoundContext
from nodes.rounds.leading import LeadingTerms
from protocol.election import Election, ElectionOutcome, ElectionWon, StartElection, TellOwner
from protocol.errors import EncodingError
from protocol.messages import Message, ProgressReport
from protocol.messages.election import LeaderAnnouncement, Prepare, Promise
from protocol.topics import PROGRESS, ROUNDS

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two looks at who should lead."""


class Leadership:
    """Elections, and this member's terms as leader.

    Args:
        node: this member's node.
        election: decides.
        store: keeps the promised terms on disk.
        reducer: the thread on which they are written.
        leading: leads rounds.
        tell: sends a message to one member, possibly this one.
        leave: ends this member's part in a round of an earlier term than this one.
        left: waits until it has ended.
    """

    def __init__(
        self,
        node: Node,
        election: Election,
        store: CheckpointStore,
        reducer: ComputeThread,
        leading: LeadingTerms,
        *,
        tell: Callable[[str, Message], None],
        leave: Callable[[int], None],
        left: Callable[[int], Awaitable[None]],
    ) -> None:
        self._node, self._election, self._store, self._reducer = node, election, store, reducer
        self._leading, self._tell, self._leave, self._left = leading, tell, leave, left
        self._context: RoundContext | None = None
        self._majority_alive = False
        self.handlers: Mapping[type[Message], Callable[[str, Any], None]] = {
            Prepare: self._prepare,
            Promise: self._promise,
        }

    async def run(self, context: RoundContext) -> None:
        """Stands for election until it is cancelled."""
        self._context = context
        while True:
            self.tick()
            self._report_majority()
            await asyncio.sleep(TICK)

    def tick(self) -> None:
        """Claims a term where it is this member's turn, once it is ready to lead."""
        if self._context is not None:
            now = asyncio.get_running_loop().time()
            self._apply(self._election.tick(now, self._store.latest(), self._store.accepted()))

    def follow(self, sender: str, term: int) -> bool:
        """Follows a leader; False, and it is told so, if its term is stale."""
        if not self._election.accept_leader(sender, term):
            self._send_promise(sender)
            return False
        self._apply([])
        return True

    def arrived(self, name: str) -> None:
        """A member is alive (again): it is told who leads, if it is this one, and which outcome is being adopted."""
        if self._election.is_leader and name in self._election.members:
            term, attempt = self._election.term, self._leading.attempts
            self._tell(name, LeaderAnnouncement(term=term, attempt=attempt, records=self._store.latest()))
        commit = self._leading.arrived(name)  # this may open a round, which must be heard after the announcement
        if commit is not None:
            self._tell(name, commit)

    def _prepare(self, sender: str, message: Prepare) -> None:
        promised = self._election.prepare(sender, message.term)
        self._apply([])
        if promised:
            self._node.spawn_for(sender, partial(self._persist_term, message.term, sender), "promise")
        else:
            self._send_promise(sender)

    def _promise(self, sender: str, message: Promise) -> None:
        self._apply(self._election.promise(sender, message.term, message.records, message.accepted))
        self._leading.promised()

    def _send_promise(self, name: str) -> None:
        """Tells a member of the highest term that was promised here."""
        records, accepted = self._store.latest(), self._store.accepted()
        try:
            self._tell(name, Promise(term=self._election.term, records=records, accepted=accepted))
        except EncodingError as error:  # of what was voted for before sizes were bounded
            self._node.refused("too large", f"this member cannot promise to {name}: {error}")

    def _apply(self, outcomes: list[ElectionOutcome]) -> None:
        """Carries out what the election has decided; a deposed leader stops, and no part outlives its term."""
        for outcome in outcomes:
            match outcome:
                case StartElection(term):
                    self._node.spawn(self._persist_term(term, None), "prepare")
                case TellOwner(name):
                    self._send_promise(name)
                case ElectionWon():
                    assert self._context is not None  # noqa: S101 - no term is claimed before this member is ready
                    log.info("%s leads in term %d", self._node.name, outcome.term)
                    self._leading.begin(self._context)
        if not self._election.is_leader:
            self._leading.end()
        self._leave(self._election.term)

    async def _persist_term(self, term: int, candidate: str | None) -> None:
        """Claims a term, or promises it to its candidate, once it is on disk."""
        await self._left(term)
        await self._reducer.run(partial(self._store.promise, term))
        if candidate is not None:
            self._send_promise(candidate)
        elif term == self._election.term:
            self._node.publish(ROUNDS, Prepare(term=term))

    def _report_majority(self) -> None:
        """Reports when too few members are alive for a round to close; a partition goes on where the majority is."""
        alive, needed = sorted(self._election.alive), self._election.majority
        majority_alive = len(alive) >= needed
        if self._majority_alive and not majority_alive:
            note = f"waiting: {needed} members are needed and {', '.join(alive)} are alive"
            log.warning("%s is %s", self._node.name, note)
            report = ProgressReport(phase="waiting", done=len(alive), total=needed, values={}, note=note[:200])
            self._node.publish(PROGRESS, report)
        self._majority_alive = majority_alive

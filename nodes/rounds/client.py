"""Asks for rounds and follows them to their end, as a guest that takes no part.

An order is said again until its rounds are over, since the lead that heard it may be gone: saying it twice does no
harm. Refuses to know who leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fednet.api import Progress, RoundPlan, RoundRecord
from fednet.errors import MethodError
from fednet.federated.state import digest, pack
from nodes.blob_store import BlobStore
from nodes.capability import Handler
from nodes.errors import NoQuorum
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from nodes.rounds.conversion import to_plan_message, to_round_record
from protocol.codec import Envelope
from protocol.messages import Message
from protocol.messages.presence import PeerInfo
from protocol.messages.rounds import BlobRef, RoundCommit, RoundPlanMessage, RoundsAborted, RoundsRequest
from protocol.topics import ROUNDS

REQUEST_INTERVAL = 0.5
"""Seconds between two sayings of an order whose rounds are not over."""

QUORUM_TIMEOUT = 10.0
"""Seconds for which fewer than a majority of the run's clients may be there before the rounds are given up."""


RoundListener = Callable[[RoundRecord | Exception], None]
"""Hears of every round that closes, in order, or of why there will be no more."""


@dataclass
class _PendingRounds:
    """A programme that is being followed."""

    plan: RoundPlanMessage
    told: RoundListener
    records: dict[int, RoundCommit] = field(default_factory=dict)
    said: int = 0
    alone_since: float | None = None


class RoundsClient:
    """The asking side of the rounds conversation.

    Args:
        node: the node that asks.
        roster: who could take part.
        depot: holds what is given.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node, roster: PeerDirectory, depot: BlobStore) -> None:
        self._node = node
        self._roster = roster
        self._blob_store = depot
        self._ordered: dict[str, _PendingRounds] = {}
        self.handlers: Mapping[type[Message], Handler] = {RoundCommit: self._commit, RoundsAborted: self._abandon}

    async def run_rounds(
        self,
        programme: RoundPlan,
        progress: Progress | None = None,
        on_record: Callable[[RoundRecord], None] | None = None,
    ) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their records.

        Args:
            programme: the rounds.
            progress: is told of every round that has closed, with what was measured.
            on_record: gets every round's record as soon as it has closed, before `progress` is told.

        Raises:
            MethodError: they cannot be held.
            NoQuorum: too few are there.
        """
        told: asyncio.Queue[RoundRecord | Exception] = asyncio.Queue()
        plan, packed = _to_request(programme, self._node.name)
        self._order(plan, packed, told.put_nowait)
        records: list[RoundRecord] = []
        try:
            while len(records) < programme.rounds:
                records.append(record := _result_or_raise(await told.get()))
                if on_record is not None:
                    on_record(record)
                if progress is not None:
                    progress.report(
                        f"{programme.model} rounds", len(records), programme.rounds, **_weighted_means(record)
                    )
        finally:
            self._forget(plan.key)
        return tuple(records)

    def linked(self, peer: PeerInfo) -> None:
        """Hears of the orders when they are said again."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Noticed when the orders are said again."""

    def _order(self, plan: RoundPlanMessage, packed: bytes | None, told: RoundListener) -> None:
        if plan.given is not None and packed is not None:
            self._blob_store.keep(plan.given.digest, packed)
        self._ordered[plan.key] = _PendingRounds(plan, told)
        self._say(plan.key)

    def _say(self, key: str) -> None:
        ordered = self._ordered.get(key)
        if ordered is None:
            return
        if (missing := self._alone(ordered)) is not None:
            self._end(key, missing)
            return
        self._node.publish(ROUNDS, RoundsRequest(plan=ordered.plan, after=ordered.said))
        asyncio.get_running_loop().call_later(REQUEST_INTERVAL, self._say, key)

    def _alone(self, ordered: _PendingRounds) -> NoQuorum | None:
        """Why the rounds are given up, when too few have been there for too long."""
        now, ready = asyncio.get_running_loop().time(), tuple(self._roster.ready())
        needed = len(self._node.spec.expected) // 2 + 1
        if len(ready) >= needed:
            ordered.alone_since = None
        elif ordered.alone_since is None:
            ordered.alone_since = now
        elif now > ordered.alone_since + QUORUM_TIMEOUT:
            return NoQuorum(ready, needed, self._roster.missing())
        return None

    def _commit(self, envelope: Envelope, commit: RoundCommit) -> None:
        ordered = self._ordered.get(commit.key)
        if ordered is None or commit.index in ordered.records or commit.index > ordered.plan.rounds:
            return
        ordered.records[commit.index] = commit
        while (following := ordered.records.get(ordered.said + 1)) is not None:
            ordered.said += 1
            ordered.told(to_round_record(following))
        if ordered.said == ordered.plan.rounds:
            self._forget(commit.key)

    def _abandon(self, envelope: Envelope, abandon: RoundsAborted) -> None:
        ordered = self._ordered.get(abandon.key)
        if ordered is not None:
            lost = "; ".join(f"{name} {reason}" for name, reason in sorted(abandon.lost.items()))
            said = f"the rounds of {ordered.plan.model} cannot go on: {abandon.reason}"
            self._end(abandon.key, MethodError(f"{said} ({lost})" if lost else said))

    def _end(self, key: str, error: Exception) -> None:
        self._ordered[key].told(error)
        self._forget(key)

    def _forget(self, key: str) -> None:
        ordered = self._ordered.pop(key, None)
        if ordered is not None and ordered.plan.given is not None:
            self._blob_store.drop(ordered.plan.given.digest)


def _to_request(programme: RoundPlan, asker: str) -> tuple[RoundPlanMessage, bytes | None]:
    """A programme as it is said, and what it gives as bytes."""
    if programme.replacement is None:
        return to_plan_message(programme, asker, None), None
    packed = pack(programme.replacement)
    return to_plan_message(programme, asker, BlobRef(digest=digest(programme.replacement), size=len(packed))), packed


def _result_or_raise(record: RoundRecord | Exception) -> RoundRecord:
    if isinstance(record, Exception):
        raise record
    return record


def _weighted_means(record: RoundRecord) -> dict[str, float]:
    """What was measured, averaged over the contributors by weight."""
    names = sorted({value for values in record.values.values() for value in values})
    found = {}
    for name in names:
        having = [(record.weights[node], values[name]) for node, values in record.values.items() if name in values]
        found[name] = sum(weight * value for weight, value in having) / sum(weight for weight, _ in having)
    return {**found, "contributed": float(len(record.weights))}

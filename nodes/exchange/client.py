"""Calls for exchanges and follows them to their end, as a guest that offers nothing.

Who is waited for, and until when, is the ledger's (`protocol.exchange`), under the policy for rounds; this module
carries it out on the event loop. A call is told to whoever comes while it is open. Refuses to know what is offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from fednet.api import ExchangePlan, ExchangeRecord, Progress
from fednet.errors import MethodError
from nodes.capability import Handler
from nodes.errors import NoQuorum
from nodes.exchange.conversion import to_exchange_record, to_exchange_request
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from nodes.queries.client import STALL_THRESHOLD
from protocol.codec import Envelope
from protocol.exchange import ExchangeProgress, ExchangeTracker
from protocol.messages import Message
from protocol.messages import exchange as wire
from protocol.messages.presence import PeerInfo
from protocol.quorum import DeadlineEstimator, QuorumPolicy
from protocol.topics import EXCHANGE

ExchangeListener = Callable[[ExchangeRecord | Exception | ExchangeProgress], None]
"""Hears how an exchange stands, and in the end its record or why there is none."""


@dataclass
class _PendingExchange:
    """An exchange that is under way."""

    said: wire.ExchangeRequest
    held: ExchangeTracker
    began: float
    told: ExchangeListener
    timer: asyncio.TimerHandle | None = None
    until: float = inf  # when the ledger wants to be looked at again


class ExchangeClient:
    """The asking side of the exchange conversation.

    Args:
        node: the node that asks.
        roster: who can take part.
        policy: when an exchange goes on without everybody.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node, roster: PeerDirectory, policy: QuorumPolicy) -> None:
        self._node = node
        self._roster = roster
        self._policy = policy
        self._paces: dict[str, tuple[DeadlineEstimator, DeadlineEstimator]] = {}
        self._open: dict[str, _PendingExchange] = {}
        self._records: dict[str, ExchangeRecord] = {}
        self.handlers: Mapping[type[Message], Handler] = {
            wire.OfferList: self._offered,
            wire.ExchangeDecline: self._abstain,
            wire.OfferVerdict: self._absorbed,
        }

    async def exchange(self, call: ExchangePlan, progress: Progress | None = None) -> ExchangeRecord:
        """Has every ready client do a call's work and offer, and absorb what the others offer; waits for the end.

        Args:
            call: the exchange.
            progress: is told how many have offered, and then how many have absorbed.

        Raises:
            MethodError: nobody offers anything, or the call cannot be made.
            NoQuorum: too few were left.
        """
        told: asyncio.Queue[ExchangeRecord | Exception | ExchangeProgress] = asyncio.Queue()
        self._call(call, told.put_nowait)
        try:
            while isinstance(said := await told.get(), ExchangeProgress):
                if progress is not None:
                    phase = f"{'absorb' if said.absorbing else 'offer'}: {call.work}"[:64]
                    progress.report(phase, said.done, said.expected)
        except BaseException:
            self._forget(call.key)
            raise
        return _result_or_raise(said)

    def linked(self, peer: PeerInfo) -> None:
        """A newcomer has not heard what is called for."""
        if peer.role == "client":
            for held in self._open.values():
                self._node.tell(peer.name, held.said)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nobody waits for the dead."""
        for each in list(self._open.values()):
            each.held.lose(peer.name, f"{'left' if left else 'lost'}: {reason}", self._now())
            self._review(each)

    def _call(self, call: ExchangePlan, told: ExchangeListener) -> None:
        """Opens an exchange and says its call; `told` hears the outcome, on the event loop."""
        if call.key in self._records:
            told(self._records[call.key])
        elif call.key in self._open:
            told(MethodError(f"call {call.key!r} is being made already: wait for it, or use another key"))
        else:
            self._begin(call, told)

    def _begin(self, call: ExchangePlan, told: ExchangeListener) -> None:
        now = self._now()
        paces = self._paces.setdefault(call.work, (DeadlineEstimator(self._policy), DeadlineEstimator(self._policy)))
        held = ExchangeTracker.open(self._roster.ready(), now, self._policy, paces)
        try:
            said = to_exchange_request(call)
            self._node.publish(EXCHANGE, said)
        except Exception as error:  # whoever called waits for it, perhaps on another thread
            told(error)
        else:
            each = self._open[call.key] = _PendingExchange(said, held, now, told)
            self._review(each)

    def _offered(self, envelope: Envelope, said: wire.OfferList) -> None:
        if each := self._of(envelope, said.key):
            each.held.offered(envelope.sender, said, self._now())
            self._review(each)

    def _abstain(self, envelope: Envelope, said: wire.ExchangeDecline) -> None:
        if each := self._of(envelope, said.key):
            each.held.lose(envelope.sender, f"declined: {said.reason}", self._now())
            self._review(each)

    def _absorbed(self, envelope: Envelope, said: wire.OfferVerdict) -> None:
        if each := self._of(envelope, said.key):
            each.held.absorbed(envelope.sender, said.origin, said.refused, self._now())
            self._review(each)

    def _of(self, envelope: Envelope, key: str) -> _PendingExchange | None:
        """The exchange that a client of this run speaks of."""
        return self._open.get(key) if self._roster.belongs(envelope.sender) else None

    def _review(self, each: _PendingExchange) -> None:
        """Closes an exchange if its ledger says so, and otherwise looks again when it says."""
        now = self._now()
        if now - each.until > STALL_THRESHOLD:
            each.held.discount_pause(now - each.until + STALL_THRESHOLD)
        if each.timer is not None:
            each.timer.cancel()
        stand = each.held.progress(now)
        each.until = stand.until
        if stand.closed:
            self._end(each.said.key, self._conclude(each, stand, now))
        else:
            each.told(stand)
            each.timer = asyncio.get_running_loop().call_at(stand.until, self._review, each)

    def _conclude(self, each: _PendingExchange, stand: ExchangeProgress, now: float) -> ExchangeRecord | Exception:
        each.held.record_durations()
        record = to_exchange_record(each.said.key, each.held, self._roster.missing(), each.began, now)
        if stand.quorate:
            self._records[record.key] = record
            return record
        missing = {**record.lost, **dict.fromkeys(record.late, "late")}
        if not record.offered and missing and all(reason.startswith("declined: ") for reason in missing.values()):
            declined = "; ".join(f"{name} {reason}" for name, reason in missing.items())
            return MethodError(f"nobody offers anything under {record.key!r}: {declined}")
        return NoQuorum(tuple(record.offered), self._policy.quorum, missing)

    def _end(self, key: str, outcome: ExchangeRecord | Exception) -> None:
        each = self._open[key]
        self._forget(key)
        each.told(outcome)

    def _forget(self, key: str) -> None:
        each = self._open.pop(key, None)
        if each is not None and each.timer is not None:
            each.timer.cancel()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _result_or_raise(said: ExchangeRecord | Exception | ExchangeProgress) -> ExchangeRecord:
    if isinstance(said, Exception):
        raise said
    assert isinstance(said, ExchangeRecord)  # noqa: S101 - whoever waits for the end has it
    return said

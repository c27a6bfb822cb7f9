"""Requests exchanges and follows them to their end, as a driver that offers nothing.

Who is waited for, and until when, is decided by `protocol.exchange` under the policy for rounds; this carries it out on
the event loop. A client that joins while an exchange is open is told the request. Knows nothing of what is offered.
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
from protocol.messages.exchange import ExchangeDecline, ExchangeRequest, OfferList, OfferVerdict
from protocol.messages.presence import PeerInfo
from protocol.quorum import DeadlineEstimator, QuorumPolicy
from protocol.topics import EXCHANGE

ExchangeListener = Callable[[ExchangeRecord | Exception | ExchangeProgress], None]
"""Takes the progress of an exchange, and in the end its record or the reason why there is none."""


@dataclass
class _PendingExchange:
    """An exchange that is open.

    Attributes:
        request: as it was published.
        tracker: who has offered and absorbed.
        opened_at: in seconds of the event loop's clock.
        listener: is told how it goes.
        timer: of the next review.
        until: when the tracker must be reviewed again.
    """

    request: ExchangeRequest
    tracker: ExchangeTracker
    opened_at: float
    listener: ExchangeListener
    timer: asyncio.TimerHandle | None = None
    until: float = inf


class ExchangeClient:
    """The requesting side of the exchange conversation.

    Args:
        node: the node that requests.
        peers: the clients that can take part.
        policy: when an exchange goes on without everybody.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node, peers: PeerDirectory, policy: QuorumPolicy) -> None:
        self._node = node
        self._peers = peers
        self._policy = policy
        self._estimators: dict[str, tuple[DeadlineEstimator, DeadlineEstimator]] = {}
        self._pending: dict[str, _PendingExchange] = {}
        self._records: dict[str, ExchangeRecord] = {}
        self.handlers: Mapping[type[Message], Handler] = {
            OfferList: self._offer_list,
            ExchangeDecline: self._decline,
            OfferVerdict: self._verdict,
        }

    async def exchange(self, plan: ExchangePlan, progress: Progress | None = None) -> ExchangeRecord:
        """Has every ready client do a plan's work and offer, and absorb what the others offer; waits for the end.

        Args:
            plan: the exchange.
            progress: is told how many have offered, and then how many have absorbed.

        Raises:
            MethodError: nobody offers anything, or the exchange cannot be requested.
            NoQuorum: too few clients are ready.
        """
        results: asyncio.Queue[ExchangeRecord | Exception | ExchangeProgress] = asyncio.Queue()
        self._start(plan, results.put_nowait)
        try:
            while isinstance(result := await results.get(), ExchangeProgress):
                if progress is not None:
                    phase = f"{'absorb' if result.absorbing else 'offer'}: {plan.task}"[:64]
                    progress.report(phase, result.done, result.expected)
        except BaseException:
            self._forget(plan.key)
            raise
        if isinstance(result, Exception):
            raise result
        return result

    def linked(self, peer: PeerInfo) -> None:
        """Tells a client that joins the open requests."""
        if peer.role == "client":
            for pending in self._pending.values():
                self._node.tell(peer.name, pending.request)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A peer that is gone is not waited for."""
        for pending in list(self._pending.values()):
            pending.tracker.lose(peer.name, f"{'left' if left else 'lost'}: {reason}", self._now())
            self._review(pending)

    def _start(self, plan: ExchangePlan, listener: ExchangeListener) -> None:
        """Opens an exchange and publishes its request; `listener` is called on the event loop."""
        if plan.key in self._records:
            listener(self._records[plan.key])
        elif plan.key in self._pending:
            listener(MethodError(f"exchange {plan.key!r} is under way already: wait for it, or use another key"))
        else:
            self._open(plan, listener)

    def _open(self, plan: ExchangePlan, listener: ExchangeListener) -> None:
        now, policy = self._now(), self._policy
        estimators = self._estimators.setdefault(plan.task, (DeadlineEstimator(policy), DeadlineEstimator(policy)))
        tracker = ExchangeTracker.open(self._peers.ready(), now, policy, estimators)
        try:
            request = to_exchange_request(plan)
            self._node.publish(EXCHANGE, request)
        except Exception as error:  # the caller may wait for it on another thread
            listener(error)
        else:
            pending = self._pending[plan.key] = _PendingExchange(request, tracker, now, listener)
            self._review(pending)

    def _offer_list(self, envelope: Envelope, offer_list: OfferList) -> None:
        if pending := self._find(envelope, offer_list.key):
            pending.tracker.offered(envelope.sender, offer_list, self._now())
            self._review(pending)

    def _decline(self, envelope: Envelope, decline: ExchangeDecline) -> None:
        if pending := self._find(envelope, decline.key):
            pending.tracker.lose(envelope.sender, f"declined: {decline.reason}", self._now())
            self._review(pending)

    def _verdict(self, envelope: Envelope, verdict: OfferVerdict) -> None:
        if pending := self._find(envelope, verdict.key):
            pending.tracker.absorbed(envelope.sender, verdict.origin, verdict.refused, self._now())
            self._review(pending)

    def _find(self, envelope: Envelope, key: str) -> _PendingExchange | None:
        """The exchange that a message of a client of this run is about."""
        return self._pending.get(key) if self._peers.belongs(envelope.sender) else None

    def _review(self, pending: _PendingExchange) -> None:
        """Closes an exchange if its tracker says so, and otherwise reviews it again when that asks for it."""
        now = self._now()
        if now - pending.until > STALL_THRESHOLD:
            pending.tracker.discount_pause(now - pending.until + STALL_THRESHOLD)
        if pending.timer is not None:
            pending.timer.cancel()
        progress = pending.tracker.progress(now)
        pending.until = progress.until
        if progress.closed:
            self._forget(pending.request.key)
            pending.listener(self._conclude(pending, progress, now))
        else:
            pending.listener(progress)
            pending.timer = asyncio.get_running_loop().call_at(progress.until, self._review, pending)

    def _conclude(
        self, pending: _PendingExchange, progress: ExchangeProgress, now: float
    ) -> ExchangeRecord | Exception:
        pending.tracker.record_durations()
        key, absent = pending.request.key, self._peers.missing()
        record = to_exchange_record(key, pending.tracker, absent, pending.opened_at, now)
        if progress.quorate:
            self._records[key] = record
            return record
        missing = {**record.lost, **dict.fromkeys(record.late, "late")}
        if not record.offered and missing and all(reason.startswith("declined: ") for reason in missing.values()):
            declined = "; ".join(f"{name} {reason}" for name, reason in missing.items())
            return MethodError(f"nobody offers anything under {key!r}: {declined}")
        return NoQuorum(tuple(record.offered), self._policy.quorum, missing)

    def _forget(self, key: str) -> None:
        pending = self._pending.pop(key, None)
        if pending is not None and pending.timer is not None:
            pending.timer.cancel()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

"""Answers questions with what the method computes, one at a time, on the device's thread.

A question that waited longer than its requester will, or that its requester has moved on from, is skipped before it is
computed. A question that cannot be answered is refused with the reason, and the answerer lives on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Container, Mapping
from functools import partial

from fednet.api import Question, Responder
from fednet.errors import MethodError
from nodes.capability import Handler
from nodes.compute import ComputeThread
from nodes.node import Node
from protocol.codec import Envelope
from protocol.errors import EncodingError
from protocol.messages import Message, QueryAnswer, QueryRefusal, QueryRequest
from protocol.messages.presence import PeerInfo
from protocol.topics import LARGEST, QUERIES

log = logging.getLogger(__name__)

MAX_OPEN = 16
"""Questions of one requester that may wait here; a further one is refused."""

MAX_WAITING = 256
"""Questions of all requesters that may wait here: their tensors stay in memory until they are answered."""

SHOWN = 40
"""Characters of a question's name in a refusal."""

_Requester = tuple[str, int]
"""A requester's name and incarnation: what an earlier life asked is not answered to the next."""


class QueryResponder:
    """The answering side of the queries conversation.

    Args:
        node: the node that answers.
        compute: the thread of its device.
    """

    topics: tuple[str, ...] = (QUERIES,)

    def __init__(self, node: Node, compute: ComputeThread) -> None:
        self._node = node
        self._compute = compute
        self._responder: Responder | None = None
        self._questions: Container[str] = ()
        self._waiting: Counter[_Requester] = Counter()
        self._oldest: dict[_Requester, int] = {}
        self._lock = threading.Lock()
        self.handlers: Mapping[type[Message], Handler] = {QueryRequest: self._query}

    def open(self, answerer: Responder, questions: Container[str]) -> None:
        """From now on questions are answered.

        Args:
            answerer: answers them.
            questions: those that its method declares; every other one is refused.
        """
        self._responder, self._questions = answerer, questions

    def _query(self, envelope: Envelope, query: QueryRequest) -> None:
        requester, life = envelope.sender, (envelope.sender, envelope.incarnation)
        if self._responder is None:
            self._refuse(requester, query, "not ready yet")
        elif query.task not in self._questions:
            self._refuse(requester, query, f"the method declares no question {query.task[:SHOWN]!r}")
        elif self._waiting[life] >= MAX_OPEN:
            self._refuse(requester, query, f"{MAX_OPEN} of your questions are waiting here already")
        elif self._waiting.total() >= MAX_WAITING:
            self._refuse(requester, query, f"{MAX_WAITING} questions are waiting here already")
        else:
            with self._lock:
                self._waiting[life] += 1
            self._oldest[life] = max(query.oldest_open, self._oldest.get(life, 0))
            work = partial(self._answer, self._responder, life, query, time.monotonic())
            self._compute.post(work, partial(self._deliver, life, query))

    def _deliver(self, life: _Requester, query: QueryRequest, result: QueryAnswer | str | None) -> None:
        """On the compute thread: sends the answer, or the reason why there is none."""
        with self._lock:
            self._waiting[life] -= 1
            if not self._waiting[life]:
                del self._waiting[life]
        if result is not None and self._node.presence.incarnation(life[0]) == life[1]:
            self._reply(life[0], query, result)

    def _answer(
        self, responder: Responder, life: _Requester, query: QueryRequest, arrived: float
    ) -> QueryAnswer | str | None:
        """On the compute thread: the answer, the reason for a refusal, or None if nobody waits for it any more."""
        started = time.monotonic()
        if started - arrived > query.ttl or query.query < self._oldest.get(life, LARGEST):
            return None
        try:
            outputs = responder.answer(Question(query.task, query.inputs, query.options))
            return QueryAnswer(query=query.query, outputs=dict(outputs), seconds=time.monotonic() - started)
        except MethodError as error:
            return str(error)
        except Exception as error:  # a peer's question must not end this node
            log.exception("question %d of %s", query.query, life[0])
            return f"{type(error).__name__} while answering; see this node's log"

    def _reply(self, requester: str, query: QueryRequest, result: QueryAnswer | str) -> None:
        if isinstance(result, str):
            self._refuse(requester, query, result)
            return
        try:
            self._node.tell(requester, result)
        except EncodingError as error:
            self._refuse(requester, query, f"the answer cannot be sent: {error}")

    def _refuse(self, requester: str, query: QueryRequest, reason: str) -> None:
        self._node.on_refusal(requester, query.task, reason)
        self._node.tell(requester, QueryRefusal(query=query.query, reason=reason[:500]))

    def linked(self, peer: PeerInfo) -> None:
        """Nothing to do."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Its waiting questions are pointless: they will be skipped."""
        self._oldest.pop((peer.name, peer.incarnation), None)

"""The exchange conversation at a client: does the requested work, offers the result, absorbs what the others offer.

A client that joins late is told the current offers: by each peer its own, and those of peers that are gone. A client
that loses a peer asks the others for that peer's offers which it has missed. The answer to a request is remembered and
repeated when the request is. Everything here runs on the event loop; the exchanger works on its device's thread
(`nodes.exchange.worker`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from pydantic import ValidationError

from fednet.api import Exchanger, OfferBatch, Stopped
from fednet.errors import MethodError
from fednet.federated.offers import OfferSource, versions
from nodes.capability import Handler
from nodes.compute import ComputeThread, ThreadProgress
from nodes.exchange.conversion import from_exchange_request, from_offer_message, to_offer_list, to_offer_message
from nodes.exchange.offer_lists import OfferLists
from nodes.exchange.offer_queue import OfferQueue
from nodes.exchange.worker import ExchangeWorker
from nodes.node import Node
from nodes.progress import progress_publisher
from protocol.codec import Envelope
from protocol.messages import Message
from protocol.messages.exchange import (
    MAX_REQUESTED,
    ExchangeDecline,
    ExchangeRequest,
    OfferList,
    OfferMessage,
    OfferRequest,
)
from protocol.messages.presence import PeerInfo
from protocol.presence import PeerState
from protocol.topics import EXCHANGE

log = logging.getLogger(__name__)

MAX_REQUESTS = 1024
"""Requests that are remembered; the oldest are forgotten."""

MAX_PENDING = 64
"""Requests whose work is not done; a further one is declined."""

REPAIR_INTERVAL = 5.0
"""Seconds between two looks for offers that are listed and have not come; a lost message is repeated much sooner."""


@dataclass
class _RequestState:
    """A request that has come.

    Attributes:
        request: what is to be done.
        requesters: who has requested it; also those that seem lost, since they may still hear us.
        answer: None while its work is not done.
    """

    request: ExchangeRequest
    requesters: set[str] = field(default_factory=set)
    answer: OfferList | ExchangeDecline | None = None


class ExchangePeer:
    """The exchange conversation at a client.

    Args:
        node: the node that takes part.
        compute: the thread of its device.
    """

    topics: tuple[str, ...] = (EXCHANGE,)

    def __init__(self, node: Node, compute: ComputeThread) -> None:
        self._node = node
        self._compute = compute
        self._requests: dict[str, _RequestState] = {}
        self._queue = OfferQueue(self._requests, self._decided)
        self._store = self._queue.store
        self._lists = OfferLists(self._store)
        self._own: dict[str, OfferMessage] = {}
        self._worker: ExchangeWorker | None = None
        self._decline_reason = ""
        self.handlers: Mapping[type[Message], Handler] = {
            ExchangeRequest: self._request,
            OfferMessage: self._offer,
            OfferList: self._offer_list,
            OfferRequest: self._send_missing_offers,
        }

    async def open(self, site: object) -> None:
        """Takes part from now on, if the method's site is an `Exchanger`, and publishes its initial offers.

        Raises:
            MethodError: one of them is invalid.
        """
        if isinstance(site, Exchanger):
            worker = ExchangeWorker(
                self._node.name, site, self._compute, lambda: ThreadProgress(progress_publisher(self._node))
            )
            for offer in await worker.initial_offers():
                self._publish(to_offer_message(offer, ""))
            self._worker = worker
        else:
            self._decline_reason = "its method takes no part in exchanges"
        for state in list(self._requests.values()):
            self._start(state)
        if self._worker is not None:
            self._queue.open(self._worker)
            self._node.spawn(self._request_missing_offers(), "exchange")

    def close(self) -> None:
        """Takes no further part: work that is under way is stopped."""
        self._queue.close()
        if self._worker is not None:
            self._worker.stop()

    def linked(self, peer: PeerInfo) -> None:
        """Tells a client that joins the current offers."""
        if peer.role != "client" or not self._belongs(peer.name):
            return
        answers = [each.answer for each in self._requests.values() if any(map(self._is_alive, each.requesters))]
        gone = [name for name in self._store.origins() if not self._is_alive(name) and name != peer.name]
        relayed = [to_offer_message(offer, "") for name in gone for offer in self._store.of(name)]
        lists = [answer for answer in answers if isinstance(answer, OfferList)]
        for message in (*self._own.values(), *relayed, *lists):
            self._node.tell(peer.name, message)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Asks the others for those offers of a peer that is gone which were missed here."""
        if peer.role == "client" and self._belongs(peer.name):
            self._store.mark_departed(peer.name)
            self._node.publish(EXCHANGE, self._offer_request(peer.name))

    async def _request_missing_offers(self) -> None:
        """Asks origins again for offers that they have listed and can no longer retransmit."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(REPAIR_INTERVAL)
            missing = set(filter(self._is_alive, self._lists.incomplete_origins()))
            for origin in sorted(missing & before):
                self._node.tell(origin, self._offer_request(origin))
            before = missing

    def _offer_request(self, origin: str) -> OfferRequest:
        known = list(versions(self._store.of(origin)).items())
        return OfferRequest(origin=origin, versions=dict(known[:MAX_REQUESTED]))

    def _request(self, envelope: Envelope, request: ExchangeRequest) -> None:
        requester, state = envelope.sender, self._requests.get(request.key)
        if state is None:
            if sum(each.answer is None for each in self._requests.values()) >= MAX_PENDING:
                reason = f"{MAX_PENDING} requests are waiting here already"
                self._decline(requester, request, reason)
                return
            state = self._remember(request)
        state.requesters.add(requester)
        answers = [*([state.answer] if state.answer is not None else []), *self._lists.verdicts(request.key)]
        self._node.repeat(requester, [(answer, 0) for answer in answers])

    def _remember(self, request: ExchangeRequest) -> _RequestState:
        state = self._requests[request.key] = _RequestState(request)
        done = [key for key, each in self._requests.items() if each.answer is not None]
        for key in done[: max(0, len(self._requests) - MAX_REQUESTS)]:
            del self._requests[key]
        self._start(state)
        return state

    def _start(self, state: _RequestState) -> None:
        """Queues the work of a request, once the exchanger is ready."""
        if self._decline_reason:
            self._answer(state, ExchangeDecline(key=state.request.key, reason=self._decline_reason))
        elif self._worker is not None:
            self._worker.offer(from_exchange_request(state.request)).add_done_callback(partial(self._done, state))
            self._queue.request_started(state.request.key)

    def _done(self, state: _RequestState, work: asyncio.Future[OfferBatch]) -> None:
        """Back on the event loop: publishes the offers, or declines."""
        if work.cancelled() or isinstance(work.exception(), Stopped):
            return
        key = state.request.key
        try:
            self._answer(state, self._publish_all(key, work.result()))
        except (MethodError, ValidationError) as error:
            self._answer(state, ExchangeDecline(key=key, reason=str(error)[:500]))
        except Exception as error:  # a failure in a method must not keep the others waiting
            log.exception("exchange %s", key)
            reason = f"{type(error).__name__} in {state.request.task}; see this node's log"
            self._answer(state, ExchangeDecline(key=key, reason=reason))

    def _publish_all(self, key: str, batch: OfferBatch) -> OfferList:
        offer_list = to_offer_list(key, batch, 0)
        before = self._node.sent[OfferMessage.kind]
        for message in [to_offer_message(offer, key) for offer in batch.offers]:
            self._publish(message)
        return offer_list.model_copy(update={"bytes_sent": self._node.sent[OfferMessage.kind] - before})

    def _publish(self, message: OfferMessage) -> None:
        self._own[message.subject] = message
        self._node.publish(EXCHANGE, message)

    def _answer(self, state: _RequestState, answer: OfferList | ExchangeDecline) -> None:
        state.answer = answer
        if isinstance(answer, OfferList):
            self._node.publish(EXCHANGE, answer)
        for requester in sorted(state.requesters):
            if isinstance(answer, OfferList):
                self._node.tell(requester, answer)
            else:
                self._decline(requester, state.request, answer.reason)

    def _decline(self, requester: str, request: ExchangeRequest, reason: str) -> None:
        self._node.on_refusal(requester, f"exchange {request.task}", reason)
        self._node.tell(requester, ExchangeDecline(key=request.key, reason=reason))

    def _decided(self, origin: str, refusal: str) -> None:
        """An offer of an origin was absorbed or refused."""
        if refusal:
            self._node.on_refusal(origin, "offer", refusal)
        self._send_verdicts(origin)

    def _offer(self, envelope: Envelope, message: OfferMessage) -> None:
        """An offer of its origin, or of another peer once its origin is gone."""
        sender, origin = envelope.sender, message.origin
        if not (self._belongs(sender) and self._belongs(origin)):
            self._node.counts["no member"] += 1
        elif sender != origin and (self._is_alive(origin) or origin == self._node.name):
            self._node.counts["hearsay"] += 1
        else:
            source = OfferSource.DIRECT if sender == origin else OfferSource.RELAYED
            self._queue.add(from_offer_message(message), message.key, source)
            if self._store.dropped:
                self._node.counts["no room"] = self._store.dropped
            self._send_verdicts(origin)

    def _send_missing_offers(self, envelope: Envelope, request: OfferRequest) -> None:
        """A peer has missed offers: it is told them by their origin, or by a peer that has them."""
        if not self._belongs(envelope.sender):
            self._node.counts["no member"] += 1
            return
        relayed = [to_offer_message(offer, "") for offer in self._store.of(request.origin)]
        offers = list(self._own.values()) if request.origin == self._node.name else relayed
        missing = (each for each in offers if each.version > request.versions.get(each.subject, 0))
        self._node.repeat(envelope.sender, [(each, each.embeddings.nbytes) for each in missing])

    def _offer_list(self, envelope: Envelope, offer_list: OfferList) -> None:
        if not self._belongs(envelope.sender):
            self._node.counts["no member"] += 1
            return
        self._lists.add(offer_list.key, envelope.sender, offer_list.versions)
        self._send_verdicts(envelope.sender)

    def _send_verdicts(self, origin: str) -> None:
        """Tells the requesters once all that an origin has listed is absorbed or refused."""
        for verdict in self._lists.new_verdicts(origin):
            state = self._requests.get(verdict.key)
            for requester in sorted(state.requesters if state is not None else ()):
                self._node.tell(requester, verdict)

    def _belongs(self, name: str) -> bool:
        return not self._node.spec.expected or name in self._node.spec.expected

    def _is_alive(self, name: str) -> bool:
        return self._node.presence.state(name) in {PeerState.KNOWN, PeerState.LINKED}

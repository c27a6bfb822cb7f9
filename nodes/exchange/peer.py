"""A client's part in exchanges: it does the work of calls, offers what comes out, and absorbs what the others offer.

Whoever comes late is told what stands: by each peer what it offers itself, and what was offered by those who are gone.
Whoever loses a peer asks the others for what it has missed of it. What was said under a call is remembered and said
again to whoever calls again. Everything here runs on the event loop; the trader works on its device's thread (`booth`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from pydantic import ValidationError

from fednet.api import Exchanger, Offer, OfferBatch, Stopped
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
from protocol.messages import exchange as wire
from protocol.messages.exchange import ExchangeDecline, ExchangeRequest, OfferList, OfferRequest
from protocol.messages.presence import PeerInfo
from protocol.presence import PeerState
from protocol.topics import EXCHANGE

log = logging.getLogger(__name__)

MAX_REQUESTS = 1024
"""Calls that are remembered; the oldest are forgotten."""

MAX_PENDING = 64
"""Calls whose work is not done; a further one is declined."""

REPAIR_INTERVAL = 5.0
"""Seconds between two looks at what is listed and has not come; what was lost on its way comes again much sooner."""


@dataclass
class _RequestState:
    """A call that has come.

    Attributes:
        call: what is to be done.
        askers: who has called; also those that seem lost, since perhaps they still hear us.
        said: what was said under it; None while its work is not done.
    """

    call: ExchangeRequest
    askers: set[str] = field(default_factory=set)
    said: OfferList | ExchangeDecline | None = None


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
        self._calls: dict[str, _RequestState] = {}
        self._offer_queue = OfferQueue(self._calls, self._review)
        self._lists = OfferLists(self._offer_queue.store)
        self._own: dict[str, wire.OfferMessage] = {}
        self._worker: ExchangeWorker | None = None
        self._decline_reason = ""
        self.handlers: Mapping[type[Message], Handler] = {
            ExchangeRequest: self._call,
            wire.OfferMessage: self._offer,
            OfferList: self._offered,
            OfferRequest: self._send_missing_offers,
        }

    async def open(self, agent: object) -> None:
        """Takes part from now on, if the method's agent is a `Exchanger`, and offers what it offers already.

        Raises:
            MethodError: that is nothing that can be offered.
        """
        if not isinstance(agent, Exchanger):
            self._decline_reason = "its method takes no part in exchanges"
        else:
            booth = ExchangeWorker(
                self._node.name, agent, self._compute, lambda: ThreadProgress(progress_publisher(self._node))
            )
            for offer in await booth.initial_offers():
                self._publish(to_offer_message(offer, ""))
            self._worker = booth
        for heard in list(self._calls.values()):
            self._begin(heard)
        if self._worker is not None:
            self._offer_queue.open(self._worker)
            self._node.spawn(self._look(), "exchange")

    def close(self) -> None:
        """Takes no further part: work that is under way ends."""
        self._offer_queue.close()
        if self._worker is not None:
            self._worker.stop()

    def linked(self, peer: PeerInfo) -> None:
        """A newcomer has not heard what stands."""
        if peer.role != "client" or not self._belongs(peer.name):
            return
        wanted = [heard.said for heard in self._calls.values() if any(map(self._lives, heard.askers))]
        said = [each for each in wanted if isinstance(each, OfferList)]
        gone = [name for name in self._offer_queue.store.origins() if not self._lives(name) and name != peer.name]
        heard = [to_offer_message(offer, "") for name in gone for offer in self._offer_queue.store.of(name)]
        for message in (*self._own.values(), *heard, *said):
            self._node.tell(peer.name, message)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """What was missed of a peer that is gone it cannot be asked for any more, but the others can."""
        if peer.role == "client" and self._belongs(peer.name):
            self._offer_queue.store.mark_departed(peer.name)
            self._node.publish(EXCHANGE, self._offer_request(peer.name))

    async def _look(self) -> None:
        """Asks origins again for what they have listed and no longer have among what they can repeat."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(REPAIR_INTERVAL)
            lacking = set(filter(self._lives, self._lists.lacking()))
            for origin in sorted(lacking & before):
                self._node.tell(origin, self._offer_request(origin))
            before = lacking

    def _offer_request(self, origin: str) -> OfferRequest:
        known = list(versions(self._offer_queue.store.of(origin)).items())
        return OfferRequest(origin=origin, versions=dict(known[: wire.MAX_REQUESTED]))

    def _call(self, envelope: Envelope, call: ExchangeRequest) -> None:
        asker, heard = envelope.sender, self._calls.get(call.key)
        if heard is None:
            if sum(known.said is None for known in self._calls.values()) >= MAX_PENDING:
                self._node.tell(
                    asker, ExchangeDecline(key=call.key, reason=f"{MAX_PENDING} calls are waiting here already")
                )
                return
            heard = self._remember(call)
        heard.askers.add(asker)
        if heard.said is not None:
            self._node.tell(asker, heard.said)
        for said in self._lists.said(call.key):
            self._node.tell(asker, said)

    def _remember(self, call: ExchangeRequest) -> _RequestState:
        heard = self._calls[call.key] = _RequestState(call)
        done = [key for key, known in self._calls.items() if known.said is not None]
        for key in done[: max(0, len(self._calls) - MAX_REQUESTS)]:
            del self._calls[key]
        self._begin(heard)
        return heard

    def _begin(self, heard: _RequestState) -> None:
        """Puts the work of a call into the queue, once there is somebody to do it."""
        if self._decline_reason:
            self._say(heard, ExchangeDecline(key=heard.call.key, reason=self._decline_reason))
        elif self._worker is not None:
            self._worker.offer(from_exchange_request(heard.call)).add_done_callback(partial(self._made, heard))
            self._offer_queue.begun(heard.call.key)

    def _made(self, heard: _RequestState, made: asyncio.Future[OfferBatch]) -> None:
        """Back on the event loop: says what the trader has made of a call, or why nothing."""
        if made.cancelled() or isinstance(made.exception(), Stopped):
            return
        key = heard.call.key
        try:
            self._say(heard, self._offer_all(key, made.result()))
        except (MethodError, ValidationError) as error:
            self._say(heard, ExchangeDecline(key=key, reason=str(error)[:500]))
        except Exception as error:  # what goes wrong in a method must not keep the others waiting
            log.exception("call %s", key)
            said = f"{type(error).__name__} in {heard.call.task}; see this node's log"
            self._say(heard, ExchangeDecline(key=key, reason=said))

    def _offer_all(self, key: str, offering: OfferBatch) -> OfferList:
        offered = to_offer_list(key, offering, 0)
        before = self._node.sent[wire.OfferMessage.kind]
        for offer in [to_offer_message(offer, key) for offer in offering.offers]:
            self._publish(offer)
        return offered.model_copy(update={"bytes_sent": self._node.sent[wire.OfferMessage.kind] - before})

    def _publish(self, offer: wire.OfferMessage) -> None:
        self._own[offer.subject] = offer
        self._node.publish(EXCHANGE, offer)

    def _say(self, heard: _RequestState, said: OfferList | ExchangeDecline) -> None:
        heard.said = said
        if isinstance(said, OfferList):
            self._node.publish(EXCHANGE, said)
        for asker in sorted(heard.askers):
            self._node.tell(asker, said)

    def _offer(self, envelope: Envelope, said: wire.OfferMessage) -> None:
        offer = from_offer_message(said)
        if not (self._belongs(envelope.sender) and self._belongs(offer.origin)):
            self._node.counts["no member"] += 1
        elif envelope.sender == offer.origin:
            self._take(offer, said.key, OfferSource.DIRECT)
        elif self._lives(offer.origin) or offer.origin == self._node.name:
            self._node.counts["hearsay"] += 1
        else:
            self._take(offer, said.key, OfferSource.RELAYED)

    def _take(self, offer: Offer, key: str, source: OfferSource) -> None:
        self._offer_queue.hear(offer, key, source)
        if self._offer_queue.store.dropped:
            self._node.counts["no room"] = self._offer_queue.store.dropped
        self._review(offer.origin)

    def _send_missing_offers(self, envelope: Envelope, seek: OfferRequest) -> None:
        """Somebody has missed what a peer has offered: it is told, by that peer or by who knows."""
        if not self._belongs(envelope.sender):
            self._node.counts["no member"] += 1
            return
        heard = [to_offer_message(offer, "") for offer in self._offer_queue.store.of(seek.origin)]
        for offer in self._own.values() if seek.origin == self._node.name else heard:
            if offer.version > seek.versions.get(offer.subject, 0):
                self._node.tell(envelope.sender, offer)

    def _offered(self, envelope: Envelope, said: OfferList) -> None:
        if not self._belongs(envelope.sender):
            self._node.counts["no member"] += 1
            return
        self._lists.add(said.key, envelope.sender, said.versions)
        self._review(envelope.sender)

    def _review(self, origin: str) -> None:
        """Tells the askers once all that an origin offers under a call is absorbed or refused."""
        for said in self._lists.decided(origin):
            for asker in sorted(self._calls[said.key].askers if said.key in self._calls else ()):
                self._node.tell(asker, said)

    def _belongs(self, name: str) -> bool:
        return not self._node.spec.expected or name in self._node.spec.expected

    def _lives(self, name: str) -> bool:
        return self._node.presence.state(name) in {PeerState.KNOWN, PeerState.LINKED}

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

from fednet.conversations import Offer, Offering, Stopped, Trader
from fednet.errors import MethodError
from fednet.federated.offers import Source, versions
from nodes.capability import Handler
from nodes.compute import Compute, ThreadWatch
from nodes.exchange.booth import Booth
from nodes.exchange.intake import Intake
from nodes.exchange.lists import Lists
from nodes.exchange.words import call_of, offer_of, said_offer, said_offering
from nodes.node import Node
from nodes.progress import speaker
from protocol.codec import Envelope
from protocol.messages import Message
from protocol.messages import exchange as wire
from protocol.messages.exchange import Abstain, Call, Offered, Seek
from protocol.messages.presence import PeerInfo
from protocol.presence import State
from protocol.topics import EXCHANGE

log = logging.getLogger(__name__)

MOST_CALLS = 1024
"""Calls that are remembered; the oldest are forgotten."""

MOST_WAITING = 64
"""Calls whose work is not done; a further one is declined."""

SEEK = 5.0
"""Seconds between two looks at what is listed and has not come; what was lost on its way comes again much sooner."""


@dataclass
class _Heard:
    """A call that has come.

    Attributes:
        call: what is to be done.
        askers: who has called; also those that seem lost, since perhaps they still hear us.
        said: what was said under it; None while its work is not done.
    """

    call: Call
    askers: set[str] = field(default_factory=set)
    said: Offered | Abstain | None = None


class Stall:
    """The exchange conversation at a client.

    Args:
        node: the node that takes part.
        compute: the thread of its device.
    """

    topics: tuple[str, ...] = (EXCHANGE,)

    def __init__(self, node: Node, compute: Compute) -> None:
        self._node = node
        self._compute = compute
        self._calls: dict[str, _Heard] = {}
        self._intake = Intake(self._calls, self._review)
        self._lists = Lists(self._intake.shelf)
        self._own: dict[str, wire.Offer] = {}
        self._booth: Booth | None = None
        self._unfit = ""
        self.handlers: Mapping[type[Message], Handler] = {
            Call: self._call,
            wire.Offer: self._offer,
            Offered: self._offered,
            Seek: self._seek,
        }

    async def open(self, agent: object) -> None:
        """Takes part from now on, if the method's agent is a `Trader`, and offers what it offers already.

        Raises:
            MethodError: that is nothing that can be offered.
        """
        if not isinstance(agent, Trader):
            self._unfit = "its method takes no part in exchanges"
        else:
            booth = Booth(self._node.name, agent, self._compute, lambda: ThreadWatch(speaker(self._node)))
            for offer in await booth.standing():
                self._publish(said_offer(offer, ""))
            self._booth = booth
        for heard in list(self._calls.values()):
            self._begin(heard)
        if self._booth is not None:
            self._intake.open(self._booth)
            self._node.spawn(self._look(), "exchange")

    def close(self) -> None:
        """Takes no further part: work that is under way ends."""
        self._intake.close()
        if self._booth is not None:
            self._booth.stop()

    def linked(self, peer: PeerInfo) -> None:
        """A newcomer has not heard what stands."""
        if peer.role != "client" or not self._belongs(peer.name):
            return
        wanted = [heard.said for heard in self._calls.values() if any(map(self._lives, heard.askers))]
        said = [each for each in wanted if isinstance(each, Offered)]
        gone = [name for name in self._intake.shelf.origins() if not self._lives(name) and name != peer.name]
        heard = [said_offer(offer, "") for name in gone for offer in self._intake.shelf.of(name)]
        for message in (*self._own.values(), *heard, *said):
            self._node.tell(peer.name, message)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """What was missed of a peer that is gone it cannot be asked for any more, but the others can."""
        if peer.role == "client" and self._belongs(peer.name):
            self._intake.shelf.bury(peer.name)
            self._node.publish(EXCHANGE, self._sought(peer.name))

    async def _look(self) -> None:
        """Asks origins again for what they have listed and no longer have among what they can repeat."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(SEEK)
            lacking = set(filter(self._lives, self._lists.lacking()))
            for origin in sorted(lacking & before):
                self._node.tell(origin, self._sought(origin))
            before = lacking

    def _sought(self, origin: str) -> Seek:
        known = list(versions(self._intake.shelf.of(origin)).items())
        return Seek(origin=origin, versions=dict(known[: wire.MAX_SOUGHT]))

    def _call(self, envelope: Envelope, call: Call) -> None:
        asker, heard = envelope.sender, self._calls.get(call.key)
        if heard is None:
            if sum(known.said is None for known in self._calls.values()) >= MOST_WAITING:
                self._node.tell(asker, Abstain(key=call.key, reason=f"{MOST_WAITING} calls are waiting here already"))
                return
            heard = self._remember(call)
        heard.askers.add(asker)
        if heard.said is not None:
            self._node.tell(asker, heard.said)
        for said in self._lists.said(call.key):
            self._node.tell(asker, said)

    def _remember(self, call: Call) -> _Heard:
        heard = self._calls[call.key] = _Heard(call)
        done = [key for key, known in self._calls.items() if known.said is not None]
        for key in done[: max(0, len(self._calls) - MOST_CALLS)]:
            del self._calls[key]
        self._begin(heard)
        return heard

    def _begin(self, heard: _Heard) -> None:
        """Puts the work of a call into the queue, once there is somebody to do it."""
        if self._unfit:
            self._say(heard, Abstain(key=heard.call.key, reason=self._unfit))
        elif self._booth is not None:
            self._booth.offer(call_of(heard.call)).add_done_callback(partial(self._made, heard))
            self._intake.begun(heard.call.key)

    def _made(self, heard: _Heard, made: asyncio.Future[Offering]) -> None:
        """Back on the event loop: says what the trader has made of a call, or why nothing."""
        if made.cancelled() or isinstance(made.exception(), Stopped):
            return
        key = heard.call.key
        try:
            self._say(heard, self._offer_all(key, made.result()))
        except (MethodError, ValidationError) as error:
            self._say(heard, Abstain(key=key, reason=str(error)[:500]))
        except Exception as error:  # what goes wrong in a method must not keep the others waiting
            log.exception("call %s", key)
            said = f"{type(error).__name__} in {heard.call.work}; see this node's log"
            self._say(heard, Abstain(key=key, reason=said))

    def _offer_all(self, key: str, offering: Offering) -> Offered:
        offered = said_offering(key, offering, 0)
        before = self._node.sent[wire.Offer.kind]
        for offer in [said_offer(offer, key) for offer in offering.offers]:
            self._publish(offer)
        return offered.model_copy(update={"sent": self._node.sent[wire.Offer.kind] - before})

    def _publish(self, offer: wire.Offer) -> None:
        self._own[offer.subject] = offer
        self._node.publish(EXCHANGE, offer)

    def _say(self, heard: _Heard, said: Offered | Abstain) -> None:
        heard.said = said
        if isinstance(said, Offered):
            self._node.publish(EXCHANGE, said)
        for asker in sorted(heard.askers):
            self._node.tell(asker, said)

    def _offer(self, envelope: Envelope, said: wire.Offer) -> None:
        offer = offer_of(said)
        if not (self._belongs(envelope.sender) and self._belongs(offer.origin)):
            self._node.counts["no member"] += 1
        elif envelope.sender == offer.origin:
            self._take(offer, said.key, Source.FIRSTHAND)
        elif self._lives(offer.origin) or offer.origin == self._node.name:
            self._node.counts["hearsay"] += 1
        else:
            self._take(offer, said.key, Source.HEARSAY)

    def _take(self, offer: Offer, key: str, source: Source) -> None:
        self._intake.hear(offer, key, source)
        if self._intake.shelf.refused:
            self._node.counts["no room"] = self._intake.shelf.refused
        self._review(offer.origin)

    def _seek(self, envelope: Envelope, seek: Seek) -> None:
        """Somebody has missed what a peer has offered: it is told, by that peer or by who knows."""
        if not self._belongs(envelope.sender):
            self._node.counts["no member"] += 1
            return
        heard = [said_offer(offer, "") for offer in self._intake.shelf.of(seek.origin)]
        for offer in self._own.values() if seek.origin == self._node.name else heard:
            if offer.version > seek.versions.get(offer.subject, 0):
                self._node.tell(envelope.sender, offer)

    def _offered(self, envelope: Envelope, said: Offered) -> None:
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
        return self._node.presence.state(name) in {State.MET, State.LINKED}

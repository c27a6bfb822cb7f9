"""Who belongs to the run, as one node carries it out: hellos and welcomes, who is linked, who is gone, who may read.

The decisions are `protocol.presence`'s; here they become connections, messages, grants and calls of the capabilities.
Refuses to know what is said beyond presence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nodes.capability import Capability, Handler
from nodes.publisher import Publisher
from nodes.retransmission import RetransmissionService
from nodes.transport.interface import Transport
from protocol import topics
from protocol.clocks import ClockComparison, clock_remark
from protocol.codec import Envelope
from protocol.errors import WireError
from protocol.messages import Message
from protocol.messages.group_key import GroupKeyGrant
from protocol.messages.presence import Goodbye, Heartbeat, Hello, PeerInfo, Welcome
from protocol.presence import ConnectTo, DisconnectFrom, Outcome, PeerDeparted, PeerLinked, Presence, SendHello
from protocol.security.authentication import Security
from protocol.security.budget import Cost
from protocol.security.keys import Keyring
from protocol.security.revocation import revoked
from protocol.topics import JoinRequest

log = logging.getLogger(__name__)

MAX_MEMBERS_PER_HELLO = 64
"""Members that one hello names at most."""

MAX_DELAYED = 256
"""Peers whose latest join request waits, at most."""

JOIN_DELAY = 2.0
"""Seconds that a join request waits which is beyond its peer's budget."""


@dataclass(frozen=True)
class MembershipContext:
    """What a membership is carried out with.

    Attributes:
        bus: connects.
        security: proves who somebody is, and closes what is said to all.
        publisher: says it.
        repair: counts what peers say.
        charge: whether a peer may cause something now.
        refused: told of what is dropped: its kind and why.
        counts: the same, of what is nobody's fault and not worth a line in the log.
    """

    bus: Transport
    security: Security
    publisher: Publisher
    repair: RetransmissionService
    charge: Callable[[str, Cost], bool]
    refused: Callable[[str, str], None]
    counts: Counter[str]


class Membership:
    """The members of a run and this node's dealings with them.

    Args:
        presence: decides.
        context: carry it out.
        capabilities: hear who comes and goes.

    Attributes:
        clocks: the peers' clocks beside ours.
    """

    def __init__(self, presence: Presence, context: MembershipContext, capabilities: Sequence[Capability]) -> None:
        self.presence = presence
        self.clocks = ClockComparison()
        self._context = context
        self._capabilities = capabilities
        self._greeted: dict[str, int] = {}
        self._delayed: dict[str, tuple[JoinRequest, float]] = {}
        self.handlers: Mapping[type[Message], Handler] = {
            Hello: self._hello,
            Welcome: self._welcome,
            Heartbeat: self._heartbeat,
            Goodbye: self._goodbye,
            GroupKeyGrant: self._grant,
        }

    def join_request(self) -> JoinRequest:
        """This node's own, signed."""
        me, context = self.presence.me, self._context
        unsigned = JoinRequest(me.name, me.incarnation, context.publisher.run, me.address)
        return replace(unsigned, signature=context.security.attest(unsigned.statement))

    def join_requested(self, topic: bytes, *, present: bool, origin: str = "") -> None:
        """Somebody has begun or ceased to hear us; its join request says who.

        A request over its own node's connection is charged before its signature is verified; anybody else could make
        another pay, so that what a relay brings is verified first.
        """
        try:
            request = topics.parse_join_request(topic)
        except WireError as error:
            self._context.refused("malformed", str(error))
            return
        if not present:
            self._request_ended(request)
        elif origin == request.name:
            self._consider(request, _now())
        elif objection := self._objection(request):
            self._context.refused(*objection)
        else:
            self._consider(request, _now())

    def bar(self, name: str, why: str) -> None:
        """A peer is not listened to for a while."""
        self._follow(self.presence.bar(name, why))

    def trust(self, before: Keyring, after: Keyring) -> None:
        """From now on other keys are trusted: whoever is let in no more departs, and reads nothing that is said now."""
        self._context.publisher.trust(after)
        gone = revoked(before, after, datetime.now(UTC).date())
        for name, why in gone.items():
            log.warning("%s is let in no more, or under other terms: %s", name, why)
            self._greeted.pop(name, None)
            self._delayed.pop(name, None)
            self._follow(self.presence.bar(name, why, forget=True))
        if gone:
            self._renew()
        self._context.bus.trust(after, gone)

    def sweep(self) -> None:
        """Time has passed."""
        now = _now()
        for request in [request for request, due in self._delayed.values() if now >= due]:
            self._consider(request, now)
        self._follow(self.presence.sweep(_now()))

    def _objection(self, request: JoinRequest) -> tuple[str, str] | None:
        """Why a join request is not followed, a word to count by and a sentence: anybody may repeat or invent one."""
        name, run, security = request.name, self._context.publisher.run, self._context.security
        if not security.has_key_of(name):
            return "unknown key", f"{name} asks to join, and its key is not trusted here"
        if not security.attested(name, request.statement, request.signature):
            return "tampered", f"somebody asks to join as {name} at {request.address}, and {name} has not signed it"
        if run and request.run and run != request.run:
            return "other run", f"{name} asks to join the run {request.run!r}, and this is {run!r}"
        return None

    def _consider(self, request: JoinRequest, now: float) -> None:
        """Follows a join request, which may begin an epoch of the group key; later, where that is beyond its budget.

        While one waits, those of earlier lives are dropped and cost nothing: by repeating one that it has seen, anybody
        could keep out a node that has restarted.
        """
        waiting = self._delayed.get(request.name)
        if waiting is not None and request.incarnation < waiting[0].incarnation:
            return
        if self._context.charge(request.name, Cost.JOIN_REQUESTS):
            self._delayed.pop(request.name, None)
            if objection := self._objection(request):
                self._context.refused(*objection)
                return
            self._tell_of_set_back(request)
            self._follow(self.presence.join_request(request.name, request.incarnation, request.address, now))
        elif request.name in self._delayed or len(self._delayed) < MAX_DELAYED:
            self._delayed[request.name] = request, now + JOIN_DELAY

    def _request_ended(self, request: JoinRequest) -> None:
        """Verified only where it is of a life that is known here: nobody pays for the end of a request."""
        if self._delayed.get(request.name, (None,))[0] == request:
            del self._delayed[request.name]
        known = self.presence.incarnation(request.name), self.presence.asks_to_join(request.name)
        if request.incarnation not in known:
            return
        if objection := self._objection(request):
            self._context.refused(*objection)
            return
        self._follow(self.presence.connection_lost(request.name, request.incarnation))

    def _hello(self, envelope: Envelope, hello: Hello) -> None:
        context, sender = self._context, envelope.sender
        if hello.receiver_incarnation != self.presence.me.incarnation:
            context.counts["stale"] += 1  # meant for an earlier life of this node, or repeated by somebody else
        elif not context.security.verified_peers([hello.peer]):
            context.refused("malformed", f"{sender} introduced itself without its proof")
        else:
            members = context.security.verified_peers(hello.members)
            if len(members) < len(hello.members):
                context.counts["unproven"] += 1  # hearsay of somebody whom we do not trust, or without that one's word
            self._follow(self.presence.hello(hello.peer, members, _now()))
            if self.presence.is_current(sender, envelope.incarnation):
                context.repair.start(sender, envelope.incarnation, hello.latest)
                self._tell(sender, Welcome(receiver_incarnation=envelope.incarnation))
                if self._greeted.get(sender) == envelope.incarnation:  # else its hello is to come, and brings the key
                    self._admit(sender)

    def _welcome(self, envelope: Envelope, welcome: Welcome) -> None:
        self._follow(self.presence.welcome(envelope.sender, envelope.incarnation, welcome.receiver_incarnation, _now()))

    def _heartbeat(self, envelope: Envelope, beat: Heartbeat) -> None:
        now = _now()
        self._follow(self.presence.heartbeat(envelope.sender, envelope.incarnation, beat.tick, now))
        if self.presence.is_current(envelope.sender, envelope.incarnation):
            self._context.repair.claimed(envelope.sender, envelope.incarnation, beat.latest, now)
            self._compare_clocks(envelope.sender, beat.clock, now)

    def _compare_clocks(self, name: str, stated: float, now: float) -> None:
        if self.clocks.heard(name, stated, time.time(), now):
            log.warning("the clock of %s: %s", name, clock_remark(self.clocks.ahead(name)))

    def _tell_of_set_back(self, request: JoinRequest) -> None:
        """Names a node that comes back under an earlier incarnation than its last one: nobody lets it in."""
        known = self.presence.incarnation(request.name)
        if known is not None and request.incarnation < known:
            by = (known - request.incarnation) / 1e9
            why = f"{request.name} asks to join under an incarnation that is {by:.1f} s earlier than its last one here"
            self._context.refused("earlier life", f"{why}: has its clock gone back?")

    def _goodbye(self, envelope: Envelope, goodbye: Goodbye) -> None:
        self._follow(self.presence.goodbye(envelope.sender, envelope.incarnation, goodbye.reason))

    def _grant(self, envelope: Envelope, grant: GroupKeyGrant) -> None:
        self._context.security.accept_group_key(envelope.sender, envelope.incarnation, grant)

    def _follow(self, outcomes: Iterable[Outcome]) -> None:
        """Does what the state machine says."""
        for outcome in outcomes:
            match outcome:
                case ConnectTo(text, name):
                    keeper, address = topics.split_endpoint(text)
                    self._context.bus.connect(address, keeper or name)
                case DisconnectFrom(text, name):
                    keeper, address = topics.split_endpoint(text)
                    self._context.bus.disconnect(address, keeper or name)
                case SendHello(name, incarnation):
                    self._greet(name, incarnation)
                case PeerLinked(peer):
                    log.info("linked with %s (%s) at %s", peer.name, peer.role, peer.address)
                    for capability in self._capabilities:
                        capability.linked(peer)
                case PeerDeparted(peer, reason, left):
                    self._depart(peer, reason, left=left)

    def _greet(self, name: str, incarnation: int) -> None:
        """Says hello, in as many messages as it takes to name every member within the bounds of a header.

        A visitor that has not heard the run's name yet has nothing to say; the greeting falls due again.
        """
        context = self._context
        if not context.publisher.run:
            return
        if context.security.group_key_grant() is not None and self._greeted.get(name) != incarnation:
            self._renew()
            self._greeted[name] = incarnation
        me, *others = self.presence.members()
        latest = context.publisher.latest([name])
        context.repair.greet(name, incarnation, latest)
        for start in range(0, max(1, len(others)), MAX_MEMBERS_PER_HELLO):
            named = tuple(others[start : start + MAX_MEMBERS_PER_HELLO])
            self._tell(name, Hello(peer=me, receiver_incarnation=incarnation, members=named, latest=latest))
        self._admit(name)

    def _depart(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        context = self._context
        log.log(logging.INFO if left else logging.WARNING, "%s %s: %s", peer.name, "left" if left else "lost", reason)
        if self._greeted.get(peer.name) == peer.incarnation:
            del self._greeted[peer.name]
        self.clocks.forget(peer.name)
        if not left:
            context.bus.strand()
        self._renew()
        for capability in self._capabilities:
            capability.departed(peer, reason, left=left)
        if left and self.presence.asks_to_join(peer.name) is None:  # else its next life goes on with these numbers
            context.repair.forget(peer.name)

    def _renew(self) -> None:
        """The membership has changed: from now on its members, and nobody else, read what is said to all.

        Members are all that were greeted: a peer may have linked with this node before this node has with it.
        """
        self._context.security.renew_group_key()
        for name, incarnation in self._greeted.items():
            if self.presence.is_current(name, incarnation):
                self._admit(name)

    def _admit(self, name: str) -> None:
        """Lets a peer read what is said to all."""
        grant = self._context.security.group_key_grant()
        if grant is not None:
            self._tell(name, grant)

    def _tell(self, name: str, message: Message) -> None:
        self._context.publisher.publish(topics.inbox(name), message)


def _now() -> float:
    return asyncio.get_running_loop().time()

"""One member of a run: dispatches messages to its capabilities.

`Publisher` sends, `Membership` does the handshake and `RetransmissionService` requests what was missed; everything
beyond presence and retransmission belongs to capabilities (`nodes.queries`, `nodes.rounds`, `nodes.exchange`,
`nodes.peer_directory`, `nodes.monitor`), each with its topics and a literal table of handlers. Everything here runs on
the event loop and nothing blocks it. Knows no models.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType

from fednet.files import disk_full
from nodes import join_watch
from nodes.accounts import Accounts
from nodes.capability import Capability, Handler
from nodes.endpoints import check_endpoints
from nodes.errors import PeersMissing
from nodes.fault_boundary import OWN_ERRORS, FaultBoundary
from nodes.inbound_filter import InboundFilter
from nodes.incarnation import begin_incarnation
from nodes.membership import Membership, MembershipContext
from nodes.publisher import Publisher
from nodes.refusals import Refusals
from nodes.retransmission import RetransmissionService
from nodes.seed import announce_seed
from nodes.spec import NodeSpec
from nodes.transport.interface import Transport
from nodes.trust_watch import watch_trust
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.messages import Message, ProgressReport
from protocol.messages.presence import Goodbye, PeerInfo
from protocol.messages.progress import QUARANTINE
from protocol.messages.retransmission import Retransmission
from protocol.presence import PeerState, Presence
from protocol.security.authentication import NullSecurity, Security
from protocol.security.budget import Cost
from protocol.security.group_encryption import KeyedSecurity

log = logging.getLogger(__name__)

SWEEP_INTERVAL = 0.05
"""Seconds between two looks at what the passing of time brings."""

BACKPRESSURE_BYTES = 128 << 20
"""Bytes of large frames that may wait for the slowest subscriber before those who speak to all hold back."""


class Node:
    """A member of a run; an async context that is on the bus from `__aenter__` to `__aexit__`.

    Attributes:
        refused: takes what is dropped or turned away, its kind and why: counts and logs it.
        counts: what was dropped or repaired, by kind, since the start.
        boundary: contains the errors of what peers have set off.
        on_refusal: told of what a capability refuses to a peer: the peer, what, and why.
        on_fault: told of each fault of a peer: the peer, its kind, and why.
        repeat: tells a peer again what it has requested, unless it has had too much (`RetransmissionService.repeat`).
    """

    def __init__(self, spec: NodeSpec, bus: Transport, limits: Limits | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.refused = Refusals()
        self.counts = self.refused.counts
        self.address = ""
        self.presence: Presence
        self._bus = bus
        self._incarnation = begin_incarnation(spec.incarnation_file, spec.name)
        self._security: Security = KeyedSecurity(spec.keys, self._incarnation) if spec.keys else NullSecurity()
        self.on_refusal: Callable[[str, str, str], None] = lambda _peer, _what, _why: None
        self.on_fault: Callable[[str, str, str], None] = lambda _peer, _kind, _why: None
        self._accounts = Accounts(self.refused, self._bar, self._blame, believes=not spec.keys)
        self._inbound_filter = InboundFilter(self._security, self._accounts, self.counts, limits or Limits())
        self.boundary = FaultBoundary(self.fault)
        self._publisher = Publisher(bus, self._security, spec.name, self._incarnation, spec.encoding)
        self._publisher.run = spec.run
        self._retransmission = RetransmissionService(self._publisher, spec.timing.repair, self.counts, self)
        self.repeat = self._retransmission.repeat
        self._tick = 0
        self._blocked = False
        self._claims: dict[str, int] = {}
        self._capabilities: list[Capability] = []
        self._tasks = asyncio.TaskGroup()
        self._works: set[asyncio.Task[None]] = set()
        self._ends = False
        self._failure: BaseException | None = None
        self._membership: Membership  # with the presence, once there is an address
        self._handlers: dict[type[Message], tuple[Handler, ...]] = {}
        self._handle(self._retransmission.handlers)

    @property
    def run(self) -> str:
        """The run it belongs to; a visitor that does not know it takes that of the first peer it hears."""
        return self._publisher.run

    @property
    def sent(self) -> Mapping[str, int]:
        """Bytes of the messages that were published, by kind, frames and headers included, each counted once."""
        return self._publisher.sent

    def add(self, capability: Capability) -> None:
        """Gives the node a capability; before it is entered."""
        self._capabilities.append(capability)
        self._handle(capability.handlers)

    async def __aenter__(self) -> Node:
        """Binds, subscribes, calls the peers to join through, and begins to beat."""
        spec = self.spec
        check_endpoints(spec)
        bound, heartbeat = await self._bus.open(spec.listen, self, spec.through)
        self.address = spec.advertise or bound
        me = PeerInfo(
            name=spec.name,
            incarnation=self._incarnation,
            role=spec.role,
            address=self.address,
            heartbeat_address=topics.heartbeat_address(spec.advertise) if spec.advertise else heartbeat,
        )
        timing = spec.timing
        self.presence = Presence(
            self._security.sign_peer_info(me), timing.silence, timing.broken, timing.hang, timing.heartbeat,
            alert=timing.alert,
        )  # fmt: skip
        context = MembershipContext(
            self._bus, self._security, self._publisher, self._retransmission,
            partial(self.charge, proven=spec.through is None), self.refused, self.counts,
        )  # fmt: skip
        self._membership = Membership(self.presence, context, self._capabilities)
        self._handle(self._membership.handlers)
        self._bus.subscribe(self._subscriptions())
        for name, address in map(topics.split_endpoint, spec.join):
            self._bus.connect(address, name)
        if self.run:
            self._bus.beat(self._beat, timing.heartbeat)
        await self._tasks.__aenter__()
        self.spawn(self._sweep(), "sweep")
        if any("tcp://" in peer for peer in spec.join):
            self.spawn(join_watch.watch(spec, lambda: bool(self.presence.linked())), "join-watch")
        if spec.announce is not None:
            announce_seed(spec.announce, spec.name, self.address)
        if spec.keys is not None:
            self.spawn(watch_trust(spec.keys, self._membership.trust), "trust-watch")
        log.info("%s (%s) listens on %s", spec.name, spec.role, self.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Says goodbye and lets go of the bus; work that failed ends the node, with its error."""
        if self.run:
            self.publish(topics.PRESENCE, Goodbye(reason=_farewell(self._failure or error)))
        self._ends = True
        for work in self._works:
            work.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)  # the body has its own error, this is about the works
        except BaseExceptionGroup as group:
            if isinstance(self._failure, PeersMissing) and len(group.exceptions) == 1:
                raise self._failure from None
            raise
        finally:
            await self._bus.close()

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Does something for as long as the node is on the bus; an error that it does not handle ends the node.

        Once the node ends, nothing begins any more: the work is cancelled before its first step.
        """
        label = f"{self.name}-{name}"
        if self._ends:  # the group would refuse it, or wait for it
            unbegun = asyncio.get_running_loop().create_task(work, name=label)
            unbegun.cancel()
            return unbegun
        task = self._tasks.create_task(work, name=label)
        self._works.add(task)
        task.add_done_callback(self._ended)
        return task

    def spawn_for(self, sender: str, work: Callable[[], Coroutine[None, None, None]], name: str) -> asyncio.Task[None]:
        """Does what a peer's message has set off: an error is a fault of that peer, unless it is this node's own."""

        async def contained() -> None:
            with self.boundary.around(sender, name, passing=OWN_ERRORS):
                await work()

        return self.spawn(contained(), name)

    def publish(self, topic: str, message: Message) -> None:
        """Says a message on a topic: numbered and kept for repair when its kind is. Never blocks.

        Its tensors now belong to the message: never write to them again.
        """
        self._publisher.publish(topic, message)

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for a slow subscriber that nothing large should be said to all before it has gone."""
        return self._bus.queued() > BACKPRESSURE_BYTES

    @property
    def blocked_by_lost_peer(self) -> bool:
        """Whether what is said to all piles up for a peer that is lost: say it to each of the others instead.

        As of the last sweep, for whoever asks on any thread.
        """
        return self._blocked

    def repair_share(self, name: str) -> float:
        """Share in [0, 1] of a peer's latest messages that were heard by retransmission; 0 while they are few."""
        return self._retransmission.repair_share(name)

    def clock_ahead(self, name: str) -> float:
        """By how many seconds a peer's clock is ahead of this machine's; 0 unless it is known to differ."""
        return self._membership.clocks.ahead(name)

    def tell(self, name: str, message: Message) -> None:
        """Says a message to one peer's inbox."""
        self.publish(topics.inbox(name), message)

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement that others are to believe; empty without keys."""
        return self._security.attest(statement)

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a node has signed a statement; without keys, whether there is no signature."""
        return self._security.attested(name, statement, signature)

    def received(self, frames: Sequence[Buffer], origin: str = "", *, again: bool = False) -> None:
        """The bus has brought a message; `again` for what a `Retransmission` carries."""
        now = self._now()
        heard = self._inbound_filter.read(frames, now, origin=origin, again=again)
        if heard is None:
            return
        envelope, frames = heard
        if not self.run:
            self._publisher.run = envelope.run
            self._bus.beat(self._beat, self.spec.timing.heartbeat)
        if envelope.run != self.run:
            self.refused("other run", f"{envelope.sender} speaks of run {envelope.run!r}, not {self.run!r}")
        elif envelope.sender != self.name:
            self._take(envelope, frames, now, again=again)

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        """The bus has noticed that somebody began or ceased to hear us; `origin` has proven its key."""
        if topic.startswith(topics.JOIN.encode()):
            self._membership.join_requested(topic, present=present, origin=origin)

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        if not work.cancelled() and work.exception() is not None:
            self._ends, self._failure = True, self._failure or work.exception()

    def _take(self, envelope: Envelope, frames: Sequence[Buffer], now: float, *, again: bool) -> None:
        """Hands a message to its handler: an unnumbered one at once, a numbered one once and from living peers."""
        message = envelope.message
        if isinstance(message, Retransmission):
            self.counts["resent"] += 1
            self.received(codec.retransmitted_frames(frames), again=True)
            return
        if message.numbered and not self._accept(envelope, now, again=again):
            return
        if why := self._security.refusal(envelope.sender, message):
            self.fault(envelope.sender, "not permitted", why)
            return
        for handler in self._handlers.get(type(message), ()):
            with self.boundary.around(envelope.sender, message.kind):
                handler(envelope, message)

    def _handle(self, handlers: Mapping[type[Message], Handler]) -> None:
        """Adds handlers; a message goes to all of its kind, in the order in which they were added."""
        for kind, handler in handlers.items():
            self._handlers[kind] = (*self._handlers.get(kind, ()), handler)

    def _accept(self, envelope: Envelope, now: float, *, again: bool) -> bool:
        """Whether a numbered message is for us, from a living peer that has said hello, and new."""
        sender, kind = envelope.sender, envelope.message.kind
        if envelope.topic not in self._retransmission.heard:
            self.refused("unheard", f"{kind} from {sender} on {envelope.topic}, which is not subscribed to here")
        elif not self.presence.is_current(sender, envelope.incarnation):
            self.refused("stranger", f"{kind} from {sender}, which is not a living member")
        else:
            return self._retransmission.accept(envelope, now, again=again)
        return False

    def _subscriptions(self) -> list[str]:
        """The static subscriptions; the join request comes last, so that who hears it knows that the others stand."""
        wanted = {topics.PRESENCE, topics.HEARTBEATS, topics.inbox(self.name)}
        wanted.update(topic for capability in self._capabilities for topic in capability.topics)
        self._retransmission.heard = frozenset(wanted)
        return [*sorted(wanted), self._membership.join_request().topic]

    def _beat(self) -> list[Buffer]:
        """A heartbeat; called from the bus's heartbeat thread, reads only."""
        return self._publisher.heartbeat(self._tick, self._claims)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._tick += 1
            self._claims = self._publisher.latest([info.name for info in self.presence.members()])
            self._membership.sweep()
            self._blocked = bool(self.presence.lost_but_connected())
            self._retransmission.ask(self.presence.members(), self._now())

    def fault(self, sender: str, kind: str, why: str) -> None:
        """A peer has done something wrong: it is counted and logged, and whoever does so again and again is barred."""
        self._accounts.fault(sender, kind, why, self._now())

    def charge(self, payer: str, cost: Cost, amount: float = 1.0, *, proven: bool = True) -> bool:
        """Whether a peer may cause this now: beyond its budget it may not, and is named, and in the end barred."""
        return self._accounts.charge(payer, cost, amount, self._now(), proven=proven)

    def is_linked(self, name: str, incarnation: int) -> bool:
        """Whether this is the incarnation of a peer to which both directions are proven."""
        return self.presence.state(name) is PeerState.LINKED and self.presence.incarnation(name) == incarnation

    @property
    def faults(self) -> Mapping[str, int]:
        """How many faults each peer has been found guilty of, since the start; of the latest 1024 peers."""
        return self._accounts.faults()

    def _blame(self, name: str, kind: str, why: str) -> None:
        self.on_fault(name, kind, why)

    def _bar(self, name: str, why: str) -> None:
        """A peer that has broken the protocol again and again is not listened to for a while."""
        log.warning("%s is %s", name, why)
        if name != self.name:
            self._membership.bar(name, why)
            if self.run and self.spec.role != "monitor":  # which tells by itself
                note = f"{name} is {why}"[:200]
                self.publish(topics.PROGRESS, ProgressReport(phase=QUARANTINE, done=0, total=0, values={}, note=note))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _farewell(error: BaseException | None) -> str:
    """Why this node leaves, for the others."""
    if error is None:
        return "stopped"
    return "its disk is full" if disk_full(error) else type(error).__name__

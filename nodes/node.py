"""One member of a run: presence, numbering, repair and dispatch over a bus.

A node listens here and speaks by its `Voice`; what is said beyond presence and repair belongs to its capabilities
(`nodes.queries`, `nodes.roster`, `nodes.monitor`), each of which brings the topics it subscribes to and a literal
table of handlers. Everything here runs on the event loop and nothing blocks it. Refuses to know models.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType

from nodes.addresses import check_addresses
from nodes.bus import Bus
from nodes.capability import Capability, Handler
from nodes.gate import Gate
from nodes.spec import NodeSpec
from nodes.voice import Voice
from protocol import codec, topics
from protocol.codec import Buffer, Envelope
from protocol.errors import WireError
from protocol.limits import Limits
from protocol.messages import Message
from protocol.messages.presence import Goodbye, Heartbeat, Hello, PeerInfo, Welcome
from protocol.messages.repair import Gone, Resend, Resent
from protocol.messages.secrecy import Grant
from protocol.presence import Connect, Departed, Disconnect, Greet, Linked, Outcome, Presence
from protocol.secrecy import Sealed
from protocol.security import Open, Security
from protocol.sequence import Inbox

log = logging.getLogger(__name__)

SWEEP = 0.05
"""Seconds between two looks at what the passing of time brings."""

CROWD = 128 << 20
"""Bytes of large frames that may wait for the slowest subscriber before those who speak to all hold back."""

INTRODUCED = 64
"""Members that one hello names at most."""


class Node:
    """A member of a run; an async context that is on the bus from `__aenter__` to `__aexit__`.

    Attributes:
        counts: what was dropped or repaired, by kind, since the start.
    """

    def __init__(self, spec: NodeSpec, bus: Bus, limits: Limits | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.counts: Counter[str] = Counter()
        self.address = ""
        self.presence: Presence
        self._bus = bus
        self._incarnation = time.time_ns()
        self._security: Security = Sealed(spec.keys, self._incarnation) if spec.keys else Open()
        self._gate = Gate(self._security, self.counts, self.refused, self._bar, limits=limits or Limits())
        self._voice = Voice(bus, self._security, spec.name, self._incarnation, spec.encoding)
        self._voice.run = spec.run
        self._inbox = Inbox(patience=spec.timing.repair)
        self._tick = 0
        self._claims: dict[str, int] = {}
        self._greeted: dict[str, int] = {}
        self._heard: frozenset[str] = frozenset()
        self._capabilities: list[Capability] = []
        self._tasks = asyncio.TaskGroup()
        self._works: set[asyncio.Task[None]] = set()
        self._ends = False
        self._handlers: dict[type[Message], Handler] = {
            Hello: self._hello,
            Welcome: self._welcome,
            Heartbeat: self._heartbeat,
            Goodbye: self._goodbye,
            Resend: self._resend,
            Resent: self._resent,
            Gone: self._gone,
            Grant: self._grant,
        }

    @property
    def run(self) -> str:
        """The run it belongs to; a visitor that does not know it takes that of the first peer it hears."""
        return self._voice.run

    @property
    def sent(self) -> Mapping[str, int]:
        """Bytes of the messages that were published, by kind, frames and headers included, each counted once."""
        return self._voice.sent

    def add(self, capability: Capability) -> None:
        """Gives the node a capability; before it is entered."""
        self._capabilities.append(capability)
        self._handlers.update(capability.handlers)

    async def __aenter__(self) -> Node:
        """Binds, subscribes, calls the peers to join through, and begins to beat."""
        spec = self.spec
        check_addresses(spec)
        bound, pulse = await self._bus.open(spec.listen, self, spec.through)
        self.address = spec.advertise or bound
        me = PeerInfo(
            name=spec.name,
            incarnation=self._incarnation,
            role=spec.role,
            address=self.address,
            pulse=topics.pulse_address(spec.advertise) if spec.advertise else pulse,
        )
        timing = spec.timing
        self.presence = Presence(
            self._security.introduce(me),
            timing.silence,
            timing.broken,
            timing.hang,
            timing.heartbeat,
            alert=timing.alert,
        )
        self._bus.subscribe(self._subscriptions())
        for name, address in map(topics.door, spec.join):
            self._bus.connect(address, name)
        if self.run:
            self._bus.beat(self._beat, timing.heartbeat)
        await self._tasks.__aenter__()
        self.spawn(self._sweep(), "sweep")
        log.info("%s (%s) listens on %s", spec.name, spec.role, self.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Says goodbye and lets go of the bus; work that failed ends the node, with its error."""
        if self.run:
            self.publish(topics.PRESENCE, Goodbye(reason="stopped" if error is None else type(error).__name__))
        self._ends = True
        for work in self._works:
            work.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)  # the body has its own error, this is about the works
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

    def publish(self, topic: str, message: Message) -> None:
        """Says a message on a topic: numbered and kept for repair when its kind is. Never blocks.

        Its tensors now belong to the message: never write to them again.
        """
        self._voice.publish(topic, message)

    @property
    def crowded(self) -> bool:
        """Whether so much waits for a slow subscriber that nothing large should be said to all before it has gone."""
        return self._bus.queued() > CROWD

    @property
    def obstructed(self) -> bool:
        """Whether what is said to all still piles up for a peer that is gone: say it to each of the others instead."""
        return self._bus.stranded()

    def tell(self, name: str, message: Message) -> None:
        """Says a message to one peer's inbox."""
        self.publish(topics.inbox(name), message)

    def received(self, frames: Sequence[Buffer]) -> None:
        """The bus has brought a message."""
        self._hear(frames)

    def _hear(self, frames: Sequence[Buffer], *, again: bool = False) -> None:
        """Makes sure of a message and takes it; `again` for what a `Resent` carries."""
        heard = self._gate.read(frames, self._now(), again=again)
        if heard is None:
            return
        envelope, frames = heard
        if not self.run:
            self._voice.run = envelope.run
            self._bus.beat(self._beat, self.spec.timing.heartbeat)
        if envelope.run != self.run:
            self.refused("other run", f"{envelope.sender} speaks of run {envelope.run!r}, not {self.run!r}")
        elif envelope.sender != self.name:
            self._take(envelope, frames)

    def subscribed(self, topic: bytes, present: bool) -> None:
        """The bus has noticed that somebody began or ceased to hear us."""
        if not topic.startswith(topics.KNOCK.encode()):
            return
        try:
            knock = topics.parse_knock(topic)
        except WireError as error:
            self.refused("malformed", str(error))
            return
        if not self._security.knows(knock.name):
            self.refused("unknown key", f"{knock.name} knocks, whose key is not trusted here")
        elif present:
            self._follow(self.presence.knock(knock.name, knock.incarnation, knock.address, self._now()))
        else:
            self._follow(self.presence.breaks(knock.name, knock.incarnation))

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        self._ends |= not work.cancelled() and work.exception() is not None

    def _take(self, envelope: Envelope, frames: Sequence[Buffer]) -> None:
        """Hands a message to its handler: an unnumbered one at once, a numbered one once and from living peers."""
        message = envelope.message
        if isinstance(message, Resent):
            self.counts["resent"] += 1
            self._hear(codec.original(frames), again=True)
            return
        if message.numbered and not self._accept(envelope):
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            return
        try:
            handler(envelope, message)
        except Exception:  # what a peer says must not end this node, nor hold up the next message
            self.counts["failed"] += 1
            log.exception("%s from %s", message.kind, envelope.sender)

    def _accept(self, envelope: Envelope) -> bool:
        """Whether a numbered message is for us, from a living peer that has said hello, and new."""
        sender, said = envelope.sender, f"{envelope.message.kind} from {envelope.sender}"
        if envelope.topic not in self._heard:
            why = f"{said} on {envelope.topic}, which is not subscribed to here"
            self._gate.fault(sender, "unheard", why, self._now())
        elif not self.presence.current(sender, envelope.incarnation):
            self.refused("stranger", f"{said}, which is not a living member")
        elif not self._inbox.knows(sender, envelope.incarnation):
            self.counts["early"] += 1  # before its hello; what it has promised us comes again
        elif not self._inbox.accept(sender, envelope.topic, envelope.number, self._now()):
            self.counts["duplicate"] += 1
        else:
            return True
        return False

    def _hello(self, envelope: Envelope, hello: Hello) -> None:
        if (hello.peer.name, hello.peer.incarnation) != (envelope.sender, envelope.incarnation):
            why = f"{envelope.sender} introduced itself as {hello.peer.name}"
            self._gate.fault(envelope.sender, "malformed", why, self._now())
            return
        if hello.receiver != self._incarnation:
            self.counts["stale"] += 1  # meant for an earlier life of this node, or repeated by somebody else
            return
        if not self._security.vouched([hello.peer]):
            self.refused("malformed", f"{envelope.sender} introduced itself without its proof")
            return
        members = self._security.vouched(hello.members)
        if len(members) < len(hello.members):
            self.counts["unproven"] += 1  # hearsay of somebody whom we do not trust, or without that one's word
        self._follow(self.presence.hello(hello.peer, members, self._now()))
        if self.presence.current(envelope.sender, envelope.incarnation):
            self._inbox.start(envelope.sender, envelope.incarnation, self._relevant(hello.latest))
            self.tell(envelope.sender, Welcome(incarnation=envelope.incarnation))

    def _welcome(self, envelope: Envelope, welcome: Welcome) -> None:
        self._follow(self.presence.welcome(envelope.sender, envelope.incarnation, welcome.incarnation, self._now()))

    def _heartbeat(self, envelope: Envelope, beat: Heartbeat) -> None:
        now = self._now()
        self._follow(self.presence.heartbeat(envelope.sender, envelope.incarnation, beat.tick, now))
        living = self.presence.current(envelope.sender, envelope.incarnation)
        if living and self._inbox.knows(envelope.sender, envelope.incarnation):
            for topic, number in self._relevant(beat.latest).items():
                self._inbox.claim(envelope.sender, topic, number, now)

    def _goodbye(self, envelope: Envelope, goodbye: Goodbye) -> None:
        self._follow(self.presence.goodbye(envelope.sender, envelope.incarnation, goodbye.reason))

    def _resend(self, envelope: Envelope, request: Resend) -> None:
        """A peer has missed messages of ours."""
        self._voice.repeat(envelope.sender, request)

    def _resent(self, envelope: Envelope, message: Resent) -> None:
        """Unwrapped before dispatch, in `_take`."""

    def _gone(self, envelope: Envelope, gone: Gone) -> None:
        for number in self._inbox.gone(envelope.sender, gone.topic, gone.first, gone.last):
            self.refused("gone", f"{envelope.sender} no longer has {gone.topic} number {number}: it is lost")

    def _follow(self, outcomes: Iterable[Outcome]) -> None:
        """Does what the membership's state machine says."""
        for outcome in outcomes:
            match outcome:
                case Connect(text, name):
                    keeper, address = topics.door(text)
                    self._bus.connect(address, keeper or name)
                case Disconnect(text):
                    self._bus.disconnect(topics.door(text)[1])
                case Greet(name, incarnation):
                    self._greet(name, incarnation)
                case Linked(peer):
                    log.info("linked with %s (%s) at %s", peer.name, peer.role, peer.address)
                    for capability in self._capabilities:
                        capability.linked(peer)
                case Departed(peer, reason, left):
                    self._depart(peer, reason, left=left)

    def _greet(self, name: str, incarnation: int) -> None:
        """Says hello, in as many messages as it takes to name every member within the bounds of a header.

        A visitor that has not heard the run's name yet has nothing to say; the greeting falls due again.
        """
        if not self.run:
            return
        if self._security.grant() is not None and self._greeted.get(name) != incarnation:
            self._greeted[name] = incarnation
            self._renew()
        me, *others = self.presence.members()
        latest = self._voice.latest([name])
        for start in range(0, max(1, len(others)), INTRODUCED):
            named = tuple(others[start : start + INTRODUCED])
            self.tell(name, Hello(peer=me, receiver=incarnation, members=named, latest=latest))
        if name not in self.presence.linked():
            self._admit(name)

    def _depart(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        log.log(logging.INFO if left else logging.WARNING, "%s %s: %s", peer.name, "left" if left else "lost", reason)
        self._greeted.pop(peer.name, None)
        if not left:
            self._bus.strand()
        self._renew()
        for capability in self._capabilities:
            capability.departed(peer, reason, left=left)
        if left:
            self._inbox.forget(peer.name)
            self._voice.outbox.forget(topics.inbox(peer.name))

    def _renew(self) -> None:
        """The membership has changed: from now on its members, and nobody else, read what is said to all."""
        self._security.renew()
        for name in self.presence.linked():
            self._admit(name)

    def _admit(self, name: str) -> None:
        """Lets a peer read what is said to all."""
        grant = self._security.grant()
        if grant is not None:
            self.tell(name, grant)

    def _grant(self, envelope: Envelope, grant: Grant) -> None:
        self._security.granted(envelope.sender, envelope.incarnation, grant)

    def _subscriptions(self) -> list[str]:
        """The static subscriptions; the knock comes last, so that who hears it knows that the others stand."""
        wanted = {topics.PRESENCE, topics.PULSE, topics.inbox(self.name)}
        wanted.update(topic for capability in self._capabilities for topic in capability.topics)
        self._heard = frozenset(wanted)
        return [*sorted(wanted), topics.knock(self.name, self._incarnation, self.address)]

    def _relevant(self, latest: Mapping[str, int]) -> dict[str, int]:
        """The part of a peer's numbers that concerns topics subscribed to here."""
        return {topic: latest.get(topic, 0) for topic in self._heard}

    def _beat(self) -> list[Buffer]:
        """A heartbeat; called from the bus's heartbeat thread, reads only."""
        return self._voice.beat(self._tick, self._claims)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._tick += 1
            self._claims = self._voice.latest([info.name for info in self.presence.members()])
            now = self._now()
            self._follow(self.presence.sweep(now))
            for missing in self._inbox.due(now):
                self.counts["asked again"] += missing.last - missing.first + 1
                self._ask_again(missing.sender, missing.topic, missing.first, missing.last)

    def _ask_again(self, sender: str, topic: str, first: int, last: int) -> None:
        peer = next((info for info in self.presence.members() if info.name == sender), None)
        if peer is not None:
            self.tell(sender, Resend(topic=topic, incarnation=peer.incarnation, first=first, last=last))

    def refused(self, kind: str, why: str) -> None:
        """Counts what was dropped or turned away, and logs it, the first few of a kind and then every thousandth."""
        self.counts[kind] += 1
        if self.counts[kind] <= 5 or self.counts[kind] % 1000 == 0:
            log.warning("dropped (%s, %d so far): %s", kind, self.counts[kind], why)

    def _bar(self, name: str, why: str) -> None:
        """A peer that has broken the protocol again and again is not listened to for a while."""
        log.warning("%s is %s", name, why)
        if name != self.name:
            self._follow(self.presence.bar(name, why))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

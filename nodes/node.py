"""One member of a run: presence, numbering, repair and dispatch over a bus.

A node knows how to speak and listen; what is said beyond presence and repair belongs to its capabilities
(`nodes.queries`, `nodes.roster`, `nodes.monitor`), each of which brings the topics it subscribes to and a literal
table of handlers. Everything here runs on the event loop and nothing blocks it. Refuses to know models.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from nodes.bus import Bus
from nodes.errors import NodeError
from nodes.gate import Gate
from nodes.spec import NodeSpec
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
from protocol.sequence import Inbox, Outbox, runs

log = logging.getLogger(__name__)

Handler = Callable[[Envelope, Any], None]
"""Takes the envelope and its message, whose class is the handler's key in the table."""

SWEEP = 0.05
"""Seconds between two looks at what the passing of time brings."""

CROWD = 128 << 20
"""Bytes of large frames that may wait for the slowest subscriber before those who speak to all hold back."""

INTRODUCED = 64
"""Members that one hello names at most."""


class Capability(Protocol):
    """Something that a node can do beyond being there."""

    topics: tuple[str, ...]
    handlers: Mapping[type[Message], Handler]

    def linked(self, peer: PeerInfo) -> None:
        """Both directions to a peer are proven."""
        ...

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A peer is lost or has said goodbye."""
        ...


class Node:
    """A member of a run; an async context that is on the bus from `__aenter__` to `__aexit__`.

    Attributes:
        run: the run it belongs to; a visitor that does not know it takes that of the first peer it hears.
        counts: what was dropped or repaired, by kind, since the start.
        sent: bytes of the messages that were published, by their kind, frames and headers included, each counted once.
    """

    def __init__(self, spec: NodeSpec, bus: Bus, limits: Limits | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.run = spec.run
        self.counts: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.address = ""
        self.presence: Presence
        self._bus = bus
        self._incarnation = time.time_ns()
        self._security: Security = Sealed(spec.keys, self._incarnation) if spec.keys else Open()
        self._gate = Gate(self._security, self.counts, self.refused, self._bar, limits=limits or Limits())
        self._outbox = Outbox()
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

    def add(self, capability: Capability) -> None:
        """Gives the node a capability; before it is entered."""
        self._capabilities.append(capability)
        self._handlers.update(capability.handlers)

    async def __aenter__(self) -> Node:
        """Binds, subscribes, calls the peers to join through, and begins to beat."""
        spec = self.spec
        _check_addresses(spec)
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
        number = self._outbox.number(topic) if message.numbered else 0
        envelope = Envelope(topic, self.run, self.name, self._incarnation, number, message)
        frames = self._security.sign(codec.encode(envelope, self.spec.encoding))
        if number:
            self._outbox.keep(topic, number, frames, sum(map(len, frames)))
        leaving = self._security.close(frames)
        self.sent[message.kind] += sum(map(len, leaving))
        self._bus.publish(leaving)

    @property
    def crowded(self) -> bool:
        """Whether so much waits for a slow subscriber that nothing large should be said to all before it has gone."""
        return self._bus.queued() > CROWD

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
            self.run = envelope.run
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
        """A peer has missed messages of ours: send what is still kept, and name what is gone."""
        if request.incarnation != self._incarnation:
            return
        inbox, gone = topics.inbox(envelope.sender), []
        for number in range(request.first, request.last + 1):
            frames = self._outbox.find(request.topic, number)
            if frames is None:
                gone.append(number)
            else:
                again = codec.resent(frames, self.run, self.name, self._incarnation, inbox)
                self._bus.publish(self._security.close(self._security.sign(again)))
        for first, last in runs(gone):
            self.tell(envelope.sender, Gone(topic=request.topic, first=first, last=last))

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
        wanted = topics.inbox(name)
        latest = {topic: last for topic, last in self._outbox.latest.items() if topic == wanted or topic[:3] != "to/"}
        for start in range(0, max(1, len(others)), INTRODUCED):
            named = tuple(others[start : start + INTRODUCED])
            self.tell(name, Hello(peer=me, receiver=incarnation, members=named, latest=latest))
        if name not in self.presence.linked():
            self._admit(name)

    def _depart(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        log.log(logging.INFO if left else logging.WARNING, "%s %s: %s", peer.name, "left" if left else "lost", reason)
        self._greeted.pop(peer.name, None)
        self._renew()
        for capability in self._capabilities:
            capability.departed(peer, reason, left=left)
        if left:
            self._inbox.forget(peer.name)
            self._outbox.forget(topics.inbox(peer.name))

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
        beat = Heartbeat(tick=self._tick, latest=self._claims, clock=time.time())
        frames = codec.encode(Envelope(topics.PULSE, self.run, self.name, self._incarnation, 0, beat))
        return self._security.sign(frames)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._tick += 1
            self._claims = self._promised()
            now = self._now()
            self._follow(self.presence.sweep(now))
            for missing in self._inbox.due(now):
                self.counts["asked again"] += missing.last - missing.first + 1
                self._ask_again(missing.sender, missing.topic, missing.first, missing.last)

    def _promised(self) -> dict[str, int]:
        """The latest numbers of what is said to all and to the living, for the next heartbeats."""
        inboxes = {topics.inbox(info.name) for info in self.presence.members()}
        latest = self._outbox.latest.items()
        return {topic: number for topic, number in latest if topic in inboxes or not topic.startswith("to/")}

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


def _check_addresses(spec: NodeSpec) -> None:
    """Refuses what is no address, to be open to a network unsaid, and to announce what nobody can connect to."""
    for address in (
        *(topics.door(text)[1] for text in spec.join),
        *(address for address in (spec.advertise, spec.through) if address is not None),
    ):
        if not topics.is_address(address):
            raise NodeError(f"{address!r} is no address of a node: expected tcp://host:port or ipc://path")
    heard_at = spec.through or spec.listen
    if not (spec.keys or spec.insecure or topics.is_local(heard_at)):
        raise NodeError(f"{heard_at} is open to the network: give this node keys, or say --insecure if it may be")
    for text in (*spec.join, *([spec.through] if spec.through else [])) if spec.keys else ():
        if not topics.door(text)[0]:
            raise NodeError(f"whose key must who answers at {text} hold? With keys, say name@{text}")
    if spec.keys and spec.keys.own.relay:
        raise NodeError(f"the keys of {spec.keys.own.name} are those of a relay, which takes no part")
    if spec.keys and spec.keys.own.name != spec.name:
        raise NodeError(f"the keys are those of {spec.keys.own.name}, and this node is {spec.name}")
    if spec.advertise is None and spec.listen.startswith(("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:")):
        raise NodeError(f"{spec.listen} is no address that peers can connect to: say with --advertise what they can")

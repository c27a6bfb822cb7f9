"""The bus over ZeroMQ.

One XPUB that everybody may subscribe to, one SUB connected to every peer, and one PUB for heartbeats in a thread of
its own. The XPUB tells who subscribes and whose connection broke, which is how a newcomer is noticed and a death is
suspected within milliseconds. Sockets are read straight from the event loop, many messages a wake-up, without a
future per message as `zmq.asyncio` has it. Refuses to know what frames mean.

Source: libzmq's zmq_socket(3) on XPUB; zmq_getsockopt(3) on ZMQ_FD, whose edge-triggering is why every send is
followed by a look at ZMQ_EVENTS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import zmq

from nodes.errors import NodeError
from nodes.transport.addresses import bind
from nodes.transport.backlog import COPIED_BELOW, Backlog
from nodes.transport.connections import Connection, ConnectionGuard, settle
from nodes.transport.curve import FAILURES, OVERHEAD, CurveAuthenticator, user_id
from nodes.transport.interface import TransportListener
from nodes.transport.links import Links
from nodes.transport.sockets import Received, descriptor, readable, receive, require_free, send
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.security.budget import Cost
from protocol.security.keys import Keyring
from protocol.topics import heartbeat_address, inward_address, split_endpoint

log = logging.getLogger(__name__)

HIGH_WATER = 512
"""Messages queued per peer before PUB drops; what is dropped is asked for again. Of copied frames, so 128 MiB."""

HIGH_WATER_BYTES = 128 << 20
"""Bytes of large frames that wait for one peer, in its inbox, before more to it is dropped in the same way."""

LINGER_MS = 250
ZMTP_PING_MS, ZMTP_SILENCE_MS = 2000, 10_000
"""ZeroMQ's own pings, which find a connection that is open at one end only, and make it anew."""

BATCH = 64
"""Messages handled per wake-up before other tasks get their turn."""

BATCH_BYTES = 1 << 20
"""Bytes of them after which that turn has come, too: they are decrypted and verified."""

MAX_SUBSCRIPTION_BYTES = 1024
MAX_PORT_TRIES = 32
"""Free ports that are tried until the one beside it is free too."""


class ZmqTransport:
    """A `Transport` over ZeroMQ, tcp or ipc; with keys everybody on it is known and everything encrypted."""

    def __init__(self, limits: Limits | None = None, keys: Keyring | None = None) -> None:
        self._limits = limits or Limits()
        self._context = zmq.Context()
        self._out = self._context.socket(zmq.XPUB)
        self._in = self._context.socket(zmq.SUB)
        self._heartbeat_socket = self._context.socket(zmq.PUB)
        self._curve = CurveAuthenticator(self._context, keys, self._refused, self._charge) if keys else None
        self._links = Links(self._in, self._curve, lambda: self._soon(self._hear))
        self._inward: list[Links] = []  # to a relay
        self._guard: ConnectionGuard | None = None  # of the sockets that bind
        self._files: list[Path] = []
        self._backlog = Backlog()
        self._publishing = threading.RLock()  # held to use the XPUB and the backlog, which any thread may
        self._beating: threading.Thread | None = None
        self._stop = threading.Event()
        self._listener: TransportListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address = ""

    async def open(self, listen: str, listener: TransportListener, through: str | None = None) -> tuple[str, str]:
        """Binds the two publishing sockets, or connects them to a relay, and begins to hear."""
        for each in (self._out, self._in, self._heartbeat_socket):
            each.linger = 0 if each is self._in else LINGER_MS
            each.heartbeat_ivl, each.heartbeat_timeout = ZMTP_PING_MS, ZMTP_SILENCE_MS
            each.sndhwm = each.rcvhwm = HIGH_WATER
            each.copy_threshold = COPIED_BELOW
        self._out.maxmsgsize = self._heartbeat_socket.maxmsgsize = MAX_SUBSCRIPTION_BYTES
        self._in.maxmsgsize = self._limits.max_frame_bytes
        if self._curve is not None:
            self._in.maxmsgsize += OVERHEAD
            self._curve.configure_client(self._in)
            for publisher in (self._out, self._heartbeat_socket):
                (self._curve.configure_client if through else self._curve.serve)(publisher)
        self._listener, loop = listener, asyncio.get_running_loop()
        try:
            address, heartbeat = self._bind(listen, loop) if through is None else self._reach(through, loop)
        except NodeError:
            self._release()
            raise
        self._address = "" if through else address  # who shares its address with others hears them there
        self._loop = loop
        self._links.start(loop)
        self._loop.add_reader(descriptor(self._in), self._hear)
        self._loop.add_reader(descriptor(self._out), self._notice)
        if self._curve is not None:
            self._curve.listen(self._loop)
        return address, heartbeat

    def _reach(self, relay: str, loop: asyncio.AbstractEventLoop) -> tuple[str, str]:
        """Publishes at the addresses of a relay, which with keys must be the one that is named."""
        addresses = relay, heartbeat_address(relay)
        for publisher, address in zip((self._out, self._heartbeat_socket), addresses, strict=True):
            name, inward = split_endpoint(inward_address(address))
            if self._curve is not None and not self._curve.knows(name, inward):
                raise NodeError(f"the key of the relay at {relay} is not trusted here: `fednet keys trust` it")
            self._inward.append(Links(publisher, self._curve, lambda: self._soon(self._notice)))
            self._inward[-1].start(loop)
            self._inward[-1].connect(inward, name)
        return addresses

    def _bind(self, listen: str, loop: asyncio.AbstractEventLoop) -> tuple[str, str]:
        """Binds messages to `listen` and heartbeats beside it: the next port, or the path with `.heartbeat`."""

        def later(tell: Callable[..., None], *about: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, *about)

        failures = (FAILURES, partial(later, self._curve.server_failed)) if self._curve is not None else ()
        self._guard = ConnectionGuard(
            (self._out, self._heartbeat_socket), partial(later, self._refused), partial(later, self._settle), *failures
        )
        spare = MAX_PORT_TRIES if listen.endswith(":0") else 1
        while True:
            bound = self._claim(self._out, listen)
            try:
                return bound, self._claim(self._heartbeat_socket, heartbeat_address(bound))
            except NodeError:
                spare -= 1
                if not spare:
                    raise
                self._out.unbind(bound)

    def _claim(self, publisher: zmq.Socket[bytes], address: str) -> str:
        """Binds, and returns the address with the port that was found; raises NodeError."""
        path = Path(address.removeprefix("ipc://")) if address.startswith("ipc://") else None
        if path is not None:
            require_free(path)
        bind(publisher, address)
        if path is not None:
            self._files.append(path)
        return publisher.getsockopt_string(zmq.LAST_ENDPOINT)

    def subscribe(self, topics: Iterable[str]) -> None:
        """Hears these topics of every peer."""
        for topic in topics:
            self._in.subscribe(topic)
        self._soon(self._hear)  # the operation may have swallowed a signal of the descriptor

    def trust(self, keys: Keyring, gone: Collection[str]) -> None:
        """From now on these keys are let in and no others; the connections of those who are gone end."""
        if self._curve is None:
            return
        self._curve.trust(keys)
        for links in (self._links, *self._inward):
            links.drop(gone)
        if gone and self._guard is not None:
            self._guard.end(gone)

    def connect(self, address: str, name: str = "") -> None:
        """Hears the peer at this address; with keys only if it is this one."""
        if address != self._address:
            self._links.connect(address, name)

    def disconnect(self, address: str, name: str = "") -> None:
        """Hears this peer there no more."""
        self._links.disconnect(address, name)

    def publish(self, frames: Sequence[Buffer]) -> None:
        """Sends to the subscribers, from any thread; a full queue drops, which the receivers' numbering notices."""
        with self._publishing:
            if self._loop is None:
                return  # closed, and a computation that has not ended yet reports
            if self._backlog.is_full(frames, HIGH_WATER_BYTES):
                return
            send(self._out, self._backlog.hold(frames))
            if readable(self._out):
                self._loop.call_soon_threadsafe(self._notice)

    def queued(self, topic: str | None = None) -> int:
        """Bytes of large frames that wait; small ones are copied, and `HIGH_WATER` bounds them."""
        with self._publishing:
            return self._backlog.bytes(topic)

    def strand(self) -> None:
        """What waits now, waits for somebody who is gone."""
        with self._publishing:
            self._backlog.strand()

    def beat(self, make: Callable[[], Sequence[Buffer]], every: float) -> None:
        """Publishes heartbeats from a thread of their own, so that nothing on the loop can hold them up."""
        self._beating = threading.Thread(target=self._beats, args=(make, every), name="heartbeat", daemon=True)
        self._beating.start()

    def _beats(self, make: Callable[[], Sequence[Buffer]], every: float) -> None:
        while not self._stop.is_set():
            try:
                self._heartbeat_socket.send_multipart(make(), zmq.NOBLOCK)
            except Exception:  # a heartbeat that cannot be said is one that is missed; the next may be fine
                log.exception("heartbeat")
            self._stop.wait(every)
        self._heartbeat_socket.close()

    async def close(self) -> None:
        """Stops the heartbeat and closes every socket, giving queued messages `LINGER_MS` to leave."""
        if self._loop is not None:
            self._loop.remove_reader(descriptor(self._in))
            self._loop.remove_reader(descriptor(self._out))
            for links in (self._links, *self._inward):
                links.stop()
            if self._curve is not None:
                self._curve.stop_listening()
            with self._publishing:
                self._loop = None
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        for links in (self._links, *self._inward):
            links.close()
        self._in.close(linger=0)
        self._out.close()
        self._heartbeat_socket.close()
        if self._curve is not None:
            self._curve.close()
        self._context.term()
        while self._files:  # ZeroMQ leaves them behind
            self._files.pop().unlink(missing_ok=True)

    def _hear(self) -> None:
        """Hands on what has come, and comes back when there is more than one turn's worth."""
        if self._loop is None or self._listener is None:
            return
        message, taken, size = receive(self._in), 1, 0
        while message:
            size += sum(map(len, message.frames))
            following: Received | None = None  # received at once: `readable` takes it out of its connection
            if taken < BATCH and size < BATCH_BYTES and readable(self._in):
                following, taken = receive(self._in), taken + 1
            origin = self._links.origin(message.first)
            self._listener.received(message.frames, origin)  # may disconnect, or wake a thread, which finds nothing
            message = following
        if taken == BATCH or size >= BATCH_BYTES:
            self._soon(self._hear)

    def _notice(self) -> None:
        """Hands on who has subscribed or gone.

        All that has come is granted first: what the listener answers to a join request is for a topic beside it.
        """
        if self._loop is None or self._listener is None:
            return
        commands: list[tuple[bytes, str]] = []
        with self._publishing:
            while len(commands) < BATCH and readable(self._out):
                event = self._out.recv(zmq.NOBLOCK, copy=False)
                command, name = event.bytes, user_id(event) if self._curve else ""
                if command[:1] in {b"\x00", b"\x01"} and self._grants(event, name):
                    commands.append((command, name))
            more = readable(self._out)
        for command, name in commands:
            self._listener.subscribed(command[1:], command[:1] == b"\x01", name)
        if more:
            self._soon(self._notice)

    def _grants(self, event: zmq.Frame, name: str) -> bool:
        """Whether to hear of a peer's subscription; those that come through a relay are the relay's to judge."""
        if self._curve is None or self._guard is None:
            return True
        return (not name or self._guard.pays(event, name, self._charge)) and self._curve.admits(self._out, event)

    def _charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        """Whether a peer may cause this now."""
        return self._listener is None or self._listener.charge(payer, cost, amount)

    def _settle(self, connection: Connection) -> None:
        settle(connection, self._charge)

    def _refused(self, kind: str, why: str) -> None:
        if self._listener is not None:
            self._listener.refused(kind, why)

    def _soon(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon(callback)

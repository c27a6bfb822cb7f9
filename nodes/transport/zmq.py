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
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import zmq

from nodes.errors import NodeError
from nodes.transport.addresses import bind, is_named, needs_ipv6
from nodes.transport.backlog import Backlog
from nodes.transport.curve import OVERHEAD, CurveAuthenticator
from nodes.transport.interface import TransportListener
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.security.keys import Keyring
from protocol.topics import heartbeat_address, inward_address, split_endpoint

log = logging.getLogger(__name__)

HIGH_WATER = 512
"""Messages queued per peer before PUB drops; what is dropped is asked for again."""

LINGER_MS = 250
ZMTP_PING_MS, ZMTP_SILENCE_MS = 2000, 10_000
"""ZeroMQ's own pings, which find a connection that is open at one end only, and make it anew."""

RECONNECT_MS = 50, 1000
"""Between two attempts to reach a peer, at first and at most."""

BATCH = 64
"""Messages handled per wake-up before other tasks get their turn."""

MAX_SUBSCRIPTION_BYTES = 1024
MAX_PORT_TRIES = 32
"""Free ports that are tried until the one beside it is free too."""


def _descriptor(of: zmq.Socket[bytes]) -> int:
    return int(of.getsockopt(zmq.FD))


# Operations on pyzmq's flag enums cost microseconds for every message: plain numbers do not.
_EVENTS, _POLLIN, _NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def _readable(of: zmq.Socket[bytes]) -> bool:
    return bool(int(of.get(_EVENTS)) & _POLLIN)


def _send(to: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """Sends a message without copying its frames."""
    for frame in frames[:-1]:
        to.send(frame, _NOBLOCK_MORE, copy=False)
    to.send(frames[-1], _NOBLOCK, copy=False)


def _receive(of: zmq.Socket[bytes]) -> list[Buffer]:
    """The frames of the next message, in ZeroMQ's own memory; none if there is no message."""
    try:
        frame = of.recv(_NOBLOCK, copy=False)
    except zmq.Again:
        return []
    frames: list[Buffer] = [frame.buffer]
    while frame.more:
        frame = of.recv(_NOBLOCK, copy=False)
        frames.append(frame.buffer)
    return frames


def _require_free(path: Path) -> None:
    """Refuses a path on which somebody listens: ZeroMQ would take it away from them without a word."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise NodeError(f"cannot listen on ipc://{path}: {why}; choose another address") from error


class ZmqTransport:
    """A `Transport` over ZeroMQ, tcp or ipc; with keys everybody on it is known and everything encrypted."""

    def __init__(self, limits: Limits | None = None, keys: Keyring | None = None) -> None:
        self._limits = limits or Limits()
        self._context = zmq.Context()
        self._out = self._context.socket(zmq.XPUB)
        self._in = self._context.socket(zmq.SUB)
        self._heartbeat_socket = self._context.socket(zmq.PUB)
        self._curve = CurveAuthenticator(self._context, keys, self._refused, self._renew) if keys else None
        self._connected: dict[str, str] = {}
        self._inward: dict[str, tuple[zmq.Socket[bytes], str]] = {}
        self._files: list[Path] = []
        self._backlog = Backlog()
        self._publishing = threading.Lock()  # held to use the XPUB and the backlog, which any thread may
        self._beating: threading.Thread | None = None
        self._stop = threading.Event()
        self._listener: TransportListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address = ""

    async def open(self, listen: str, listener: TransportListener, through: str | None = None) -> tuple[str, str]:
        """Binds the two publishing sockets, or connects them to a relay, and begins to hear."""
        for each in (self._out, self._in, self._heartbeat_socket):
            each.linger = LINGER_MS
            each.heartbeat_ivl, each.heartbeat_timeout = ZMTP_PING_MS, ZMTP_SILENCE_MS
            each.sndhwm = each.rcvhwm = HIGH_WATER
        self._out.maxmsgsize = self._heartbeat_socket.maxmsgsize = MAX_SUBSCRIPTION_BYTES
        self._in.maxmsgsize = self._limits.max_frame_bytes
        if self._curve is not None:
            self._in.maxmsgsize += OVERHEAD
            self._curve.configure_client(self._in)
            for publisher in (self._out, self._heartbeat_socket):
                (self._curve.configure_client if through else self._curve.serve)(publisher)
        self._in.reconnect_ivl, self._in.reconnect_ivl_max = RECONNECT_MS
        try:
            address, heartbeat = self._bind(listen) if through is None else self._reach(through)
        except NodeError:
            self._release()
            raise
        self._address = "" if through else address  # who shares its address with others hears them there
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._loop.add_reader(_descriptor(self._in), self._hear)
        self._loop.add_reader(_descriptor(self._out), self._notice)
        if self._curve is not None:
            self._curve.listen(self._loop)
        return address, heartbeat

    def _reach(self, relay: str) -> tuple[str, str]:
        """Publishes at the addresses of a relay, which with keys must be the one that is named."""
        addresses = relay, heartbeat_address(relay)
        for publisher, address in zip((self._out, self._heartbeat_socket), addresses, strict=True):
            name, inward = split_endpoint(inward_address(address))
            publisher.reconnect_ivl, publisher.reconnect_ivl_max = RECONNECT_MS
            if self._curve is not None and not self._curve.expect(publisher, inward, name):
                raise NodeError(f"the key of the relay at {relay} is not trusted here: `fednet keys trust` it")
            self._inward[inward] = publisher, name
            publisher.ipv6 = needs_ipv6(inward)
            publisher.connect(inward)
        return addresses

    def _bind(self, listen: str) -> tuple[str, str]:
        """Binds messages to `listen` and heartbeats beside it: the next port, or the path with `.heartbeat`."""
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
            _require_free(path)
        bind(publisher, address)
        if path is not None:
            self._files.append(path)
        return publisher.getsockopt_string(zmq.LAST_ENDPOINT)

    def subscribe(self, topics: Iterable[str]) -> None:
        """Hears these topics of every peer."""
        for topic in topics:
            self._in.subscribe(topic)
        self._soon(self._hear)  # the operation may have swallowed a signal of the descriptor

    def connect(self, address: str, name: str = "") -> None:
        """Hears the peer at this address; with keys only if it is this one."""
        if self._curve is None:
            name = ""
        if address == self._address or self._connected.get(address) == name:
            return
        if self._curve is not None and not self._curve.expect(self._in, address, name):
            return
        self.disconnect(address)
        self._connected[address] = name
        if is_named(address) and self._loop is not None:
            looked_up = self._loop.run_in_executor(None, needs_ipv6, address)
            looked_up.add_done_callback(lambda found: self._hear_at(address, name, ipv6=found.result()))
        else:
            self._hear_at(address, name, ipv6=needs_ipv6(address))

    def _hear_at(self, address: str, name: str, *, ipv6: bool) -> None:
        """Connects, once it is known how, unless that is no longer wanted."""
        if self._loop is None or self._connected.get(address) != name:
            return
        if self._curve is not None and not self._curve.expect(self._in, address, name):
            return
        try:
            self._in.ipv6 = ipv6
            self._in.connect(address)
        except zmq.ZMQError as error:  # what a peer says of a third one must not end this node
            log.warning("cannot connect to %s: %s", address, error.strerror)
            del self._connected[address]
            return
        self._soon(self._hear)  # the operation may have swallowed a signal of the descriptor

    def disconnect(self, address: str) -> None:
        """Hears it no more."""
        if address in self._connected:
            del self._connected[address]
            with contextlib.suppress(zmq.ZMQError):
                self._in.disconnect(address)

    def publish(self, frames: Sequence[Buffer]) -> None:
        """Sends to the subscribers, from any thread; a full queue drops, which the receivers' numbering notices."""
        with self._publishing:
            if self._loop is None:
                return  # closed, and a computation that has not ended yet reports
            _send(self._out, self._backlog.hold(frames))
            if _readable(self._out):
                self._loop.call_soon_threadsafe(self._notice)

    def queued(self) -> int:
        """Bytes of large frames that wait; small ones are copied, and `HIGH_WATER` bounds them."""
        with self._publishing:
            return self._backlog.bytes()

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
            self._loop.remove_reader(_descriptor(self._in))
            self._loop.remove_reader(_descriptor(self._out))
            if self._curve is not None:
                self._curve.stop_listening()
            with self._publishing:
                self._loop = None
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
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
        message, taken = _receive(self._in), 1
        while message:
            following: list[Buffer] = []  # received at once: `_readable` takes its first frame out of its connection
            if taken < BATCH and _readable(self._in):
                following, taken = _receive(self._in), taken + 1
            self._listener.received(message)  # may disconnect, or wake a thread, which finds nothing left to do here
            message = following
        if taken == BATCH:
            self._soon(self._hear)

    def _notice(self) -> None:
        """Hands on who has subscribed or gone.

        All that has come is granted first: what the listener answers to a join request is for a topic beside it.
        """
        if self._loop is None or self._listener is None:
            return
        commands: list[bytes] = []
        with self._publishing:
            while len(commands) < BATCH and _readable(self._out):
                event = self._out.recv(_NOBLOCK, copy=False)
                command = event.bytes
                if command[:1] in {b"\x00", b"\x01"} and self._grants(event):
                    commands.append(command)
            more = _readable(self._out)
        for command in commands:
            self._listener.subscribed(command[1:], command[:1] == b"\x01")
        if more:
            self._soon(self._notice)

    def _grants(self, event: zmq.Frame) -> bool:
        """Whether to hear of a subscription; those that come through a relay are the relay's to judge."""
        return self._curve is None or not self._address or self._curve.admits(self._out, event)

    def _renew(self, address: str) -> None:
        """Connects again, in a moment, to an address that ZeroMQ has given up."""
        if self._loop is not None:
            self._loop.call_later(RECONNECT_MS[1] / 1000, self._connect_again, address)

    def _connect_again(self, address: str) -> None:
        if self._loop is None or self._curve is None:
            return
        if address in self._inward:
            publisher, name = self._inward[address]
            if self._curve.expect(publisher, address, name):
                publisher.disconnect(address)
                publisher.connect(address)
        elif address in self._connected:
            name = self._connected[address]
            self.disconnect(address)
            self.connect(address, name)

    def _refused(self, kind: str, why: str) -> None:
        if self._listener is not None:
            self._listener.refused(kind, why)

    def _soon(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon(callback)

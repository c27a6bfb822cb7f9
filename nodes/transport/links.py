"""The connections that a socket makes: to every address for those who say that they are there, one after the other.

An address is a claim, and anybody can make it for any address. So a connection belongs to an address and a name: with
keys it leads to whoever proves the key of that name, and where several names claim one address, ZeroMQ has one
connection to it. Whoever has proven its key keeps that; until then the latest claim is tried first, and after a
handshake that fails the next one. No claim ends another one's, and a connection lasts as long as any claim to its
address. Without keys there is nothing to prove: all that claim an address share its connection.

libzmq gives an address up for good where the other side turns us away or a byte was changed on the way (its issue
4196): such a connection is made anew.

Source: zmq_socket_monitor(3); zmq_msg_get(3) on ZMQ_SRCFD, which names the connection that a message came by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

import zmq
from zmq.utils.monitor import parse_monitor_message

from nodes.transport.addresses import is_named, needs_ipv6
from nodes.transport.curve import FAILURES, CurveAuthenticator
from nodes.transport.sockets import descriptor, readable, source

log = logging.getLogger(__name__)

RECONNECT_MS = 50, 1000
"""Between two attempts to reach a peer, at first and at most."""

PAUSE = 0.1
"""Seconds from the end of a connection to the next one to its address, so that what is still told is of the old one."""

_EVENTS = FAILURES | int(zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)


class Links:
    """The connections of one socket, made on the event loop.

    Args:
        socket: that connects.
        curve: proves who is there; None without keys.
        changed: called after every change, which may have swallowed a signal of the socket's descriptor.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], curve: CurveAuthenticator | None, changed: Callable[[], None]
    ) -> None:
        self._socket = socket
        self._curve = curve
        self._changed = changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._claims: dict[str, list[str]] = {}  # by address the names that claim it, first whom the connection is for
        self._proven: set[str] = set()
        self._paused: set[str] = set()
        self._connections: dict[int, str] = {}
        self._monitor = None if curve is None else socket.get_monitor_socket(_EVENTS)
        socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to connect, and to hear of handshakes."""
        self._loop = loop
        if self._monitor is not None:
            loop.add_reader(descriptor(self._monitor), self._look)
            self._look()  # ZeroMQ wakes only a reader that has found nothing before

    def stop(self) -> None:
        """Connects no more."""
        if self._loop is not None and self._monitor is not None:
            self._loop.remove_reader(descriptor(self._monitor))
        self._loop = None

    def close(self) -> None:
        """Lets go of the monitor's socket."""
        if self._monitor is not None:
            self._monitor.close(linger=0)

    def connect(self, address: str, name: str) -> None:
        """A peer claims to be at an address; with keys it will have to prove it. Idempotent."""
        if self._curve is not None and not self._curve.knows(name, address):
            return
        names = self._claims.setdefault(address, [])
        if name in names:
            return
        if names == [""]:  # nobody knew who is there
            names[0] = name
            return
        names.append(name)
        if len(names) == 1:
            self._dial(address)
        elif self._curve is not None and address not in self._proven:
            self._turn_to(address, name, PAUSE)

    def disconnect(self, address: str, name: str) -> None:
        """A peer is there no more; idempotent."""
        names = self._claims.get(address, [])
        if name not in names:
            return
        first = names[0] == name
        names.remove(name)
        if not names:
            del self._claims[address]
            self._hang_up(address)
        elif first and self._curve is not None:
            self._turn_to(address, names[0], PAUSE)

    def drop(self, names: Collection[str]) -> None:
        """None of these is heard any more, wherever it claims to be."""
        for address, claimed in list(self._claims.items()):
            for name in set(claimed).intersection(names):
                self.disconnect(address, name)

    def origin(self, message: zmq.Frame) -> str:
        """The peer that has proven its key at the other end of the connection that a message came by.

        Empty where nobody has, and for a relay, which forwards what others say.
        """
        if self._curve is None:
            return ""
        connection = source(message)
        if connection not in self._connections:
            self._look()
        names = self._claims.get(self._connections.get(connection, ""))
        return names[0] if names and self._curve.is_member(names[0]) else ""

    def _turn_to(self, address: str, name: str, pause: float) -> None:
        """From now on the connection to an address is for this name; after a pause it is made anew."""
        self._claims[address].sort(key=lambda each: each != name)
        self._hang_up(address)
        if address not in self._paused and self._loop is not None:
            self._paused.add(address)
            self._loop.call_later(pause, self._go_on, address)

    def _go_on(self, address: str) -> None:
        self._look()  # what is told by now is of connections before
        self._paused.discard(address)
        if address in self._claims:
            self._dial(address)

    def _dial(self, address: str) -> None:
        if is_named(address) and self._loop is not None:
            looked_up = self._loop.run_in_executor(None, needs_ipv6, address)
            looked_up.add_done_callback(lambda found: self._dial_at(address, ipv6=found.result()))
        else:
            self._dial_at(address, ipv6=needs_ipv6(address))

    def _dial_at(self, address: str, *, ipv6: bool) -> None:
        """Connects, once it is known how, unless that is no longer wanted; twice is once for ZeroMQ."""
        names = self._claims.get(address)
        if self._loop is None or not names or address in self._paused:
            return
        if self._curve is not None:
            self._curve.expect(self._socket, address, names[0])
        try:
            self._socket.ipv6 = ipv6
            self._socket.connect(address)
        except zmq.ZMQError as error:  # what a peer says of a third one must not end this node
            log.warning("cannot connect to %s: %s", address, error.strerror)
            del self._claims[address]
            return
        self._changed()

    def _hang_up(self, address: str) -> None:
        self._proven.discard(address)
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(address)

    def _look(self) -> None:
        """Takes notice of what has happened to connections."""
        while self._loop is not None and self._monitor is not None and readable(self._monitor):
            occurrence = parse_monitor_message(self._monitor.recv_multipart())
            address = occurrence["endpoint"].decode("ascii", "replace")
            match occurrence["event"]:
                case zmq.EVENT_CONNECTED:
                    self._connections[int(occurrence["value"])] = address
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._proven.update({address} - self._paused)
                case event:
                    self._failed(address, event)

    def _failed(self, address: str, event: int) -> None:
        """A handshake has failed: the next claim is tried; ZeroMQ itself tries a lone one again, mostly."""
        assert self._curve is not None  # noqa: S101 - only with keys there are handshakes to be heard of
        self._curve.client_failed(address, event)
        names = self._claims.get(address)
        if not names or address in self._paused:
            return
        self._proven.discard(address)
        if len(names) > 1:
            names.append(names.pop(0))
            self._turn_to(address, names[0], PAUSE)
        elif event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._turn_to(address, names[0], RECONNECT_MS[1] / 1000)

"""The connections that others have made to a node's or relay's sockets: few enough, and each at somebody's expense.

A connection takes a descriptor before anybody knows whose it is. So whoever does not finish its handshake within
`HANDSHAKE_MS` is disconnected by ZeroMQ, no address has more connections than its budget allows, and the last
descriptors of the process are a reserve for its files and its own connections. All of this is judged by a thread of
its own, which nothing on the event loop can hold up: descriptors are taken by the thousand in a second.

Once a trusted key is proven, its owner pays for its connections and for every command on them (`ConnectionGuard.pays`).
Refuses to know what a command says. An address is only slowed down, never quarantined: many may share one.

Source: zmq_socket_monitor(3); zmq_msg_get(3) on ZMQ_SRCFD, which names the connection that a message came by.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.security.budget import ALLOWANCES, Allowance, Budget, Cost, TokenBucket

log = logging.getLogger(__name__)

HANDSHAKE_MS = 5000
"""From a connection to the end of its handshake, at most."""

RESERVE = 256
"""Descriptors that connections of others do not take, or a quarter of all where there are few."""

MAX_DESCRIPTORS = 65536
"""The soft limit of descriptors is raised to this, or to the hard limit if that is lower."""

TOLD = Allowance(rate=20, burst=100)
"""Of what is refused, how much is told."""

_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED

Charge = Callable[[str, Cost, float], bool]
"""Whether a peer may cause so much of a cost now; a negative amount is given back."""


@dataclass(eq=False)
class Connection:
    """A connection that another process has made.

    Attributes:
        descriptor: its number in this process.
        peer: the other end, as the operating system names it.
        counted: whether it is on the budget of its address.
        name: the owner of the key that it has proven; empty before it has said anything.
        commands: how many have come by it.
    """

    descriptor: int
    peer: object
    counted: bool = False
    name: str = ""
    commands: int = field(default=0)

    @property
    def address(self) -> str:
        """Who is one and the same for the budget: an IPv4 address, a /64 of IPv6, or this machine."""
        if not isinstance(self.peer, tuple):
            return "this machine"
        host = str(self.peer[0]).partition("%")[0]
        return str(ip_network((IPv6Address(host), 64), strict=False)) if ":" in host else host

    def end(self) -> None:
        """Hangs up, unless its descriptor belongs to another connection by now; ZeroMQ then clears it away."""
        with contextlib.suppress(OSError), _borrowed(self.descriptor) as other_end:
            if other_end.getpeername() == self.peer:
                other_end.shutdown(socket.SHUT_RDWR)


class ConnectionGuard:
    """Watches sockets that bind, in a thread of its own, until their context ends.

    Args:
        sockets: that will bind.
        refused: told why a connection was ended, a word to count by and why; in its thread, and not without end.
        closed: told of each connection that has ended and whose owner is known; in its thread.
        failures: other events of ZeroMQ's monitors that are of interest.
        failed: told of them, address and event; in its thread, and not without end.

    Attributes:
        connections: those that stand, by descriptor.
    """

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[bytes]],
        refused: Callable[[str, str], None],
        closed: Callable[[Connection], None],
        failures: int = 0,
        failed: Callable[[str, int], None] = lambda _address, _event: None,
    ) -> None:
        self.connections: dict[int, Connection] = {}
        self._refused, self._closed = refused, closed
        self._failures, self._failed = failures, failed
        self._told = TokenBucket(TOLD, time.monotonic())
        self._bar = connection_limit(raise_descriptor_limit())
        each = min(ALLOWANCES[Cost.DESCRIPTORS].burst, self._bar // 2)
        self._budget = Budget({**ALLOWANCES, Cost.DESCRIPTORS: Allowance(0, each)})
        self._monitors = [each.get_monitor_socket(_EVENTS | self._failures) for each in sockets]
        for publisher in sockets:
            publisher.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        threading.Thread(target=self._watch, name="connections", daemon=True).start()

    def pays(self, event: zmq.Frame, name: str, charge: Charge) -> bool:
        """Charges a command that came to a socket to the peer whose key its connection has proven.

        Args:
            event: the command.
            name: the owner of the key.
            charge: its budget.

        Returns:
            Whether it affords it; if not, its connection is ended.
        """
        connection = self.connections.get(int(event.get(zmq.SRCFD)))
        if connection is None:
            return True  # it has ended, or is so new that its thread has not noticed it yet
        affords = True
        if not connection.name:
            affords = charge(name, Cost.CONNECTIONS, 1)
            connection.name = name if affords else ""
        if affords and (affords := charge(name, Cost.SUBSCRIPTIONS, 1)):
            connection.commands += 1
        if not affords:
            connection.end()
        return affords

    def end(self, names: Collection[str]) -> None:
        """Ends the connections of these peers, and those of nobody knows whom yet: who may, comes again at once."""
        for connection in list(self.connections.values()):
            if not connection.name or connection.name in names:
                connection.end()

    def _watch(self) -> None:
        poller = zmq.Poller()
        for monitor in self._monitors:
            poller.register(monitor, zmq.POLLIN)
        try:
            while True:
                for monitor, _ in poller.poll():
                    self._handle(parse_monitor_message(monitor.recv_multipart()))
        except zmq.ContextTerminated:
            log.debug("connections are watched no more")
        finally:
            for monitor in self._monitors:
                monitor.close(linger=0)

    def _handle(self, occurrence: Mapping[str, object]) -> None:
        kind, value = int(occurrence["event"]), int(occurrence["value"])  # type: ignore[call-overload]
        if kind == zmq.EVENT_ACCEPTED:
            self._accepted(value)
        elif kind == zmq.EVENT_DISCONNECTED:
            self._disconnected(value)
        elif kind & self._failures and self._told.take(1, time.monotonic()):
            address = occurrence["endpoint"]
            self._failed(address.decode("ascii", "replace") if isinstance(address, bytes) else "", kind)

    def _accepted(self, descriptor: int) -> None:
        peer: object = None
        with contextlib.suppress(OSError), _borrowed(descriptor) as other_end:
            peer = other_end.getpeername()
        connection = self.connections[descriptor] = Connection(descriptor, peer)
        if why := self._objection(connection):
            connection.end()
            if self._told.take(1, time.monotonic()):
                self._refused("crowded", why)

    def _objection(self, connection: Connection) -> str:
        """Why a new connection must end; empty if it may stand."""
        address, now = connection.address, time.monotonic()
        if connection.descriptor >= self._bar:
            return f"a connection from {address}: only the reserve of descriptors is left"
        if not self._budget.charge(address, Cost.ACCEPTED, 1, now):
            return f"{address} connects more often than {ALLOWANCES[Cost.ACCEPTED].rate:.0f} times a second"
        if not self._budget.charge(address, Cost.DESCRIPTORS, 1, now):
            return f"{address} has as many connections as one address may have"
        connection.counted = True
        return ""

    def _disconnected(self, descriptor: int) -> None:
        connection = self.connections.pop(descriptor, None)
        if connection is not None:
            if connection.counted:
                self._budget.charge(connection.address, Cost.DESCRIPTORS, -1, time.monotonic())
            if connection.name:
                self._closed(connection)


def settle(connection: Connection, charge: Charge) -> None:
    """Gives back to its peer what a connection has cost that has ended."""
    if connection.name:
        charge(connection.name, Cost.CONNECTIONS, -1)
        charge(connection.name, Cost.SUBSCRIPTIONS, -connection.commands)


def connection_limit(descriptors: int) -> int:
    """Descriptors below which connections of others must lie, of so many in all."""
    return descriptors - min(RESERVE, descriptors // 4)


def allowed_descriptors() -> int:
    """How many descriptors this process may have once its soft limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    return most if soft == resource.RLIM_INFINITY else max(soft, most)


def raise_descriptor_limit() -> int:
    """Raises the soft limit of this process's descriptors as far as it may; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = allowed_descriptors()
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems allow less than they say
        return soft
    return wanted


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A descriptor of ZeroMQ's as a socket, which is left open; OSError where there is none any more."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()

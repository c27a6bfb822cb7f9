"""A relay: the way for peers that can only connect outwards, through a process that everybody can reach.

Whoever cannot be reached connects its publishers to the relay instead of binding them, and gives the relay's address as
its own; the others hear it there as they would hear it at an address of its own. Subscriptions travel the other way,
the join requests among them, so that the handshake, the heartbeats and the loss of a peer need no word about relays:
the two ends of every conversation meet as if there were none. Four sockets: where messages and heartbeats go out, on
the address and beside it as at every node, and where they come in, two ports further on. Once too many bytes wait for a
slow subscriber, no more messages are taken in from anybody until it has caught up or its connection is given up;
heartbeats go their own way.

Reads no frames and takes no part in a run. Without keys every peer that can reach it can publish through it; with keys
only trusted peers can, each at the expense of its budget, and what it forwards is encrypted end to end. A relay's key
authenticates its address and is no member's key. Its log is bounded, whoever connects.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import zmq

from nodes.accounts import Accounts
from nodes.errors import NodeError
from nodes.refusals import Refusals
from nodes.transport.addresses import bind
from nodes.transport.backlog import COPIED_BELOW, Backlog
from nodes.transport.connections import ConnectionGuard, settle
from nodes.transport.curve import OVERHEAD, ZAP, configure_curve_server, user_id, zap_reply
from nodes.transport.zmq import BATCH, ZMTP_PING_MS, ZMTP_SILENCE_MS
from nodes.trust_watch import INTERVAL, TrustedKeys
from protocol.limits import DEFAULT
from protocol.security.budget import Cost
from protocol.security.keys import Keyring
from protocol.security.revocation import revoked
from protocol.topics import heartbeat_address, inward_address

log = logging.getLogger(__name__)

HIGH_WATER = 128
"""Messages that wait for one subscriber before more are dropped, and repaired by who said them."""

BACKPRESSURE_BYTES = 256 << 20
"""Bytes of large frames that may wait for the slowest subscriber before nothing more is taken in."""

POLL_MS = 20
"""Between two looks whether there is room again."""

MAX_SUBSCRIPTION_BYTES = 1024


class Relay:
    """Forwards between all who connect, from `__enter__` to `__exit__`.

    Args:
        listen: where it is heard, `tcp://host:port` (the three ports after it are taken too) or `ipc://path`.
        keys: its own, and those of all whom it lets in; None: whoever can reach it.

    Raises:
        NodeError: one of its addresses cannot be bound.
    """

    def __init__(self, listen: str, keys: Keyring | None = None) -> None:
        self._context = zmq.Context()
        self._keys = keys
        self._threads: list[threading.Thread] = []
        self.gate = Gate(keyed=keys is not None)
        kinds = (zmq.XSUB, zmq.XPUB, zmq.XSUB, zmq.XPUB)
        sockets = [self._socket(kind) for kind in kinds]
        asked = self._context.socket(zmq.REP)
        self.gate.watch(sockets)
        try:
            if keys is not None:
                asked.bind(ZAP)
                zap = threading.Thread(target=_serve_zap, args=(asked, keys, self.gate), name="zap", daemon=True)
                self._threads.append(zap)
            outward = listen, heartbeat_address(listen)
            addresses = [each for address in outward for each in (inward_address(address), address)]
            for each, address in zip(sockets, addresses, strict=True):
                bind(each, address)
        except NodeError:
            for each in (*sockets, asked):
                each.close()
            self._context.term()
            raise
        if keys is None:
            asked.close()
        for pair in (sockets[:2], sockets[2:]):
            what = (*pair, Backlog(), BACKPRESSURE_BYTES, self.gate)
            self._threads.append(threading.Thread(target=_forward, args=what, name="relay", daemon=True))

    def __enter__(self) -> Self:
        """Begins to forward."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends; what waits is dropped."""
        self._context.term()
        for thread in self._threads:
            thread.join()

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self._context.socket(kind)
        made.linger = 0
        made.heartbeat_ivl, made.heartbeat_timeout = ZMTP_PING_MS, ZMTP_SILENCE_MS
        made.sndhwm = made.rcvhwm = HIGH_WATER
        made.copy_threshold = COPIED_BELOW
        made.maxmsgsize = DEFAULT.max_frame_bytes + OVERHEAD if kind == zmq.XSUB else MAX_SUBSCRIPTION_BYTES
        if self._keys is not None:
            configure_curve_server(made, self._keys)
        return made


class Gate:
    """What those who connect to a relay may cost it; used by all of its threads.

    Args:
        keyed: whether they have proven a key, whose owner pays.
    """

    def __init__(self, *, keyed: bool) -> None:
        self._keyed = keyed
        self._refused = Refusals()
        self._accounts = Accounts(self._refused, lambda name, why: log.warning("%s is %s", name, why))
        self._lock = threading.Lock()
        self._guard: ConnectionGuard | None = None

    def watch(self, sockets: Sequence[zmq.Socket[bytes]]) -> None:
        """Begins to watch who connects to these sockets."""
        self._guard = ConnectionGuard(sockets, self.refused, lambda connection: settle(connection, self.charge))

    def end(self, reasons: Mapping[str, str]) -> None:
        """Ends the connections of those who are let in no more; why, by name."""
        for name, why in reasons.items():
            log.warning("%s is let in no more, or under other terms: %s", name, why)
        if reasons and self._guard is not None:
            self._guard.end(reasons)

    def refused(self, kind: str, why: str) -> None:
        """Counts and logs what is turned away."""
        with self._lock:
            self._refused(kind, why)

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        """Whether a peer may cause this now."""
        with self._lock:
            return self._accounts.charge(payer, cost, amount, time.monotonic())

    def passes(self, message: Sequence[zmq.Frame]) -> bool:
        """Whether a message is forwarded, at the expense of whoever has published it."""
        if not self._keyed:
            return True
        name, size = user_id(message[0]), sum(len(frame) for frame in message)
        return not name or (self.charge(name, Cost.MESSAGES) and self.charge(name, Cost.RECEIVED, size))

    def admits(self, command: zmq.Frame) -> bool:
        """Whether a subscription is forwarded, or its end, which nobody pays for where its connection has ended."""
        name = user_id(command) if self._keyed and self._guard is not None else ""
        return not name or self._guard is None or self._guard.pays(command, name, self.charge)


def _serve_zap(asked: zmq.Socket[bytes], keys: Keyring, gate: Gate) -> None:
    """Tells ZeroMQ who may come in, until the context ends; looks each second whom the relay trusts."""
    trusted, looked = TrustedKeys(keys), 0.0
    try:
        while True:
            asked_now = asked.poll(int(1000 * INTERVAL))
            if time.monotonic() - looked >= INTERVAL:
                looked, today = time.monotonic(), datetime.now(UTC).date()
                before, keys = keys, trusted.look(today)
                gate.end(revoked(before, keys, today))
            if not asked_now:
                continue
            request = asked.recv_multipart()
            reply, why = zap_reply(request, keys.names_by_curve_key, lambda name: gate.charge(name, Cost.HANDSHAKES))
            if why:
                gate.refused("unknown key", why)
            asked.send_multipart(reply)
    except zmq.ContextTerminated:
        log.debug("the relay's authenticator closes")
    finally:
        asked.close(linger=0)


def _forward(inward: zmq.Socket[bytes], outward: zmq.Socket[bytes], backlog: Backlog, crowd: int, gate: Gate) -> None:
    """Passes messages out and subscriptions in, until the context ends; no more than `crowd` bytes wait on the way."""
    poller = zmq.Poller()
    poller.register(inward, zmq.POLLIN)
    poller.register(outward, zmq.POLLIN)
    try:
        while True:
            full = backlog.bytes() > crowd
            poller.modify(inward, 0 if full else zmq.POLLIN)
            ready = dict(poller.poll(POLL_MS if full else None))
            if outward in ready:
                command = outward.recv(copy=False)
                if gate.admits(command):
                    inward.send(command.bytes)
            for _ in range(BATCH if inward in ready else 0):
                if backlog.bytes() > crowd or not inward.poll(0):
                    break
                message = inward.recv_multipart(copy=False)
                if gate.passes(message):
                    outward.send_multipart(backlog.hold([frame.buffer for frame in message]), copy=False)
    except zmq.ContextTerminated:
        log.debug("the relay ends")
    finally:
        inward.close()
        outward.close()

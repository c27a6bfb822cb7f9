"""A relay: the way for peers that can only connect outwards, through a process that everybody can reach.

Whoever cannot be reached connects its publishers to the relay instead of binding them, and gives the relay's address as
its own; the others hear it there as they would hear it at an address of its own. Subscriptions travel the other way,
the join requests among them, so that the handshake, the heartbeats and the loss of a peer need no word about relays:
the two ends of every conversation meet as if there were none. Four sockets: where messages and heartbeats go out, on
the address and beside it as at every node, and where they come in, two ports further on. Once too many bytes wait for a
slow subscriber, no more messages are taken in from anybody until it has caught up or its connection is given up;
heartbeats go their own way.

Reads no frames and takes no part in a run. Without keys every peer that can reach it can publish through it; with keys
only trusted peers can, and what it forwards is encrypted end to end. A relay's key
authenticates its address and is no member's key.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

import zmq

from nodes.errors import NodeError
from nodes.transport.addresses import bind
from nodes.transport.backlog import Backlog
from nodes.transport.curve import OVERHEAD, ZAP, configure_curve_server, zap_reply
from nodes.transport.zmq import BATCH, ZMTP_PING_MS, ZMTP_SILENCE_MS
from protocol.limits import DEFAULT
from protocol.security.keys import Keyring
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
        if keys is not None:
            asked = self._context.socket(zmq.REP)
            asked.bind(ZAP)
            self._threads.append(threading.Thread(target=_serve_zap, args=(asked, keys), name="zap", daemon=True))
        try:
            for outward in (listen, heartbeat_address(listen)):
                sockets = self._bound(zmq.XSUB, inward_address(outward)), self._bound(zmq.XPUB, outward)
                what = (*sockets, Backlog(), BACKPRESSURE_BYTES)
                self._threads.append(threading.Thread(target=_forward, args=what, name="relay", daemon=True))
        except NodeError:
            self._context.destroy(linger=0)
            raise

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

    def _bound(self, kind: int, address: str) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self._context.socket(kind)
        made.linger = 0
        made.heartbeat_ivl, made.heartbeat_timeout = ZMTP_PING_MS, ZMTP_SILENCE_MS
        made.sndhwm = made.rcvhwm = HIGH_WATER
        made.maxmsgsize = DEFAULT.max_frame_bytes + OVERHEAD if kind == zmq.XSUB else MAX_SUBSCRIPTION_BYTES
        if self._keys is not None:
            configure_curve_server(made, self._keys)
        bind(made, address)
        return made


def _serve_zap(asked: zmq.Socket[bytes], keys: Keyring) -> None:
    """Tells ZeroMQ who may come in, until the context ends."""
    try:
        while True:
            reply, why = zap_reply(asked.recv_multipart(), keys.names_by_curve_key)
            if why:
                log.warning("turned away: %s", why)
            asked.send_multipart(reply)
    except zmq.ContextTerminated:
        log.debug("the relay's authenticator closes")
    finally:
        asked.close(linger=0)


def _forward(inward: zmq.Socket[bytes], outward: zmq.Socket[bytes], backlog: Backlog, crowd: int) -> None:
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
                inward.send(outward.recv())
            for _ in range(BATCH if inward in ready else 0):
                if backlog.bytes() > crowd or not inward.poll(0):
                    break
                frames = [frame.buffer for frame in inward.recv_multipart(copy=False)]
                outward.send_multipart(backlog.hold(frames), copy=False)
    except zmq.ContextTerminated:
        log.debug("the relay ends")
    finally:
        inward.close()
        outward.close()

"""Who may connect and what they may hear: CurveZMQ on every socket of a bus, answered from the node's keyring.

Each connection is encrypted, and both ends prove the key that the other expects: the one that binds asks the keyring
by ZAP, the one that connects says beforehand whose key must answer. A subscription is granted one by one (XPUB_MANUAL),
so that no peer receives another's inbox or joins in another's name. Rejected connections are counted and named through
the listener. Does not know what messages mean; what a name may subscribe to is decided in
`protocol.security.authentication`.

libzmq gives an address up for good where the other side turns us away or a byte was changed on the way (its issue
4196): such a connection is handed back to be made anew.

Source: RFC 26 (CurveZMQ) and RFC 27 (ZAP) of rfc.zeromq.org; zmq_setsockopt(3) on ZMQ_XPUB_MANUAL, whose effect is on
the peer whose subscription was read last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.security.keys import Keyring
from protocol.security.roles import may_hear
from protocol.topics import may_subscribe

RejectionListener = Callable[[str, str], None]
"""Takes the kind of what was turned away, and why."""

ZAP = "inproc://zeromq.zap.01"
DOMAIN = b"fednet"
OVERHEAD = 64
"""Bytes by which CurveZMQ lengthens a frame, at most."""

_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_MAX_DENIED = 4096


class CurveAuthenticator:
    """The locks of one bus's sockets.

    Args:
        context: the bus's own; it must be shared with nobody, since it asks one keyring.
        keys: who this node is and whom it trusts.
        refused: hears on the event loop who was turned away.
        lost: hears which address must be connected to again.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: Keyring,
        refused: RejectionListener,
        lost: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._refused = refused
        self._lost = lost
        self._asked = context.socket(zmq.REP)
        self._asked.linger = 0
        self._asked.bind(ZAP)
        self._monitors: dict[zmq.Socket[bytes], Callable[[str, int], None]] = {}
        self._expected: dict[str, str] = {}
        self._denied: Counter[bytes] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self, publisher: zmq.Socket[bytes]) -> None:
        """A socket that will bind lets in only whom the keyring knows."""
        configure_curve_server(publisher, self._keys)
        if publisher.type == zmq.XPUB:
            publisher.setsockopt(zmq.XPUB_MANUAL, 1)
        self._monitor(publisher, self._server_handshake_failed)

    def configure_client(self, caller: zmq.Socket[bytes]) -> None:
        """A socket that will connect says who it is."""
        caller.curve_secretkey = bytes.fromhex(self._keys.own.curve)
        caller.curve_publickey = bytes.fromhex(self._keys.own.public.curve)
        self._monitor(caller, self._client_handshake_failed)

    def expect(self, caller: zmq.Socket[bytes], address: str, name: str) -> bool:
        """The next connection of this socket, to this address, must lead to this peer or relay.

        False if its key is not known here: then there must be no connection.
        """
        public = self._keys.at_address(name)
        if public is None:
            self._refused("unknown key", f"no connection to {address}: the key of {name or 'nobody'} is not here")
            return False
        caller.curve_serverkey = bytes.fromhex(public.curve)
        self._expected[address] = name
        return True

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers who wants to connect, and hears whose handshake failed."""
        self._loop = loop
        loop.add_reader(int(self._asked.getsockopt(zmq.FD)), self._answer)
        self._answer()
        for monitor in self._monitors:
            loop.add_reader(int(monitor.getsockopt(zmq.FD)), self._look, monitor)
            self._look(monitor)  # ZeroMQ wakes only a reader that has found nothing before

    def stop_listening(self) -> None:
        """Answers nobody any more."""
        if self._loop is not None:
            for each in (self._asked, *self._monitors):
                self._loop.remove_reader(int(each.getsockopt(zmq.FD)))
            self._loop = None

    def close(self) -> None:
        """Lets go of its sockets."""
        for each in (self._asked, *self._monitors):
            each.close(linger=0)

    def admits(self, publisher: zmq.Socket[bytes], event: zmq.Frame) -> bool:
        """Grants or ends the subscription that was just read from an XPUB; whether its listener should hear of it."""
        command = event.bytes
        begins, topic, name = command[:1] == b"\x01", command[1:], _user_id(event)
        if not name:  # a connection has ended, and with it what it had, and what it was denied
            return not self._was_denied(topic)
        if may_subscribe(name, topic) and may_hear(self._keys.trusted[name], topic):
            publisher.setsockopt(zmq.SUBSCRIBE if begins else zmq.UNSUBSCRIBE, topic)
            return True
        if begins:
            self._deny(name, topic)
        else:
            self._was_denied(topic)
        return False

    def _deny(self, name: str, topic: bytes) -> None:
        if len(self._denied) >= _MAX_DENIED:
            self._denied.clear()
        self._denied[topic] += 1
        self._refused("eavesdropping", f"{name} wants to hear {topic[:99]!a}, which is not for it")

    def _was_denied(self, topic: bytes) -> bool:
        if not self._denied[topic]:
            del self._denied[topic]
            return False
        self._denied[topic] -= 1
        return True

    def _answer(self) -> None:
        """Tells ZeroMQ who may come in."""
        while self._loop is not None and int(self._asked.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            request = self._asked.recv_multipart()
            reply, why = zap_reply(request, self._keys.names_by_curve_key)
            self._asked.send_multipart(reply)
            if why:
                self._refused("unknown key", why)

    def _monitor(self, socket: zmq.Socket[bytes], failed: Callable[[str, int], None]) -> None:
        self._monitors[socket.get_monitor_socket(_FAILURES)] = failed

    def _look(self, monitor: zmq.Socket[bytes]) -> None:
        while self._loop is not None and int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            occurrence = parse_monitor_message(monitor.recv_multipart())
            self._monitors[monitor](occurrence["endpoint"].decode("ascii", "replace"), occurrence["event"])

    def _server_handshake_failed(self, address: str, event: int) -> None:
        """Somebody came to our endpoint and did not do what CurveZMQ asks for; of keys, `_answer` tells."""
        if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refused("handshake", f"somebody at {address} does not speak CurveZMQ, or expects another node here")

    def _client_handshake_failed(self, address: str, event: int) -> None:
        """We connected to an endpoint whose peer is not the one we want, or does not let us in."""
        peer = self._expected.get(address, "a peer")
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            mine = self._keys.own.public
            self._refused("not let in", f"{peer} at {address} does not trust {mine.name}, {mine.fingerprint}")
        else:
            self._refused("handshake", f"who answers at {address} does not hold the key of {peer}")
        if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._lost(address)


def configure_curve_server(socket: zmq.Socket[bytes], keys: Keyring) -> None:
    """A socket that will bind speaks CurveZMQ only, and asks by ZAP whom to let in."""
    socket.curve_server = True
    socket.curve_secretkey = bytes.fromhex(keys.own.curve)
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask is a no


def zap_reply(request: Sequence[bytes], names: Mapping[bytes, str]) -> tuple[list[bytes], str]:
    """The reply to a request of ZAP, which makes the name the connection's User-Id, and why it is refused, or "".

    Args:
        request: version, request id, domain, address, identity, mechanism, credentials.
        names: names by Curve25519 key.
    """
    version, number, domain, address, _, mechanism, *credentials = [*request, *[b""] * 7][: max(7, len(request))]
    name = names.get(credentials[0]) if credentials else None
    if (version, domain, mechanism) != (b"1.0", DOMAIN, b"CURVE") or len(credentials) != 1 or name is None:
        key = credentials[0].hex() if credentials else "none"
        why = f"{address[:64]!a} wants to connect with a key that is not trusted here: {key}"
        return [b"1.0", number, b"400", b"not trusted", b"", b""], why
    return [b"1.0", number, b"200", b"OK", name.encode(), b""], ""


def _user_id(event: zmq.Frame) -> str:
    """Whom ZAP has found behind the connection that a frame came from; "" when that has ended."""
    try:
        return str(event.get("User-Id"))
    except zmq.ZMQError:
        return ""

"""Who may connect and what they may hear: CurveZMQ on every socket of a bus, answered from the node's keyring.

Each connection is encrypted, and both ends prove the key that the other expects: the one that binds asks the keyring
by ZAP, the one that connects says beforehand whose key must answer. A subscription is granted one by one (XPUB_MANUAL),
so that no peer receives another's inbox or joins in another's name. Rejected connections are counted and named through
the listener. Does not know what messages mean; what a name may subscribe to is decided in
`protocol.security.authentication`.

Source: RFC 26 (CurveZMQ) and RFC 27 (ZAP) of rfc.zeromq.org; zmq_setsockopt(3) on ZMQ_XPUB_MANUAL, whose effect is on
the peer whose subscription was read last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import zmq

from nodes.transport.sockets import descriptor, readable
from protocol.security.budget import Cost
from protocol.security.key_roles import may_hear
from protocol.security.keys import Keyring
from protocol.topics import may_subscribe

RejectionListener = Callable[[str, str], None]
"""Takes the kind of what was turned away, and why."""

ZAP = "inproc://zeromq.zap.01"
DOMAIN = b"fednet"
OVERHEAD = 64
"""Bytes by which CurveZMQ lengthens a frame, at most."""

FAILURES = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
"""The events of a handshake that fails, of ZeroMQ's monitors."""

_MAX_DENIED = 4096


class CurveAuthenticator:
    """The locks of one bus's sockets.

    Args:
        context: the bus's own; it must be shared with nobody, since it asks one keyring.
        keys: who this node is and whom it trusts.
        refused: hears on the event loop who was turned away.
        charge: whether a peer may cause something now; who may complete no handshake now is asked to come later.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: Keyring,
        refused: RejectionListener,
        charge: Callable[[str, Cost], bool],
    ) -> None:
        self._keys = keys
        self._refused = refused
        self._charge = charge
        self._asked = context.socket(zmq.REP)
        self._asked.linger = 0
        self._asked.bind(ZAP)
        self._expected: dict[str, str] = {}
        self._denied: Counter[bytes] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self, publisher: zmq.Socket[bytes]) -> None:
        """A socket that will bind lets in only whom the keyring knows."""
        configure_curve_server(publisher, self._keys)
        if publisher.type == zmq.XPUB:
            publisher.setsockopt(zmq.XPUB_MANUAL, 1)

    def configure_client(self, caller: zmq.Socket[bytes]) -> None:
        """A socket that will connect says who it is."""
        caller.curve_secretkey = bytes.fromhex(self._keys.own.curve)
        caller.curve_publickey = bytes.fromhex(self._keys.own.public.curve)

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are let in, and no others."""
        self._keys = keys

    def knows(self, name: str, address: str) -> bool:
        """Whether the key of a peer or relay is known here; if not, there must be no connection to its address."""
        if self._keys.at_address(name) is None:
            self._refused("unknown key", f"no connection to {address}: the key of {name or 'nobody'} is not here")
            return False
        return True

    def is_member(self, name: str) -> bool:
        """Whether this is a peer, not a relay, which forwards what others say."""
        return name in self._keys.trusted

    def expect(self, caller: zmq.Socket[bytes], address: str, name: str) -> None:
        """The next connection of this socket, to this address, must lead to this peer or relay, whose key is known."""
        public = self._keys.at_address(name)
        if public is not None:  # otherwise it has been taken away meanwhile, and the last key that was expected fails
            caller.curve_serverkey = bytes.fromhex(public.curve)
            self._expected[address] = name

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers who wants to connect."""
        self._loop = loop
        loop.add_reader(descriptor(self._asked), self._answer)
        self._answer()  # ZeroMQ wakes only a reader that has found nothing before

    def stop_listening(self) -> None:
        """Answers nobody any more."""
        if self._loop is not None:
            self._loop.remove_reader(descriptor(self._asked))
            self._loop = None

    def close(self) -> None:
        """Lets go of its socket."""
        self._asked.close(linger=0)

    def admits(self, publisher: zmq.Socket[bytes], event: zmq.Frame) -> bool:
        """Grants or ends the subscription that was just read from an XPUB; whether its listener should hear of it."""
        command = event.bytes
        begins, topic, name = command[:1] == b"\x01", command[1:], user_id(event)
        if not name:  # a connection has ended, and with it what it had, and what it was denied
            return not self._was_denied(topic)
        if may_subscribe(name, topic) and may_hear(self._keys.trusted.get(name), topic):
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
        while self._loop is not None and readable(self._asked):
            request = self._asked.recv_multipart()
            reply, why = zap_reply(request, self._keys.names_by_curve_key, self._affords_handshake)
            self._asked.send_multipart(reply)
            if why:
                self._refused("unknown key", why)

    def _affords_handshake(self, name: str) -> bool:
        return self._charge(name, Cost.HANDSHAKES)

    def server_failed(self, address: str, event: int) -> None:
        """Somebody came to our endpoint and did not do what CurveZMQ asks for; of keys, `_answer` tells."""
        if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refused("handshake", f"somebody at {address} does not speak CurveZMQ, or expects another node here")

    def client_failed(self, address: str, event: int) -> None:
        """We connected to an endpoint whose peer is not the one we want, or does not let us in."""
        peer = self._expected.get(address, "a peer")
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            mine = self._keys.own.public
            self._refused("not let in", f"{peer} at {address} does not trust {mine.name}, {mine.fingerprint}")
        else:
            self._refused("handshake", f"who answers at {address} does not hold the key of {peer}")


def configure_curve_server(socket: zmq.Socket[bytes], keys: Keyring) -> None:
    """A socket that will bind speaks CurveZMQ only, and asks by ZAP whom to let in."""
    socket.curve_server = True
    socket.curve_secretkey = bytes.fromhex(keys.own.curve)
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask is a no


def zap_reply(
    request: Sequence[bytes], names: Mapping[bytes, str], affords: Callable[[str], bool]
) -> tuple[list[bytes], str]:
    """The reply to a request of ZAP, which makes the name the connection's User-Id, and why it is refused, or "".

    Args:
        request: version, request id, domain, address, identity, mechanism, credentials.
        names: names by Curve25519 key.
        affords: whether the holder of a name may come in now; otherwise it is asked to come again later.
    """
    version, number, domain, address, _, mechanism, *credentials = [*request, *[b""] * 7][: max(7, len(request))]
    name = names.get(credentials[0]) if credentials else None
    if (version, domain, mechanism) != (b"1.0", DOMAIN, b"CURVE") or len(credentials) != 1 or name is None:
        key = credentials[0].hex() if credentials else "none"
        why = f"{address[:64]!a} wants to connect with a key that is not trusted here: {key}"
        return [b"1.0", number, b"400", b"not trusted", b"", b""], why
    if not affords(name):
        return [b"1.0", number, b"300", b"later", b"", b""], ""
    return [b"1.0", number, b"200", b"OK", name.encode(), b""], ""


def user_id(event: zmq.Frame) -> str:
    """Whom ZAP has found behind the connection that a frame came from; "" when that has ended."""
    try:
        return str(event.get("User-Id"))
    except zmq.ZMQError:
        return ""

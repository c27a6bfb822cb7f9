"""Names, topics and addresses: the words by which nodes find and hear each other.

Every topic ends in "/": ZeroMQ compares prefixes, and `to/a` would also hear what is said to `to/ab/`. All topics
are static; a node subscribes once, when it starts. This module knows how they are spelled, not who listens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from protocol.errors import EncodingError, WireError

NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
"""What a node may be called."""

RUN = r"[a-z0-9][a-z0-9_.-]{0,63}"
"""What a run may be called."""

TOPIC = rf"(?:{NAME}/){{1,3}}"
"""What a message may be published under. A knock is heard as a subscription and never published."""

PRESENCE = "presence/"
QUERIES = "queries/"
ROUNDS = "rounds/"
EXCHANGE = "exchange/"
PROGRESS = "progress/"
HEARTBEATS = "heartbeat/"
JOIN = "join/"

LARGEST = 2**63 - 1
"""The largest incarnation, sequence number or count on the wire."""

MAX_ADDRESS_BYTES = 180
MAX_JOIN_BYTES = 256

_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])"
_ADDRESS = (
    rf"(?:{NAME}@)?(?:"
    rf"tcp://{_HOST}:(?P<port>[1-9][0-9]{{0,4}})"
    r"|ipc://[^*]+"
    r"|(?:inproc|memory)://[A-Za-z0-9._-]+)"
)
_NUMBER = r"0|[1-9][0-9]{0,18}"

_name = re.compile(NAME)
_run = re.compile(RUN)
_topic = re.compile(TOPIC)
_address = re.compile(_ADDRESS)
_listen = re.compile(rf"tcp://(?:\*|{_HOST}):(?P<port>0|[1-9][0-9]{{0,4}})|ipc://[^*]+")
_loopback = re.compile(r"tcp://(127(\.[0-9]{1,3}){3}|\[::1\]|localhost):")
_knock = re.compile(rf"join/(?P<name>{NAME})/(?P<incarnation>{_NUMBER})/(?P<address>.+)/")


@lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether a node may be called this."""
    return _name.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_run(text: str) -> bool:
    """Whether a run may be called this."""
    return _run.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_topic(text: str) -> bool:
    """Whether a message may be published under this."""
    return _topic.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether a node may be reached at this: `tcp://host:port`, `ipc://path`, `inproc://name`, `memory://name`.

    `name@` before it says whose key answers there, where that is a relay's and not the node's own.
    """
    match = _address.fullmatch(text)
    if match is None or not text.isprintable() or len(text.encode()) > MAX_ADDRESS_BYTES:
        return False
    return match["port"] is None or int(match["port"]) < 2**16


def is_listen(text: str) -> bool:
    """Whether a node may bind this, and its pulse beside it: as an address, or on every interface (`*`) or port (0)."""
    match = _listen.fullmatch(text)
    if match is None or not text.isprintable() or len(text.encode()) > MAX_ADDRESS_BYTES:
        return False
    return match["port"] is None or int(match["port"]) < 2**16 - 1


def is_local(address: str) -> bool:
    """Whether an address can only be reached from this machine."""
    address = split_endpoint(address)[1]
    return address.startswith(("ipc://", "inproc://", "memory://")) or _loopback.match(address) is not None


def split_endpoint(text: str) -> tuple[str, str]:
    """Whom to expect where, of `name@address` or, with nobody in particular, an address."""
    name, at, address = text.partition("@")
    return (name, address) if at and is_name(name) else ("", text)


def inbox(name: str) -> str:
    """The topic on which one node hears what is said to it alone.

    Raises:
        EncodingError: no node may be called this.
    """
    if not is_name(name):
        raise EncodingError("a node's name must match NAME", name=name, pattern=NAME)
    return f"to/{name}/"


def heartbeat_address(address: str) -> str:
    """Where the heartbeats of the node at this address are published: the next port, or the path with `.heartbeat`."""
    return _beside(address, 1, ".heartbeat")


def inward_address(address: str) -> str:
    """Where publishers connect that are heard at this address of a relay: two ports on, or the path with `.in`."""
    return _beside(address, 2, ".in")


def _beside(address: str, ports: int, suffix: str) -> str:
    """An address some ports on, or a path with a suffix; within a process, which has neither, the same."""
    plain = split_endpoint(address)[1]
    if plain.startswith("tcp://"):
        host, port = address.rsplit(":", 1)
        return f"{host}:{int(port) + ports}"
    return f"{address}{suffix}" if plain.startswith("ipc://") else address


@dataclass(frozen=True)
class JoinRequest:
    """What a joining node says by nothing but subscribing: who it is, and where to connect back to."""

    name: str
    incarnation: int
    address: str


def join_request_topic(name: str, incarnation: int, address: str) -> str:
    """The subscription by which a joining node makes itself known.

    Raises:
        EncodingError: the name, the incarnation or the address is not one.
    """
    if not (is_name(name) and 0 <= incarnation <= LARGEST and is_address(address)):
        raise EncodingError("cannot knock", name=name, incarnation=incarnation, address=address)
    return f"join/{name}/{incarnation}/{address}/"


def parse_join_request(data: bytes) -> JoinRequest:
    """Reads a subscription that begins with `join/`; the exact inverse of `knock`.

    Raises:
        WireError: it is longer than 256 bytes, or anything but a name, an incarnation and an address.
    """
    if len(data) > MAX_JOIN_BYTES:
        raise WireError("knock is too long", bytes=len(data), most=MAX_JOIN_BYTES)
    try:
        match = _knock.fullmatch(data.decode())
    except UnicodeDecodeError:
        match = None
    if match is None or int(match["incarnation"]) > LARGEST or not is_address(match["address"]):
        raise WireError("knock is not join/<name>/<incarnation>/<address>/", knock=data)
    return JoinRequest(match["name"], int(match["incarnation"]), match["address"])

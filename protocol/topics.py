"""The spelling of names, topics and addresses, and which kinds of messages a topic carries.

Every topic ends in "/": ZeroMQ matches prefixes, and a subscription of `to/a` would also receive messages to `to/ab/`.
All topics are static; a node subscribes once, when it starts. Knows not which node subscribes to which topic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from protocol.errors import EncodingError, WireError

NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
"""The pattern of a node's name."""

RUN = r"[a-z0-9][a-z0-9_.-]{0,63}"
"""The pattern of a run's name."""

TOPIC = rf"(?:{NAME}/){{1,3}}"
"""The pattern of a topic that is published. A join request is a subscription and never published."""

PRESENCE = "presence/"
QUERIES = "queries/"
ROUNDS = "rounds/"
EXCHANGE = "exchange/"
PROGRESS = "progress/"
HEARTBEATS = "heartbeat/"
JOIN = "join/"
INBOX = "to/"
"""What every inbox begins with; see `inbox`."""

KINDS_BY_TOPIC: dict[str, frozenset[str]] = {
    PRESENCE: frozenset({"capabilities", "goodbye"}),
    INBOX: frozenset({
        "hello", "welcome", "capabilities", "query_request", "query_answer", "query_refusal", "retransmit_request",
        "retransmission", "retransmit_unavailable", "group_key_grant", "chunk_request", "chunk", "chunk_unavailable",
        "promise", "leader_announcement", "round_decline", "contribution_receipt", "equivocation", "model_adopted",
        "record_request", "round_commit", "rounds_aborted", "encrypted_share", "shares_received", "exchange_request",
        "offer", "offer_list", "exchange_decline", "offer_verdict", "offer_request",
    }),
    HEARTBEATS: frozenset({"heartbeat"}),
    QUERIES: frozenset({"query_request"}),
    ROUNDS: frozenset({
        "rounds_request", "prepare", "leader_announcement", "round_open", "contribution_available", "round_close",
        "shard_reduced", "false_shard", "round_vote", "round_commit", "rounds_aborted", "key_advertisement",
        "share_distribution", "consistency_check", "share_reveal",
    }),
    EXCHANGE: frozenset({"exchange_request", "offer", "offer_list", "offer_request"}),
    PROGRESS: frozenset({"progress_report"}),
}  # fmt: skip
"""The kinds that a topic carries, and no others: PROTOCOL.md's table. A message on any other topic is invalid."""

LARGEST = 2**63 - 1
"""The largest integer of the wire: of an incarnation, a sequence number or a count."""

NODE_PORTS, RELAY_PORTS = 2, 4
"""Ports in a row: messages and heartbeats, and at a relay where each of them comes in."""

MAX_ADDRESS_BYTES = 180
MAX_JOIN_BYTES = 448
SIGNATURE_BYTES = 64
"""Bytes of an Ed25519 signature."""

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
_join_request = re.compile(
    rf"{JOIN}(?P<name>{NAME})/(?P<incarnation>{_NUMBER})/(?P<run>(?:{RUN})?)/"
    rf"(?P<signature>(?:[0-9a-f]{{{2 * SIGNATURE_BYTES}}})?)/(?P<address>.+)/"
)


@lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether this is the name of a node."""
    return _name.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_run(text: str) -> bool:
    """Whether this is the name of a run."""
    return _run.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_topic(text: str) -> bool:
    """Whether this is a topic that is published."""
    return _topic.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether this is an address: `tcp://host:port`, `ipc://path`, `inproc://name` or `memory://name`.

    `name@` before it names the holder of the key at this address, where that is a relay.
    """
    match = _address.fullmatch(text)
    if match is None or not text.isprintable() or len(text.encode()) > MAX_ADDRESS_BYTES:
        return False
    return match["port"] is None or int(match["port"]) < 2**16


def is_listen(text: str, ports: int = NODE_PORTS) -> bool:
    """Whether this can be bound with the ports after it: an address, also with host `*` or port 0.

    Args:
        text: the address.
        ports: how many are taken: `NODE_PORTS`, or `RELAY_PORTS`.
    """
    match = _listen.fullmatch(text)
    if match is None or not text.isprintable() or len(text.encode()) > MAX_ADDRESS_BYTES:
        return False
    return match["port"] is None or int(match["port"]) + ports <= 2**16


def is_local(address: str) -> bool:
    """Whether an address can be reached from this machine only."""
    address = split_endpoint(address)[1]
    return address.startswith(("ipc://", "inproc://", "memory://")) or _loopback.match(address) is not None


def split_endpoint(text: str) -> tuple[str, str]:
    """(name, address) of `name@address`; the name is empty where there is none."""
    name, at, address = text.partition("@")
    return (name, address) if at and is_name(name) else ("", text)


def inbox(name: str) -> str:
    """The topic of the messages to one node.

    Raises:
        EncodingError: this is not the name of a node.
    """
    if not is_name(name):
        raise EncodingError("a node's name must match NAME", name=name, pattern=NAME)
    return f"{INBOX}{name}/"


def receiver(topic: str) -> str | None:
    """The node whose inbox a topic is; None for a topic of a group."""
    return topic[len(INBOX) : -1] if topic.startswith(INBOX) else None


def carries(topic: str, kind: str) -> bool:
    """Whether messages of a kind are published under a topic."""
    if topic.startswith(INBOX):
        return is_name(topic[len(INBOX) : -1]) and kind in KINDS_BY_TOPIC[INBOX]
    return kind in KINDS_BY_TOPIC.get(topic, ())


def may_subscribe(name: str, subscription: bytes) -> bool:
    """Whether a peer of this name may subscribe to this: not to another's inbox, and not to join as another.

    Subscriptions are prefixes, so that one which is no whole topic could match any.
    """
    text = subscription.decode("ascii", "replace")
    if text.startswith(JOIN):
        return text.startswith(f"{JOIN}{name}/")
    return is_topic(text) and (not text.startswith(INBOX) or text == inbox(name))


def heartbeat_address(address: str) -> str:
    """The address of a node's heartbeats, by that of its messages: the next port, or the path with `.heartbeat`."""
    return _beside(address, 1, ".heartbeat")


def inward_address(address: str) -> str:
    """The address to which publishers connect, by a relay's own address: two ports on, or the path with `.in`."""
    return _beside(address, 2, ".in")


def _beside(address: str, ports: int, suffix: str) -> str:
    """An address some ports on, or a path with a suffix; unchanged for an address within a process."""
    plain = split_endpoint(address)[1]
    if plain.startswith("tcp://"):
        host, port = address.rsplit(":", 1)
        return f"{host}:{int(port) + ports}"
    return f"{address}{suffix}" if plain.startswith("ipc://") else address


@dataclass(frozen=True)
class JoinRequest:
    """What a joining node says by its subscription: who it is, of which run, and the address to connect back to.

    Attributes:
        name: its name.
        incarnation: this life of it.
        run: the run's name; empty for a visitor that does not know it yet.
        address: where its peers may connect to.
        signature: its node's, under `statement`, 64 bytes; none where there are no keys.
    """

    name: str
    incarnation: int
    run: str
    address: str
    signature: bytes = b""

    @property
    def statement(self) -> bytes:
        """The bytes that its node signs."""
        parts = ("join request", self.run, self.name, str(self.incarnation), self.address)
        return b"\0".join(part.encode() for part in parts)

    @property
    def topic(self) -> str:
        """The subscription.

        Raises:
            EncodingError: a part of it is invalid.
        """
        if not self._is_valid():
            raise EncodingError(
                "a join request needs a name, an incarnation, a run or none, an address, and a signature or none",
                **vars(self),
            )
        return f"{JOIN}{self.name}/{self.incarnation}/{self.run}/{self.signature.hex()}/{self.address}/"

    def _is_valid(self) -> bool:
        return (
            is_name(self.name)
            and 0 <= self.incarnation <= LARGEST
            and (not self.run or is_run(self.run))
            and is_address(self.address)
            and len(self.signature) in {0, SIGNATURE_BYTES}
        )


def parse_join_request(data: bytes) -> JoinRequest:
    """Parses a subscription that begins with `join/`; the exact inverse of `JoinRequest.topic`.

    Raises:
        WireError: it is longer than `MAX_JOIN_BYTES`, or not the topic of a join request.
    """
    if len(data) > MAX_JOIN_BYTES:
        raise WireError("join request is too long", bytes=len(data), most=MAX_JOIN_BYTES)
    try:
        match = _join_request.fullmatch(data.decode())
    except UnicodeDecodeError:
        match = None
    if match is None or int(match["incarnation"]) > LARGEST or not is_address(match["address"]):
        raise WireError("join request is not join/<name>/<incarnation>/<run>/<signature>/<address>/", subscription=data)
    signature = bytes.fromhex(match["signature"])
    return JoinRequest(match["name"], int(match["incarnation"]), match["run"], match["address"], signature)

"""Who is there: the handshake, the heartbeat, the farewell, and what a client says of itself.

How they follow each other is told in PROTOCOL.md, "Presence"; `protocol.presence` decides who is a member.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from protocol.messages.base import (
    MAX_MEMBERS,
    SIGNATURE_BYTES,
    Address,
    Count,
    Latest,
    Message,
    Name,
    Seconds,
    WireValue,
)

MAX_CAPABILITIES_BYTES = 16 * 1024


class PeerInfo(WireValue):
    """How a node is known to others.

    Attributes:
        name: unique within the run.
        incarnation: grows each time the node starts, so that a restart is never taken for its predecessor.
        role: who the process is.
        address: where its data socket is bound.
        heartbeat_address: where its heartbeat socket is bound.
        proof: the node's own Ed25519 signature over all of this; None where there are no keys.
    """

    name: Name
    incarnation: Count
    role: Literal["client", "guest", "monitor"]
    address: Address
    heartbeat_address: Address
    proof: Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)] | None = None


class Hello(Message):
    """The sender introduces itself and all members it knows, to one peer whose direction is proven.

    Attributes:
        peer: the sender.
        receiver_incarnation: whom it is meant for, so that no later life of the receiver takes it for its own.
        members: whom the sender knows, itself left out.
        latest: the last numbers the sender used; the receiver expects the numbers after these.
    """

    kind: ClassVar[str] = "hello"
    numbered: ClassVar[bool] = False

    peer: PeerInfo
    receiver_incarnation: Count
    members: Annotated[tuple[PeerInfo, ...], Field(max_length=MAX_MEMBERS)]
    latest: Latest


class Welcome(Message):
    """The answer to a `Hello`: it arrived.

    Attributes:
        receiver_incarnation: whom it is meant for, so that no other life of the receiver takes it for its own.
    """

    kind: ClassVar[str] = "welcome"
    numbered: ClassVar[bool] = False

    receiver_incarnation: Count


class Heartbeat(Message):
    """The sender is alive, and how far it is.

    Attributes:
        tick: a counter of the sender's event loop; a heartbeat whose tick stands still comes from a hung node.
        latest: the last number used on each topic: a lost last message leaves no gap that would show it.
        clock: the sender's wall clock, seconds since the epoch. Nothing is decided by it: it is for whoever compares
            the clocks of a federation's machines, whose logs are read side by side.
    """

    kind: ClassVar[str] = "heartbeat"
    numbered: ClassVar[bool] = False

    tick: Count
    latest: Latest
    clock: Seconds = 0.0


class Goodbye(Message):
    """The sender leaves of its own accord."""

    kind: ClassVar[str] = "goodbye"
    numbered: ClassVar[bool] = False

    reason: Annotated[str, Field(max_length=500)]


def _short(text: str) -> str:
    if len(text.encode()) > MAX_CAPABILITIES_BYTES:
        raise ValueError(f"expected at most {MAX_CAPABILITIES_BYTES} bytes of UTF-8")
    return text


class Capabilities(Message):
    """What a client tells those who may ask it: its classes, its sizes, whatever its method lists.

    Attributes:
        text: a JSON document of at most 16 KiB. To the protocol it is opaque: who reads it parses it, and treats
            it like anything else a peer sent.
        ready: whether the client answers queries now.
    """

    kind: ClassVar[str] = "capabilities"
    numbered: ClassVar[bool] = True

    text: Annotated[str, AfterValidator(_short)]
    ready: bool

"""Messages of the membership: the handshake, heartbeats, goodbyes and capabilities.

PROTOCOL.md, "Presence", gives their order; `protocol.presence` decides who is a member.
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
    Reason,
    Seconds,
    WireValue,
)

MAX_CAPABILITIES_BYTES = 16 * 1024
"""UTF-8 bytes of one `Capabilities.text`."""


class PeerInfo(WireValue):
    """A node as others know it.

    Attributes:
        name: unique within the run.
        incarnation: grows with every start of the node, so that a restart is never mistaken for its predecessor.
        role: what the process does in the run.
        address: of its publisher of messages.
        heartbeat_address: of its publisher of heartbeats.
        proof: the node's own Ed25519 signature over all of this; None where there are no keys.
    """

    name: Name
    incarnation: Count
    role: Literal["client", "guest", "monitor"]
    address: Address
    heartbeat_address: Address
    proof: Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)] | None = None


class Hello(Message):
    """The sender introduces itself and the members that it knows to a peer that has subscribed to it.

    Attributes:
        peer: the sender.
        receiver_incarnation: of the peer it is meant for; a later incarnation ignores it.
        members: those that the sender knows, without itself.
        latest: the sender's last sequence numbers; the receiver expects the numbers after these.
    """

    kind: ClassVar[str] = "hello"
    numbered: ClassVar[bool] = False

    peer: PeerInfo
    receiver_incarnation: Count
    members: Annotated[tuple[PeerInfo, ...], Field(max_length=MAX_MEMBERS)]
    latest: Latest

    def may_be_from(self, sender: str, incarnation: int) -> bool:
        """Whether it introduces its sender."""
        return (self.peer.name, self.peer.incarnation) == (sender, incarnation)


class Welcome(Message):
    """Acknowledges a `Hello`.

    Attributes:
        receiver_incarnation: of the peer it is meant for; another incarnation ignores it.
    """

    kind: ClassVar[str] = "welcome"
    numbered: ClassVar[bool] = False

    receiver_incarnation: Count


class Heartbeat(Message):
    """The sender is alive, and its event loop makes progress.

    Attributes:
        tick: counts turns of the sender's event loop; if it does not change, the node hangs.
        latest: the sender's last sequence numbers, since the loss of a last message leaves no gap.
        clock: the sender's wall clock, seconds since the epoch; for comparing the clocks of a federation's machines.
            No decision depends on it.
    """

    kind: ClassVar[str] = "heartbeat"
    numbered: ClassVar[bool] = False

    tick: Count
    latest: Latest
    clock: Seconds = 0.0


class Goodbye(Message):
    """The sender leaves the run."""

    kind: ClassVar[str] = "goodbye"
    numbered: ClassVar[bool] = False

    reason: Reason


def _bounded(text: str) -> str:
    if len(text.encode()) > MAX_CAPABILITIES_BYTES:
        raise ValueError(f"expected at most {MAX_CAPABILITIES_BYTES} bytes of UTF-8")
    return text


class Capabilities(Message):
    """A client's description of itself to those that query it: classes, sizes, whatever its method lists.

    Attributes:
        text: a JSON document of at most 16 KiB, opaque to the protocol. Its reader validates it like anything else
            from a peer.
        ready: whether the client answers queries now.
    """

    kind: ClassVar[str] = "capabilities"
    numbered: ClassVar[bool] = True

    text: Annotated[str, AfterValidator(_bounded)]
    ready: bool

"""What a node can do beyond being there: the shape of a conversation's part in it, and of a message's handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from protocol.codec import Envelope
from protocol.messages import Message
from protocol.messages.presence import PeerInfo

Handler = Callable[[Envelope, Any], None]
"""Takes the envelope and its message, whose class is the handler's key in the table."""


class Capability(Protocol):
    """Something that a node can do beyond being there.

    Attributes:
        topics: what it subscribes to.
        handlers: what it does about which messages.
    """

    topics: tuple[str, ...]
    handlers: Mapping[type[Message], Handler]

    def linked(self, peer: PeerInfo) -> None:
        """Both directions to a peer are proven."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A peer is lost or has said goodbye."""

"""Everything a node can say, by the word that names it on the wire. A new way of talking starts with a row here."""

from __future__ import annotations

from protocol.messages.base import Message
from protocol.messages.presence import Card, Goodbye, Heartbeat, Hello, PeerInfo, Welcome
from protocol.messages.progress import Progress
from protocol.messages.queries import Answer, Query, Refusal, Scalar
from protocol.messages.repair import Gone, Resend, Resent

__all__ = [
    "KINDS",
    "Answer",
    "Card",
    "Gone",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Message",
    "PeerInfo",
    "Progress",
    "Query",
    "Refusal",
    "Resend",
    "Resent",
    "Scalar",
    "Welcome",
]

KINDS: dict[str, type[Message]] = {
    "hello": Hello,
    "welcome": Welcome,
    "heartbeat": Heartbeat,
    "goodbye": Goodbye,
    "card": Card,
    "progress": Progress,
    "query": Query,
    "answer": Answer,
    "refusal": Refusal,
    "resend": Resend,
    "resent": Resent,
    "gone": Gone,
}

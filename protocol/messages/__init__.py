"""Everything a node can say, by the word that names it on the wire. A new way of talking starts with a row here."""

from __future__ import annotations

from protocol.messages.base import Message
from protocol.messages.chunks import Chunk, Lacking, Want
from protocol.messages.presence import Card, Goodbye, Heartbeat, Hello, PeerInfo, Welcome
from protocol.messages.progress import Progress
from protocol.messages.queries import Answer, Query, Refusal, Scalar
from protocol.messages.repair import Gone, Resend, Resent
from protocol.messages.rounds import (
    Abandon,
    Claim,
    Close,
    Commit,
    Contribution,
    Decline,
    Leads,
    Open,
    Order,
    Promise,
    Recall,
    Receipt,
    Reduced,
    Vote,
)

__all__ = [
    "KINDS",
    "Abandon",
    "Answer",
    "Card",
    "Chunk",
    "Claim",
    "Close",
    "Commit",
    "Contribution",
    "Decline",
    "Gone",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Lacking",
    "Leads",
    "Message",
    "Open",
    "Order",
    "PeerInfo",
    "Progress",
    "Promise",
    "Query",
    "Recall",
    "Receipt",
    "Reduced",
    "Refusal",
    "Resend",
    "Resent",
    "Scalar",
    "Vote",
    "Want",
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
    "want": Want,
    "chunk": Chunk,
    "lacking": Lacking,
    "order": Order,
    "claim": Claim,
    "promise": Promise,
    "leads": Leads,
    "open": Open,
    "contribution": Contribution,
    "decline": Decline,
    "receipt": Receipt,
    "close": Close,
    "reduced": Reduced,
    "vote": Vote,
    "commit": Commit,
    "abandon": Abandon,
    "recall": Recall,
}

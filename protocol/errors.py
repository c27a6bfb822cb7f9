"""The errors of the wire, by whose bytes are at fault.

    ProtocolError
    +-- WireError          a peer's bytes do not say anything we accept: drop them, count them, log them
    |   +-- LimitError     they are (or would become) larger than we allow
    |   +-- AuthenticationError   nobody whom we trust has said them, or not now, or not to us
    +-- EncodingError      our own value cannot be put on the wire: a fault of the caller, nothing was sent
    +-- KeyFormatError           a text is no key, or keys contradict each other: the operator must act

Received bytes raise `WireError` and nothing else, whatever they are: a receiver needs one `except`.
"""

from __future__ import annotations

_LONGEST = 120


class ProtocolError(Exception):
    """What was wrong, in one sentence, and the facts about it.

    Attributes:
        reason: the sentence; made of our own words only, so it is safe to group and count by.
        fields: the facts by name; they may hold what a peer sent.
    """

    def __init__(self, reason: str, **fields: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fields = fields

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={_shown(value)}" for name, value in self.fields.items())
        return f"{self.reason} ({facts})" if facts else self.reason


class WireError(ProtocolError):
    """A peer sent something that is no message of this protocol.

    Attributes:
        culprit: the name of the peer that has sent it; None where that is not known.
    """

    culprit: str | None = None


class LimitError(WireError):
    """A peer sent more than the limits allow, or something that would grow beyond them."""


class AuthenticationError(WireError):
    """A message that nobody whom we trust has said, or not now, or not to us.

    Attributes:
        kind: the same in a word or two, to count by.
    """

    def __init__(self, kind: str, reason: str, **fields: object) -> None:
        super().__init__(reason, **fields)
        self.kind = kind


class EncodingError(ProtocolError):
    """A value of our own cannot be encoded as asked, for example a NaN as int8."""


class KeyFormatError(ProtocolError):
    """A text is no key, or keys contradict each other."""


def _shown(value: object) -> str:
    """One line of printable ASCII, cut to a length that no peer can flood a log with."""
    text = ascii(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

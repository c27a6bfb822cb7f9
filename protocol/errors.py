"""The errors of the protocol, by who must act.

    ProtocolError
    +-- WireError                  a peer's bytes are not a valid message: drop, count and log them
    |   +-- LimitError             they exceed a limit, or would once decoded
    |   +-- AuthenticationError    they are not from a trusted sender, not current, or not for this node
    +-- EncodingError              a value of this node cannot be encoded: an error of the caller, nothing was sent
    +-- KeyFormatError             a text is not a key, or keys contradict each other: the operator must act
    +-- TrailError                 a site's trail is broken, or not signed by it: the operator must act

Received bytes raise `WireError` and nothing else: a receiver needs one `except`.
"""

from __future__ import annotations

_MAX_SHOWN = 120


class ProtocolError(Exception):
    """What was wrong, in one sentence, and the values that show it.

    Attributes:
        reason: the sentence; it holds nothing that a peer sent, so it is safe to group and count by.
        fields: the values by name; they may hold what a peer sent.
    """

    def __init__(self, reason: str, **fields: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fields = fields

    def __str__(self) -> str:
        values = ", ".join(f"{name}={_shown(value)}" for name, value in self.fields.items())
        return f"{self.reason} ({values})" if values else self.reason


class WireError(ProtocolError):
    """A peer's bytes are not a valid message.

    Attributes:
        culprit: the name of the peer that has sent them; None where that is not known.
    """

    culprit: str | None = None


class LimitError(WireError):
    """A peer's message exceeds the limits, or would once decoded."""


class AuthenticationError(WireError):
    """A message is not from a trusted sender, not current, or not for this node.

    Attributes:
        kind: the same in a word or two, to count by.
    """

    def __init__(self, kind: str, reason: str, **fields: object) -> None:
        super().__init__(reason, **fields)
        self.kind = kind


class EncodingError(ProtocolError):
    """A value of this node cannot be encoded as requested, for example a NaN as int8."""


class KeyFormatError(ProtocolError):
    """A text is not a key, or keys contradict each other."""


class TrailError(ProtocolError):
    """A site's trail is broken, or not signed by it."""


def _shown(value: object) -> str:
    """One line of printable ASCII, cut so that no peer can flood a log with it."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."

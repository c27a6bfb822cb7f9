"""What is signed in a round: statements, the digest of an opening, and the transcript.

A statement is the canonical form of a message without its signature: msgpack of its fields with sorted keys, so that
whoever holds the message can compute it again. The digest of an opening covers every field of `round_open`: the plan
with its options, clip and threshold, the base, the number, members and contributors. Every advertisement names the
opening that it answers, and the transcript covers the opening and all advertisements that count. Members that were told
different things therefore compute different transcripts, and nothing that is bound to one fits the other.

Pure: makes no signatures (`protocol.security`) and knows no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgpack

from protocol.messages.base import Message, WireValue
from protocol.messages.rounds import RoundOpen

UNSIGNED = {"signature", "leaves"}
"""Fields of a message that its statement does not cover: the digest of a blob confirms its leaves."""

_OPENING = b"fednet opening 6"
_TRANSCRIPT = b"fednet transcript 6"


def statement(run: str, message: Message) -> bytes:
    """The bytes that the author of a message signs: its run, its kind and every field that is signed."""
    return _joined(run.encode(), message.kind.encode(), canonical(message))


def opening_digest(run: str, opened: RoundOpen) -> str:
    """SHA-256 over everything that an opening says, 64 lower-case hexadecimal digits."""
    return sha256(_joined(_OPENING, statement(run, opened))).hexdigest()


def transcript(run: str, opening: str, advertised: Mapping[str, Message]) -> str:
    """SHA-256 over an opening and what its members have answered it with, signatures included.

    Args:
        run: the run's name.
        opening: the digest of the opening.
        advertised: the signed message of every member that counts, by name.

    Returns:
        64 lower-case hexadecimal digits.
    """
    parts = [_OPENING, opening.encode()]
    for name, message in sorted(advertised.items()):
        parts += [name.encode(), statement(run, message), getattr(message, "signature", b"")]
    return sha256(_joined(_TRANSCRIPT, *parts)).hexdigest()


def canonical(value: WireValue) -> bytes:
    """One sequence of bytes for the fields of a value, whatever the order in which its maps were built."""
    return canonical_map(value.model_dump(exclude=UNSIGNED))


def canonical_map(values: dict[str, Any]) -> bytes:
    """The same for a map of plain values."""
    packed: bytes = msgpack.packb(_sorted(values))
    return packed


def is_same(one: WireValue, other: WireValue) -> bool:
    """Whether two values say the same but for what is not signed; NaN is the same as NaN."""
    return canonical(one) == canonical(other)


def _sorted(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return [[key, _sorted(value[key])] for key in sorted(value)]
    if kind is tuple or kind is list:
        return [_sorted(each) for each in value]
    return value


def _joined(*parts: bytes) -> bytes:
    """The parts, each after its length: two different sequences never give the same bytes."""
    return b"".join(piece for part in parts for piece in (len(part).to_bytes(8, "big"), part))

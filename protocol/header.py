"""The header as bytes: one msgpack array, `[version, kind, run, sender, incarnation, number, body]`.

It holds all of a message but the bytes of its tensors. Its first two bytes are the array's length and the version, in
every version of the protocol, so that another version is recognised before anything else is decoded. The reader is safe
for hostile bytes: a length that no bytes follow takes no memory. Knows no messages and no tensors; values that msgpack
does not know are converted by the caller, as extensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from protocol.errors import EncodingError, LimitError, WireError
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.topics import is_name

VERSION = 8
"""The version of the wire; all nodes of a run have the same."""

_SENDER_ENDS = 256  # bytes, within which every valid header names its sender
_FIXARRAY = 0x90  # msgpack: an array of up to 15 items, their number in the low four bits


class Header(NamedTuple):
    """The array, field by field; `body` holds the message's fields by name."""

    version: int
    kind: str
    run: str
    sender: str
    incarnation: int
    number: int
    body: dict[str, Any]


_TYPES = (int, str, str, str, int, int, dict)


def write(header: Header, extension: Callable[[object], object]) -> bytes:
    """The header's bytes.

    Args:
        header: what to write.
        extension: converts a value that msgpack does not know to one that it knows, or raises TypeError.

    Raises:
        EncodingError: a value has no encoding.
    """
    try:
        return bytes(msgpack.packb(header, default=extension))
    except (TypeError, ValueError, OverflowError) as error:
        raise EncodingError("a field cannot be encoded", kind=header.kind, error=str(error)) from error


def claimed_sender(frame: Buffer) -> str | None:
    """The sender that a header names, even if nothing else in it is valid; None if there is none."""
    if len(frame) < 2 or frame[0] & 0xF0 != _FIXARRAY or frame[1] != VERSION:
        return None
    unpacker = msgpack.Unpacker(max_buffer_size=_SENDER_ENDS)
    unpacker.feed(frame[:_SENDER_ENDS])
    try:
        unpacker.read_array_header()
        for _ in range(3):  # version, kind, run
            unpacker.skip()
        sender = unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        return None
    return sender if isinstance(sender, str) and is_name(sender) else None


def read(frame: memoryview, extension: Callable[[int, bytes], object], limits: Limits) -> Header:
    """The header in a peer's frame, with items of the right types; the fields of its body are not validated.

    Args:
        frame: the bytes.
        extension: decodes (type, bytes) of an extension; raises WireError if it cannot.
        limits: that are applied.

    Raises:
        WireError: the bytes are not a header of this version.
    """
    if len(frame) > limits.max_header_bytes:
        raise LimitError("header is too long", bytes=len(frame), most=limits.max_header_bytes)
    if len(frame) < 2 or frame[0] & 0xF0 != _FIXARRAY:
        raise WireError("header is not a msgpack array")
    if frame[1] != VERSION:
        raise WireError("peer speaks another version of the protocol", theirs=frame[1], ours=VERSION)
    try:
        _check_complete(frame)
        fields = msgpack.unpackb(
            frame,
            use_list=False,
            ext_hook=extension,
            object_pairs_hook=_unique_keys,
            max_array_len=limits.max_items,
            max_map_len=limits.max_items,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError("header is not msgpack, or has too many items", error=str(error)) from None
    _check_depth(fields, limits.max_depth)
    if tuple(map(type, fields)) != _TYPES:
        raise WireError("header is not [version, kind, run, sender, incarnation, number, body]")
    return Header(*fields)


def _check_complete(frame: memoryview) -> None:
    """Walks a msgpack value without building it: a length that no bytes follow is rejected here, at no cost."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(frame))
    unpacker.feed(frame)
    unpacker.skip()


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise WireError("a map has the same key twice")
    return entries


def _check_depth(fields: Any, max_depth: int) -> None:
    """Descends level by level, not by recursion, and no deeper than allowed."""
    level = [fields]
    for _ in range(max_depth):
        level = [
            each
            for container in level
            for each in (container.values() if type(container) is dict else container)
            if type(each) is dict or type(each) is tuple
        ]
        if not level:
            return
    raise LimitError("header is nested too deeply", most=max_depth)

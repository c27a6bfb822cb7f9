"""The header alone: versions, malformed msgpack, and depth."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from protocol import header
from protocol.errors import EncodingError, LimitError, WireError
from protocol.header import VERSION, Header
from protocol.limits import DEFAULT, Limits

GOOD: tuple[Any, ...] = (VERSION, "goodbye", "r", "anna", 5, 0, {"reason": "x"})


def read(data: bytes, limits: Limits = DEFAULT) -> Header:
    def extension(code: int, payload: bytes) -> object:
        raise WireError("no extension is expected here", type=code, payload=payload)

    return header.read(memoryview(data), extension, limits)


def refuse(value: object) -> object:
    raise TypeError(f"cannot write {value!r}")


def test_what_is_written_is_read() -> None:
    written = header.write(Header(*GOOD), refuse)
    assert read(written) == GOOD
    assert written[:2] == bytes([0x97, VERSION])


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**64, "\udc80"])
def test_what_has_no_form_cannot_be_written(value: object) -> None:
    with pytest.raises(EncodingError, match="goodbye"):
        header.write(Header._make((*GOOD[:6], {"reason": value})), refuse)


@pytest.mark.parametrize("items", [1, 3, 7, 9, 15])
def test_another_version_is_named_whatever_its_header_holds(items: int) -> None:
    for tail in (b"", b"\xc1" * 30, b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(WireError, match=f"another version .*theirs=9, ours={VERSION}"):
            read(bytes([0x90 + items, 9]) + tail)


def test_every_position_has_its_type() -> None:
    for position in range(1, 7):
        values: list[Any] = [None, True, 1.0, b"x", [], "x", {}, 1]
        for wrong in values:
            if type(wrong) is not type(GOOD[position]):
                with pytest.raises(WireError):
                    read(msgpack.packb([*GOOD[:position], wrong, *GOOD[position + 1 :]]))


@pytest.mark.parametrize("count", [0, 1, 6, 8])
def test_seven_items_are_expected(count: int) -> None:
    with pytest.raises(WireError):
        read(msgpack.packb([*GOOD, "more"][:count]))


@pytest.mark.parametrize("data", [b"", b"\x97", b"\x80", b"\xa1x", b"\x01", b"\xdc\x00\x07\x01", b"\xc1\x01"])
def test_anything_but_a_short_array_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="header is not a msgpack array"):
        read(data)


def test_a_header_ends_where_its_bytes_end() -> None:
    written = msgpack.packb(GOOD)
    for length in range(len(written)):
        with pytest.raises(WireError):
            read(written[:length])
    with pytest.raises(WireError):
        read(written + b"\xc0")


def test_a_key_occurs_once() -> None:
    body = b"\x82\xa6reason\xa1x\xa6reason\xa1y"
    with pytest.raises(WireError, match="same key twice"):
        read(msgpack.packb(GOOD)[: -len(msgpack.packb(GOOD[6]))] + body)


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",)])
def test_a_key_is_a_string(key: object) -> None:
    with pytest.raises(WireError):
        read(msgpack.packb((*GOOD[:6], {key: 1})))


def test_a_string_is_unicode() -> None:
    with pytest.raises(WireError):
        read(msgpack.packb(GOOD).replace(b"\xa1x", b"\xa1\xff"))


def nested(depth: int, opening: bytes) -> bytes:
    """A header whose body holds arrays or maps within each other, `depth` levels in all."""
    return msgpack.packb((*GOOD[:6], {}))[:-1] + b"\x81\xa1a" + opening * (depth - 2) + b"\xc0"


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"])
def test_depth_is_limited(opening: bytes) -> None:
    assert read(nested(DEFAULT.max_depth, opening))
    with pytest.raises(LimitError, match="nested too deeply"):
        read(nested(DEFAULT.max_depth + 1, opening))
    for depth in (100, 500, 1020, 1024, 5000, 50_000):
        with pytest.raises(WireError):
            read(nested(depth, opening))


def test_items_are_limited() -> None:
    limits = Limits(max_items=7)
    assert read(msgpack.packb((*GOOD[:6], {"a": list(range(7))})), limits)
    for many in (list(range(8)), {str(key): key for key in range(8)}):
        with pytest.raises(WireError, match="too many items"):
            read(msgpack.packb((*GOOD[:6], {"a": many})), limits)


def test_bytes_are_limited() -> None:
    written = msgpack.packb(GOOD)
    assert read(written, Limits(max_header_bytes=len(written)))
    with pytest.raises(LimitError, match="header is too long"):
        read(written, Limits(max_header_bytes=len(written) - 1))


def test_the_claimed_sender_is_read_even_if_nothing_else_is_valid() -> None:
    assert header.claimed_sender(header.write(Header(*GOOD), refuse)) == "anna"
    assert (
        header.claimed_sender(header.write(Header(VERSION, "k" * 64, "r" * 64, "n" * 32, 2**63, 0, {}), refuse))
        == "n" * 32
    )
    assert header.claimed_sender(msgpack.packb([VERSION, 1, [2], "anna"])) == "anna"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x97",
        msgpack.packb([VERSION - 1, *GOOD[1:]]),
        msgpack.packb([VERSION, "goodbye", "r", 7]),
        msgpack.packb([VERSION, "goodbye", "r", "no name/"]),
        msgpack.packb([VERSION, "goodbye", "r", b"anna"]),
        msgpack.packb([VERSION, "goodbye", "r" * 300, "anna"]),
        msgpack.packb([VERSION, "goodbye"]),
        bytes([0x97, VERSION, 0xC1, 0xC1, 0xC1]),
        bytes([0x97, VERSION, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF]),
        bytes([0x97, VERSION]) + b"\x91" * 250,
    ],
)
def test_without_a_valid_name_there_is_no_claimed_sender(frame: bytes) -> None:
    assert header.claimed_sender(memoryview(frame)) is None

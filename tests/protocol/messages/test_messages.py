"""What holds for every kind of message alike, by its golden frames in `tests/vectors`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol.codec import decode
from protocol.errors import WireError
from protocol.messages import KINDS, Message, OfferMessage

VECTORS = sorted(path for path in (Path(__file__).parents[2] / "vectors").glob("*.json"))


def frames_of(path: Path) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in json.loads(path.read_text())["frames"]]


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str | bytes]]:
    """Every text and every bytes in a body, with the way to it."""
    if isinstance(value, str | bytes):
        yield way, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*way, key))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_no_text_travels_as_bytes_and_no_bytes_as_text(path: Path) -> None:
    topic, header, *buffers = frames_of(path)
    for way, leaf in leaves(msgpack.unpackb(header)[6]):
        fields = msgpack.unpackb(header)
        *parents, last = way
        place = fields[6]
        for key in parents:
            place = place[key]
        place[last] = leaf.encode() if isinstance(leaf, str) else leaf.hex()
        with pytest.raises(WireError, match="a field is invalid"):
            decode([topic, msgpack.packb(fields), *buffers])


def test_a_kind_is_named_after_its_class() -> None:
    for kind, message in KINDS.items():
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower()
        assert snake == kind or message is OfferMessage, "the value that methods see is the `Offer`"
        assert message.kind == kind


def test_every_class_of_a_message_is_a_kind() -> None:
    def made(of: type[Message]) -> Iterator[type[Message]]:
        for each in of.__subclasses__():
            if "kind" in vars(each):
                yield each
            yield from made(each)

    mine = {each for each in made(Message) if each.__module__.startswith("protocol.")}
    assert mine == set(KINDS.values())

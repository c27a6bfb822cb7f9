"""Names, topics, addresses and join requests: valid and invalid ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.codec import decode
from protocol.errors import EncodingError, WireError
from protocol.messages import KINDS
from protocol.topics import (
    JoinRequest,
    inbox,
    is_address,
    is_name,
    is_run,
    is_topic,
    may_subscribe,
    parse_join_request,
)

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "protocol" / "PROTOCOL.md"
VECTORS = sorted((ROOT / "tests" / "vectors").glob("*.json"))

ADDRESSES = [
    "tcp://127.0.0.1:5555",
    "tcp://node-3.cluster.example:1",
    "tcp://[::1]:65535",
    "tcp://[fe80::1%eth0]:9000",
    "ipc:///tmp/fednet/anna",
    "ipc:///home/Zoë/my runs/anna",
    "ipc://@abstract/anna",
    "inproc://anna",
    "memory://anna.1",
]


@pytest.mark.parametrize("name", ["a", "0", "anna", "site-12_b", "a" * 32])
def test_names(name: str) -> None:
    assert is_name(name)
    assert is_run(name)
    assert is_topic(inbox(name))


@pytest.mark.parametrize("name", ["", "-a", "_a", "Anna", "a b", "a/b", "a.b", "zoë", "a\n", "a" * 33])
def test_invalid_names(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(EncodingError, match="name"):
        inbox(name)


def test_runs_may_be_longer_and_have_dots() -> None:
    assert is_run("digits-0.5" + "x" * 54)
    assert not any(map(is_run, ("", ".hidden", "a/b", "..", "x" * 65, "a\n")))


def test_topics() -> None:
    constants = (topics.PRESENCE, topics.QUERIES, topics.PROGRESS, topics.HEARTBEATS)
    assert all(map(is_topic, (*constants, "a/b/c/")))
    assert not any(map(is_topic, ("", "/", "a", "a//", "/a/", "a/b", "a/b/c/d/", "A/", "a/\n", "to/ a/")))


def test_no_inbox_begins_with_another() -> None:
    assert not inbox("ab").startswith(inbox("a"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address: str) -> None:
    assert is_address(address)
    for signature in (b"", bytes(range(64))):
        for run in ("", "digits"):
            request = JoinRequest("anna", 17, run, address, signature)
            assert parse_join_request(request.topic.encode()) == request


@pytest.mark.parametrize(
    "address",
    [
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://host:080",
        "tcp://*:5555",
        "tcp://ho st:5555",
        "tcp://host:5555/",
        "tcp://host:5555\n",
        "tcp://::1:5555",
        "udp://host:5555",
        "file:///etc/passwd",
        "ipc://",
        "ipc://*",
        "ipc:///tmp/a\nb",
        "ipc:///tmp/a\0b",
        "ipc:///tmp/\udc80",
        "ipc:///" + "a" * 200,
        "ipc:///" + "ë" * 100,
        "memory://a/b",
        "inproc://",
        " tcp://host:1",
    ],
)
def test_invalid_addresses(address: str) -> None:
    assert not is_address(address)
    with pytest.raises(EncodingError, match="a join request needs"):
        JoinRequest("anna", 1, "digits", address).topic  # noqa: B018


def test_the_longest_join_request_fits() -> None:
    address = "ipc://" + "a" * (topics.MAX_ADDRESS_BYTES - 6)
    longest = JoinRequest("a" * 32, topics.LARGEST, "a" * 64, address, bytes(topics.SIGNATURE_BYTES)).topic
    assert len(longest) <= topics.MAX_JOIN_BYTES
    assert parse_join_request(longest.encode()).incarnation == topics.LARGEST


@pytest.mark.parametrize(
    "wrong", [{"incarnation": -1}, {"incarnation": 2**63}, {"name": "Anna"}, {"run": "a/b"}, {"signature": bytes(63)}]
)
def test_a_join_request_of_wrong_parts_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodingError):
        replace(JoinRequest("anna", 1, "digits", "memory://a"), **wrong).topic  # noqa: B018


def test_what_is_signed_covers_every_part() -> None:
    request = JoinRequest("anna", 1, "digits", "memory://a")
    others = [{"name": "ben"}, {"incarnation": 2}, {"run": ""}, {"address": "memory://b"}]
    assert len({request.statement, *(replace(request, **other).statement for other in others)}) == 5  # type: ignore[arg-type]
    assert replace(request, signature=bytes(64)).statement == request.statement


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"join/",
        b"join/anna/",
        b"join/anna/1/",
        b"join/anna/1///",
        b"join/anna/1/memory://a/",
        b"join/anna/1//memory://a/",
        b"join/anna/1/r//memory://a",
        b"join/anna/1/r//memory://a/x/",
        b"join/anna/1/r//memory://a//",
        b"join/anna/01/r//memory://a/",
        b"join/anna/-1/r//memory://a/",
        b"join/anna/+1/r//memory://a/",
        b"join/anna/9223372036854775808/r//memory://a/",
        b"join/anna/99999999999999999999/r//memory://a/",
        "join/anna/\u0661/r//memory://a/".encode(),
        b"join/Anna/1/r//memory://a/",
        b"join//1/r//memory://a/",
        b"join/anna/1/R//memory://a/",
        b"join/anna/1/r/00/memory://a/",
        b"join/anna/1/r/" + b"0" * 126 + b"/memory://a/",
        b"join/anna/1/r/" + b"A" * 128 + b"/memory://a/",
        b"Join/anna/1/r//memory://a/",
        b"xjoin/anna/1/r//memory://a/",
        b"join/anna/1/r//memory://a/\n",
        b"join/anna/1/r//ipc:///tmp/\xff/",
        b"join/anna/1/r//ipc:///tmp/\n/",
        b"join/anna/1/r//tcp://h:0/",
        b"join/anna/1/r//ipc:///" + b"a" * 500 + b"/",
    ],
)
def test_invalid_join_requests(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_join_request(data)


@given(data=st.binary(max_size=80).map(lambda tail: b"join/a/1/r//" + tail) | st.binary(max_size=300))
def test_noise_is_a_join_request_only_if_it_is_spelled_like_one(data: bytes) -> None:
    try:
        request = parse_join_request(data)
    except WireError:
        return
    assert request.topic.encode() == data


def test_heartbeats_have_the_address_beside_the_messages() -> None:
    assert topics.heartbeat_address("tcp://[::1]:5000") == "tcp://[::1]:5001"
    assert topics.heartbeat_address("ipc:///tmp/a") == "ipc:///tmp/a.heartbeat"
    assert topics.heartbeat_address("memory://a") == "memory://a"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("ipc:///tmp/a", True),
        ("tcp://127.0.0.1:5", True),
        ("tcp://127.8.0.1:5", True),
        ("tcp://[::1]:5", True),
        ("tcp://localhost:5", True),
        ("tcp://0.0.0.0:5", False),
        ("tcp://*:5", False),
        ("tcp://10.0.0.1:5", False),
        ("tcp://localhost.example.org:5", False),
        ("tcp://127.example.org:5", False),
    ],
)
def test_local_is_what_nobody_else_can_reach(address: str, local: bool) -> None:
    assert topics.is_local(address) is local


@pytest.mark.parametrize(
    ("address", "bindable"),
    [
        ("tcp://127.0.0.1:0", True),
        ("tcp://*:5000", True),
        ("tcp://[::1]:5000", True),
        ("tcp://127.0.0.1:65534", True),
        ("tcp://127.0.0.1:65535", False),
        ("tcp://127.0.0.1:99999", False),
        ("ipc:///tmp/a", True),
        ("tcp://127.0.0.1", False),
        ("bla", False),
    ],
)
def test_what_a_node_may_bind(address: str, bindable: bool) -> None:
    assert topics.is_listen(address) is bindable


def test_an_address_may_name_the_holder_of_the_key() -> None:
    for plain in ("tcp://10.0.0.1:7000", "tcp://[::1]:7000", "ipc:///run/hub", "memory://hub"):
        assert topics.is_address(f"hub@{plain}")
        assert topics.split_endpoint(f"hub@{plain}") == ("hub", plain)
        assert topics.split_endpoint(plain) == ("", plain)
        assert topics.heartbeat_address(f"hub@{plain}") == f"hub@{topics.heartbeat_address(plain)}"
        assert topics.inward_address(f"hub@{plain}") == f"hub@{topics.inward_address(plain)}"
        assert topics.is_local(f"hub@{plain}") == topics.is_local(plain)
        behind = JoinRequest("a", 1, "r", f"hub@{plain}")
        assert parse_join_request(behind.topic.encode()) == behind
    for wrong in ("@tcp://10.0.0.1:7000", "Hub@tcp://10.0.0.1:7000", "a@b@tcp://10.0.0.1:7000", "hub@", "hub"):
        assert not topics.is_address(wrong)


class TestKinds:
    """Which kinds a topic carries."""

    def test_every_kind_has_the_topics_of_the_specification_and_no_other(self) -> None:
        rows = re.findall(r"^\| `(\S+/)` \| [^|]+ \| (`.+`) \|$", PROTOCOL.read_text(), re.MULTILINE)
        specified = {topic.removesuffix("<name>/"): frozenset(re.findall("`(.+?)`", kinds)) for topic, kinds in rows}
        assert specified == topics.KINDS_BY_TOPIC
        assert frozenset().union(*specified.values()) == KINDS.keys()

    @pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
    def test_a_message_is_valid_on_these_and_invalid_on_all_others(self, path: Path) -> None:
        _, *rest = (bytes.fromhex(frame) for frame in json.loads(path.read_text())["frames"])
        kind = msgpack.unpackb(rest[0])[1]
        for topic, kinds in topics.KINDS_BY_TOPIC.items():
            said = [(inbox("zoe") if topic == topics.INBOX else topic).encode(), *rest]
            if kind in kinds:
                assert decode(said).message.kind == kind
            else:
                with pytest.raises(WireError, match="is not published under this topic"):
                    decode(said)

    @pytest.mark.parametrize("topic", ["to/", "to/zoe/x/", "rounds/x/", "other/", "join/"])
    def test_no_message_is_valid_on_a_topic_of_no_row(self, topic: str) -> None:
        assert not any(topics.carries(topic, kind) for kind in KINDS)


class TestSubscriptions:
    @pytest.mark.parametrize("topic", ["to/ben/", "presence/", "rounds/", "join/ben/1/r//memory://ben/", "anything/"])
    def test_a_peer_may_subscribe_to_groups_and_to_its_inbox(self, topic: str) -> None:
        assert may_subscribe("ben", topic.encode())

    @pytest.mark.parametrize(
        "topic",
        [b"", b"t", b"to/", b"to/b", b"to/ben", b"to/anna/", b"to/anna/x/", b"to/ben/x/", b"join/anna/1/r//memory://ben/",
         b"join/", b"join/be", b"presence", b"\xff/", b"to/ben/\0"],
    )  # fmt: skip
    def test_it_may_subscribe_to_nothing_else(self, topic: bytes) -> None:
        assert not may_subscribe("ben", topic)

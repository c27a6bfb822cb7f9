"""What the messages of presence accept."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from protocol.messages import Capabilities, Goodbye, Heartbeat, Hello, PeerInfo

PEER: dict[str, Any] = {
    "name": "anna",
    "incarnation": 1,
    "role": "client",
    "address": "tcp://127.0.0.1:5000",
    "heartbeat_address": "tcp://127.0.0.1:5001",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Anna"},
        {"name": "anna\n"},
        {"name": "a/b"},
        {"incarnation": -1},
        {"incarnation": 2**63},
        {"incarnation": 1.0},
        {"incarnation": True},
        {"role": "leader"},
        {"address": "tcp://*:5000"},
        {"address": "http://127.0.0.1:5000"},
        {"heartbeat_address": ""},
        {"port": 5000},
    ],
)
def test_a_peer_is_described_exactly(wrong: dict[str, Any]) -> None:
    assert PeerInfo(**PEER).name == "anna"
    with pytest.raises(ValidationError):
        PeerInfo(**(PEER | wrong))


def test_a_hello_names_the_members_that_its_sender_knows() -> None:
    hello = Hello.model_validate(
        {"peer": PEER, "receiver_incarnation": 2, "members": (PEER,) * 256, "latest": {"queries/": 3}}
    )
    assert hello.members[0] == hello.peer
    wrongs: list[dict[str, Any]] = [
        {"members": (PEER,) * 257}, {"members": ({},)}, {"peer": None}, {"latest": {"queries": 3}}
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            Hello.model_validate({"peer": PEER, "receiver_incarnation": 2, "members": (), "latest": {}} | wrong)


@pytest.mark.parametrize("latest", [{"queries": 1}, {"": 1}, {"queries/": -1}, {"queries/": 1.0}, {1: 1}, ["queries/"]])
def test_latest_numbers_are_counts_by_topic(latest: Any) -> None:
    with pytest.raises(ValidationError):
        Heartbeat(tick=1, latest=latest)


def test_latest_numbers_are_of_at_most_1024_topics() -> None:
    latest = {f"t{index}/": index for index in range(1024)}
    assert Heartbeat(tick=0, latest=latest).latest == latest
    with pytest.raises(ValidationError):
        Heartbeat(tick=0, latest=latest | {"more/": 1})


def test_capabilities_are_measured_in_bytes() -> None:
    assert Capabilities(text="x" * 16384, ready=True).ready
    for text in ("x" * 16385, "ë" * 8193):
        with pytest.raises(ValidationError):
            Capabilities(text=text, ready=True)
    with pytest.raises(ValidationError):
        Capabilities(text="{}", ready=1)  # type: ignore[arg-type]


def test_a_goodbye_is_short() -> None:
    assert Goodbye(reason="x" * 500).reason
    with pytest.raises(ValidationError):
        Goodbye(reason="x" * 501)


def test_messages_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Goodbye(reason="a").reason = "b"  # type: ignore[misc]

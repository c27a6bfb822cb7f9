"""What each role may say: every kind of message stands in one row, and each role's rows are those below it, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol import codec
from protocol.messages import KINDS, Hello, Message, PeerInfo, RetransmitRequest
from protocol.security.key_roles import RIGHTS, KeyRole, Right, may_hear
from protocol.security.keys import PrivateKeys, PublicKeys
from protocol.security.roles import KINDS_OF_RIGHTS, KINDS_OF_ROLES, refusal
from protocol.topics import KINDS_BY_TOPIC

VECTORS = Path(__file__).parents[2] / "vectors"


def message(file: str) -> Message:
    """A message of the golden frames."""
    frames = json.loads((VECTORS / f"{file}.json").read_text())["frames"]
    return codec.decode([bytes.fromhex(frame) for frame in frames]).message


MESSAGES = {
    found.kind: found
    for found in (message(path.stem) for path in sorted(VECTORS.glob("*.json")) if path.stem != "rounds-request-given")
}

PRESENT = KINDS_OF_ROLES["monitor"] - {"hello"}
"""What is said by everybody; the golden hello is a client's."""


def keys(role: KeyRole, *may: Right) -> PublicKeys:
    return PrivateKeys.make("bob", role, may).public


def said(public: PublicKeys) -> set[str]:
    """The kinds that a role may say."""
    return {kind for kind, each in MESSAGES.items() if not refusal(public, each)}


def test_every_kind_stands_in_one_row() -> None:
    rows = [*KINDS_OF_ROLES.values(), frozenset(KINDS_OF_RIGHTS)]
    assert sum(map(len, rows)) == len(frozenset().union(*rows)) == len(KINDS)
    assert frozenset().union(*rows) == frozenset(KINDS) == frozenset().union(*KINDS_BY_TOPIC.values())
    assert set(MESSAGES) == set(KINDS), "there is a golden frame of each"


def test_a_client_may_say_everything_and_a_relay_nothing() -> None:
    assert said(keys("client")) == set(KINDS)
    assert said(keys("relay")) == set()


def test_a_monitor_is_there_and_no_more() -> None:
    assert said(keys("monitor")) == PRESENT


@pytest.mark.parametrize(
    ("may", "more"),
    [
        ((), set()),
        (("ask",), {"query_request"}),
        (("rounds",), {"rounds_request", "record_request", "exchange_request"}),
        (("models",), {"record_request", "chunk", "chunk_unavailable"}),
    ],
)
def test_a_guest_may_do_what_it_has_a_right_to(may: tuple[Right, ...], more: set[str]) -> None:
    assert said(keys("guest", *may)) == {*PRESENT, "progress_report", *more}


def test_to_give_a_model_is_another_right_than_to_have_rounds_held() -> None:
    given = message("rounds-request-given")
    assert "needs the right models" in refusal(keys("guest", "rounds", "ask"), given)
    assert not refusal(keys("guest", "models"), given)
    assert "needs the right rounds" in refusal(keys("guest", "models"), MESSAGES["rounds_request"])


@pytest.mark.parametrize(
    ("role", "as_role", "may"),
    [
        ("client", "client", True), ("client", "monitor", True), ("guest", "guest", True), ("guest", "monitor", True),
        ("guest", "client", False), ("monitor", "guest", False), ("monitor", "client", False),
        ("relay", "monitor", False),
    ],
)  # fmt: skip
def test_nobody_takes_part_as_more_than_it_is_let_in_as(role: KeyRole, as_role: str, may: bool) -> None:
    hello = MESSAGES["hello"]
    assert isinstance(hello, Hello)
    peer = PeerInfo.model_validate({**hello.peer.model_dump(), "role": as_role})
    assert (not refusal(keys(role), hello.model_copy(update={"peer": peer}))) == may


def test_the_reason_names_who_and_as_what() -> None:
    assert refusal(keys("monitor"), MESSAGES["query_request"]) == "bob, let in as a monitor, may not say query_request"
    asked = refusal(keys("guest", "ask"), MESSAGES["rounds_request"])
    assert asked == "bob, let in as a guest who may ask, needs the right rounds to say rounds_request"


@pytest.mark.parametrize("role", ["guest", "monitor"])
def test_queries_rounds_and_exchanges_are_heard_by_clients_alone(role: KeyRole) -> None:
    for topic in (b"presence/", b"progress/", b"heartbeat/", b"to/bob/", b"join/bob/1/r//memory://bob/"):
        assert may_hear(keys(role), topic)
    for topic in (b"queries/", b"rounds/", b"exchange/", b"other/"):
        assert not may_hear(keys(role), topic)
        assert may_hear(keys("client"), topic)


@pytest.mark.parametrize("role", ["client", "guest", "monitor"])
@pytest.mark.parametrize("topic", ["queries/", "rounds/", "exchange/", "presence/", "progress/", "to/bob/", "other/"])
def test_whoever_may_not_hear_a_topic_may_not_request_it_again(role: KeyRole, topic: str) -> None:
    request = RetransmitRequest(topic=topic, first=1, last=2, incarnation=1)
    assert bool(refusal(keys(role, *RIGHTS if role == "guest" else ()), request)) is not may_hear(
        keys(role), topic.encode()
    )

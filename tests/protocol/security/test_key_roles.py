"""Who is let in as the one may take part as the other, and who hears what is for clients."""

from __future__ import annotations

from typing import get_args

import pytest

from protocol.security.key_roles import RIGHTS, KeyRole, Right, may_hear, may_take_part
from protocol.security.keys import PrivateKeys


def test_a_client_may_be_all_and_each_role_what_is_below_it() -> None:
    order: tuple[KeyRole, ...] = ("relay", "monitor", "guest", "client")
    assert set(order) == set(get_args(KeyRole))
    for place, role in enumerate(order):
        assert [may_take_part(role, other) for other in order] == [below <= place for below in range(4)]
    assert get_args(Right) == RIGHTS


@pytest.mark.parametrize("topic", ["queries/", "rounds/", "exchange/"])
def test_conversations_are_heard_by_clients_only(topic: str) -> None:
    for role in get_args(KeyRole):
        assert may_hear(PrivateKeys.make("x", role).public, topic.encode()) is (role == "client")
        assert may_hear(PrivateKeys.make("x", role).public, b"presence/")
    assert not may_hear(None, b"presence/")

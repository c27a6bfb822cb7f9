"""Who is let in no more is forgotten, and comes back as somebody new; an earlier life never replaces a later one."""

from __future__ import annotations

from protocol.messages.presence import PeerInfo
from protocol.presence import DisconnectFrom, PeerDeparted, Presence


def info(name: str) -> PeerInfo:
    address = f"memory://{name}"
    return PeerInfo(name=name, incarnation=1, role="client", address=address, heartbeat_address=address)


def member() -> Presence:
    return Presence(info("me"))


def link(presence: Presence, name: str) -> None:
    list(presence.hello(info(name), (), 0.0))
    list(presence.welcome(name, 1, 1, 0.0))
    assert name in presence.linked()


class TestForgetting:
    def test_who_is_let_in_no_more_departs_and_is_forgotten(self) -> None:
        presence = member()
        link(presence, "a")
        outcomes = list(presence.bar("a", "revoked", forget=True))
        assert outcomes[0] == PeerDeparted(info("a"), "revoked", graceful=False)
        assert {type(outcome) for outcome in outcomes[1:]} == {DisconnectFrom}
        assert (presence.state("a"), presence.members()) == (None, (presence.me,))
        assert list(presence.heartbeat("a", 1, 8, 33.0)) == []

    def test_its_join_request_is_forgotten_as_well(self) -> None:
        presence = member()
        list(presence.join_request("a", 1, "memory://a", 0.0))
        assert list(presence.bar("a", "revoked", forget=True)) == [DisconnectFrom("memory://a")]
        assert list(presence.sweep(10.0)) == []
        assert not presence.asks_to_join("a")


def test_an_earlier_life_does_not_replace_a_later_one_that_asks_to_join() -> None:
    """Whoever has seen a join request may repeat it, at a relay where its node has not been heard yet."""
    presence = member()
    list(presence.join_request("a", 2, "memory://new", 0.0))
    assert list(presence.join_request("a", 1, "memory://old", 1.0)) == []
    assert (presence.asks_to_join("a"), presence.asks_to_join("b")) == (2, None)
    assert DisconnectFrom("memory://new", "a") in list(presence.join_request("a", 3, "memory://newer", 2.0))

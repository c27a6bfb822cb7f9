"""What two readings of the trusted keys differ in."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from protocol.security.keys import Keyring, PrivateKeys
from protocol.security.revocation import revoked

ANNA = PrivateKeys.make("anna")
BEN, CLEO = PrivateKeys.make("ben").public, PrivateKeys.make("cleo", "guest").public
HUB = PrivateKeys.make("hub", "relay").public
TODAY = date(2027, 1, 31)


def test_who_is_trusted_as_before_stays() -> None:
    before = Keyring.of(ANNA, [BEN, CLEO, HUB])
    assert revoked(before, before, TODAY) == {}
    assert revoked(before, Keyring.of(ANNA, [HUB, CLEO, BEN, PrivateKeys.make("new").public]), TODAY) == {}
    longer = [BEN.granted(ANNA, "client", (), TODAY), CLEO.granted(ANNA, "guest", ("ask",))]
    assert revoked(before, Keyring.of(ANNA, [*longer, HUB]), TODAY) == {}, "rights are asked for every message"


def test_members_and_relays_that_are_gone_are_named() -> None:
    assert revoked(Keyring.of(ANNA, [BEN, CLEO, HUB]), Keyring.of(ANNA, [CLEO]), TODAY) == {
        "ben": "its keys were revoked",
        "hub": "its keys were revoked",
    }


def test_other_keys_and_another_role_are_another_node() -> None:
    before = Keyring.of(ANNA, [BEN, CLEO])
    after = Keyring.of(ANNA, [BEN.granted(ANNA, "guest", ("ask",)), PrivateKeys.make("cleo", "guest").public])
    assert revoked(before, after, TODAY) == {
        "ben": "it is let in as a guest now",
        "cleo": "its keys were replaced",
    }


@pytest.mark.parametrize(("days", "over"), [(0, False), (1, True)])
def test_keys_are_trusted_to_the_end_of_their_last_day(days: int, over: bool) -> None:
    before = Keyring.of(ANNA, [BEN.granted(ANNA, "client", (), TODAY), CLEO])
    day = TODAY + timedelta(days)
    expected = {"ben": "its keys were trusted until 2027-01-31"} if over else {}
    assert revoked(before, before.current(day), day) == expected
    assert before.current(TODAY) is before

"""The way in: one fault is dropped, a habit of faults is quarantined for a while, and others go in and out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nodes.accounts import Accounts
from nodes.inbound_filter import InboundFilter
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.messages import Goodbye
from protocol.security.authentication import NullSecurity, Security
from protocol.security.budget import Allowance, Budget, Cost
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.security.quarantine import Leniency
from protocol.topics import PRESENCE

KEYS = {name: PrivateKeys.make(name) for name in "abc"}
LENIENCY = Leniency(faults=3, first=10)


class Inbound:
    """A filter, and what it reported."""

    def __init__(self, security: Security | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []
        self.barred: list[tuple[str, str]] = []
        refuse = lambda kind, _why: self.refused.append(kind)  # noqa: E731
        bar = lambda name, why: self.barred.append((name, why))  # noqa: E731
        budget = Budget({Cost.MESSAGES: Allowance(100, 100), Cost.REPEATED: Allowance(0, 100)})
        self.accounts = Accounts(refuse, bar, budget=budget, leniency=LENIENCY, believes=security is None)
        self.inbound_filter = InboundFilter(security or NullSecurity(), self.accounts, self.counts, Limits())

    def hears(self, frames: list[Buffer], now: float = 0.0, **said: Any) -> bool:
        return self.inbound_filter.read(frames, now, **said) is not None


def keyed_security() -> Security:
    return KeyedSecurity(Keyring.of(KEYS["c"], [keys.public for keys in KEYS.values()]), 1)


def said(name: str) -> list[Buffer]:
    return codec.encode(Envelope(PRESENCE, "test", name, 1, 0, Goodbye(reason="bye")))


def spoilt(name: str) -> list[Buffer]:
    return [*said(name), b"a frame too many"]


def test_what_is_well_formed_goes_in() -> None:
    inbound = Inbound()
    assert inbound.hears(said("a"))
    assert (inbound.refused, inbound.barred) == ([], [])


def test_the_third_fault_shuts_it_for_its_culprit_and_for_nobody_else() -> None:
    inbound = Inbound()
    assert not any(inbound.hears(spoilt("a")) for _ in range(3))
    ((name, why),) = inbound.barred
    assert name == "a"
    assert why.startswith("quarantined for 10 s: a frame belongs to no tensor")
    assert not inbound.hears(said("a"), 9.9)
    assert inbound.counts["quarantined"] == 1
    assert inbound.hears(said("b"), 9.9)
    assert inbound.hears(said("a"), 10.1)


@pytest.mark.parametrize(
    "frames", [[b"presence/"], [b"presence/", b""], [b"presence/", b"\x97\x02rubbish"], [b"", b"\0" * 99]]
)
def test_bytes_of_nobody_are_nobodys_fault(frames: list[Buffer]) -> None:
    inbound = Inbound()
    assert not any(inbound.hears(frames) for _ in range(100))
    assert set(inbound.refused) == {"malformed"}
    assert inbound.barred == []


def test_who_says_too_much_is_shut_out_as_well() -> None:
    inbound = Inbound()
    heard = [inbound.hears(said("a"), turn / 1000) for turn in range(200)]
    assert sum(heard) <= 100 * 1.2 + 1
    assert inbound.barred == [("a", "quarantined for 10 s: a is beyond its budget of messages")]
    assert inbound.hears(said("b"), 0.2)


class TestBudgets:
    """A message is charged before it is decoded: to whom the connection is proven to lead, or who is claimed."""

    @pytest.mark.parametrize("keyed", [True, False])
    def test_the_other_end_of_the_connection_pays_whoever_is_claimed(self, *, keyed: bool) -> None:
        inbound = Inbound(keyed_security() if keyed else None)
        for turn in range(200):
            inbound.hears(said("a"), turn / 1000, origin="b")
        assert [name for name, _ in inbound.barred] == ["b"]
        assert "over budget" in inbound.refused

    def test_what_is_beyond_the_budget_is_not_decoded(self) -> None:
        inbound = Inbound()
        assert all(inbound.hears(said("a")) for _ in range(100))
        assert not inbound.hears(spoilt("a"))
        assert inbound.refused == ["over budget"]

    def test_a_claim_that_came_through_a_relay_slows_down_and_is_no_fault(self) -> None:
        security = keyed_security()
        claimed: list[Buffer] = [b"presence/", bytes.fromhex(KEYS["a"].public.sign) + bytes(24), b""]
        inbound = Inbound(security)
        for _ in range(200):
            assert not inbound.hears(claimed)
        assert inbound.refused.count("over budget") == 100
        assert (inbound.barred, dict(inbound.accounts.faults())) == ([], {})

    def test_who_is_quarantined_is_not_heard_through_a_relay_either(self) -> None:
        inbound = Inbound()
        for _ in range(3):
            inbound.accounts.fault("a", "kind", "why", 0.0)
        assert not inbound.hears(said("a"), 1.0, origin="hub")
        assert inbound.counts["quarantined"] == 1

    def test_whatever_is_beyond_its_budget_is_a_fault_and_in_the_end_quarantine(self) -> None:
        inbound = Inbound()
        charge = inbound.accounts.charge
        assert charge("a", Cost.REPEATED, 100, 0.0)
        assert not any(charge("a", Cost.REPEATED, 1, 0.0) for _ in range(3))
        assert inbound.barred == [("a", "quarantined for 10 s: a is beyond its budget of bytes repeated")]
        assert not charge("a", Cost.MESSAGES, 1, 0.0), "whatever it wants"
        assert charge("a", Cost.REPEATED, -100, 1.0), "what has ended is given back"
        assert charge("a", Cost.REPEATED, 100, 10.1)

"""The way in: one fault is dropped, a habit of faults is quarantined for a while, and others go in and out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nodes.inbound_filter import InboundFilter
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.messages import Goodbye
from protocol.security.authentication import NullSecurity
from protocol.security.quarantine import RateLimit
from protocol.topics import PRESENCE

ALLOWED = RateLimit(messages=100, burst=1, faults=3, first=10)


class Inbound:
    """A filter, and what it reported."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []
        self.barred: list[tuple[str, str]] = []
        refuse = lambda kind, _why: self.refused.append(kind)  # noqa: E731
        bar = lambda name, why: self.barred.append((name, why))  # noqa: E731
        self.inbound_filter = InboundFilter(
            NullSecurity(), self.counts, refuse, bar, limits=Limits(), allowance=ALLOWED
        )

    def hears(self, frames: list[Buffer], now: float = 0.0, **said: Any) -> bool:
        return self.inbound_filter.read(frames, now, **said) is not None


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
    assert inbound.barred == [("a", "quarantined for 10 s: a says more than a peer may")]
    assert inbound.hears(said("b"), 0.2)

"""A machine goes where its table says, remembers what has happened, and does it again from its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from protocol.machines import machine
from protocol.machines.machine import Instruction, InvalidTransition, Machine, MachineEvent, Tick, replay


@dataclass(frozen=True)
class Pushed(MachineEvent):
    """The turnstile is pushed."""


@dataclass(frozen=True)
class Paid(MachineEvent):
    """A coin is inserted."""


@dataclass(frozen=True)
class Open(Instruction):
    """Let one through."""

    at: float


TABLE = {"locked": frozenset({"paid", "worn"}), "paid": frozenset({"locked", "worn"}), "worn": frozenset[str]()}


class Turnstile(Machine[Any]):
    """Opens for a coin, and is worn out by a tick."""

    transitions = TABLE

    def _handle(self, event: MachineEvent, now: float) -> None:
        match event:
            case Paid():
                self._go("paid")
            case Pushed() if self.state == "paid":
                self._go("locked")
                self._instruct(Open(now))
            case Tick():
                self._go("worn")


def test_events_lead_to_instructions() -> None:
    turnstile = Turnstile("locked")
    assert [turnstile.handle(event, now) for now, event in enumerate((Pushed(), Paid(), Pushed(), Pushed()))] == [
        [],
        [],
        [Open(2)],
        [],
    ]
    assert not turnstile.is_over


def test_what_the_table_does_not_have_carries_its_story() -> None:
    turnstile = Turnstile("locked")
    turnstile.handle(Paid(), 1.0)
    with pytest.raises(
        InvalidTransition, match=r"Turnstile cannot go from paid to paid \(after Paid -> paid\)"
    ) as error:
        turnstile.handle(Paid(), 2.0)
    assert [(entry.now, entry.state) for entry in error.value.log] == [(1.0, "paid")]
    assert len(turnstile.log) == 2, "the event that did it is remembered, too"


def test_a_final_state_hears_nothing() -> None:
    turnstile = Turnstile("locked")
    turnstile.handle(Tick(), 0.0)
    assert turnstile.is_over
    assert turnstile.handle(Paid(), 1.0) == []
    assert turnstile.state == "worn"


def test_a_log_replays() -> None:
    turnstile = Turnstile("locked")
    said = [turnstile.handle(event, now) for now, event in enumerate((Paid(), Pushed(), Paid(), Tick()))]
    again = Turnstile("locked")
    assert replay(again, turnstile.log) == said
    assert list(again.log) == list(turnstile.log)


def test_a_log_is_bounded() -> None:
    turnstile = Turnstile("locked")
    for now in range(machine.MAX_EVENTS + 3):
        turnstile.handle(Pushed(), now)
    assert (len(turnstile.log), turnstile.log[0].now) == (machine.MAX_EVENTS, 3)

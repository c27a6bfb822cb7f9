"""The form of a pure state machine: one entry, a table of transitions, a log of its latest events.

`handle(event, now)` returns instructions and does nothing else, so the same events at the same times lead to the same
instructions: a log replays what has happened (`replay`). A change of state that the table does not have is an
`InvalidTransition`, which carries the log. (The one entry and the error with its story are those of the worker state
machine of `distributed`, the table is that of h11.) Knows no message and no state by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Generic, TypeVar

MAX_EVENTS = 4096
"""Events that a machine remembers; of a longer story only the end."""

MAX_HEARD = 64
"""Messages of one peer about one attempt at a round that a machine is handed; an honest one says a dozen."""

S = TypeVar("S", bound=str)


@dataclass(frozen=True)
class MachineEvent:
    """Something that has happened."""


@dataclass(frozen=True)
class Instruction:
    """Something to do."""


@dataclass(frozen=True)
class Tick(MachineEvent):
    """The machine's deadline has come."""


@dataclass(frozen=True)
class LogEntry:
    """An event, when it was handled, and the state that it led to."""

    now: float
    event: MachineEvent
    state: str


class InvalidTransition(RuntimeError):
    """A machine was to go from one state to another, and the table has no such transition.

    Attributes:
        log: the latest events of the machine, the last one first to blame.
    """

    def __init__(self, machine: str, state: str, wanted: str, log: Sequence[LogEntry]) -> None:
        story = "; ".join(f"{type(entry.event).__name__} -> {entry.state}" for entry in list(log)[-8:])
        super().__init__(f"{machine} cannot go from {state} to {wanted} (after {story or 'no event'})")
        self.log = tuple(log)


class Machine(ABC, Generic[S]):
    """A state machine without input, output and clock.

    Args:
        state: the first one.
        remembers: how many of its latest events.

    Attributes:
        transitions: the states that may follow each state; a state without any is final.
        state: the present one.
        log: the latest events.
        deadline: when a `Tick` is due, unless another event comes before.
    """

    transitions: ClassVar[Mapping[str, frozenset[str]]]

    def __init__(self, state: S, remembers: int = MAX_EVENTS) -> None:
        self.state = state
        self.log: deque[LogEntry] = deque(maxlen=remembers)
        self.deadline = inf
        self._instructions: list[Instruction] = []

    @property
    def is_over(self) -> bool:
        """Whether the present state is final."""
        return not self.transitions[self.state]

    def handle(self, event: MachineEvent, now: float) -> list[Instruction]:
        """Takes in an event.

        Args:
            event: what has happened.
            now: seconds of a monotonic clock.

        Returns:
            What is to be done, in this order.

        Raises:
            InvalidTransition: the machine is wrong.
        """
        self._instructions = []
        try:
            if not self.is_over:
                self._handle(event, now)
        finally:
            self.log.append(LogEntry(now, event, self.state))
        return self._instructions

    @abstractmethod
    def _handle(self, event: MachineEvent, now: float) -> None:
        """Takes in an event, before the last state."""

    def _instruct(self, *instructions: Instruction) -> None:
        self._instructions += instructions

    def _go(self, state: S) -> None:
        if state not in self.transitions[self.state]:
            raise InvalidTransition(type(self).__name__, self.state, state, self.log)
        self.state = state


def replay(machine: Machine[Any], entries: Iterable[LogEntry]) -> list[list[Instruction]]:
    """Handles the events of a log with a machine in its first state; returns what it instructs after each."""
    return [machine.handle(entry.event, entry.now) for entry in entries]

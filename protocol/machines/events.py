"""What the machines of rounds are told, and what they have done: events and instructions.

Knows nothing of who decides what (`protocol.machines.attempt`, `protocol.machines.coordinator`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocol.machines.machine import Instruction, MachineEvent
from protocol.messages import Message
from protocol.messages.rounds import FalseShard, RoundMessage


@dataclass(frozen=True)
class Begin(MachineEvent):
    """The machine is started."""


@dataclass(frozen=True)
class Heard(MachineEvent):
    """A member has sent a message about an attempt."""

    sender: str
    message: RoundMessage


@dataclass(frozen=True)
class Arrived(MachineEvent):
    """A configured member is alive (again)."""

    name: str


@dataclass(frozen=True)
class Departed(MachineEvent):
    """A member is gone."""

    name: str
    reason: str


@dataclass(frozen=True)
class ShardChecked(MachineEvent):
    """A chunk of a member's share has been reduced again here.

    Attributes:
        accuser: who says that it is false.
        accusation: what it says.
        is_false: whether it is; None where it cannot be told.
    """

    accuser: str
    accusation: FalseShard
    is_false: bool | None


@dataclass(frozen=True)
class CheckShard(Instruction):
    """Reduce a chunk of a member's share again, then say `ShardChecked`."""

    accuser: str
    accusation: FalseShard


@dataclass(frozen=True)
class Publish(Instruction):
    """Send a message to all members, this one too."""

    message: Message


@dataclass(frozen=True)
class Tell(Instruction):
    """Send a message to one node, possibly this one."""

    name: str
    message: Any


@dataclass(frozen=True)
class Warn(Instruction):
    """Tell whoever runs this node."""

    text: str


@dataclass(frozen=True)
class KeepStory(Instruction):
    """Write down what a machine has gone through: it has failed."""

    subject: Any

"""The story of a machine in a file: how it began, what it was told, and what it was answered about signatures.

A file holds all that a machine has depended on, so that `retold` brings it to its present state anywhere, without keys
and without the other members: a failed round of a run's folder can be looked at in a test. Msgpack, of plain values
only. Knows nothing of files and of when a story is worth keeping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import msgpack
from pydantic import BaseModel, BeforeValidator, TypeAdapter

from protocol.machines import attempt_values, events, machine, participant_values
from protocol.machines.attempt import RoundAttempt
from protocol.machines.attempt_values import AttemptTerms
from protocol.machines.events import Begin
from protocol.machines.machine import MAX_EVENTS, Instruction, LogEntry, MachineEvent, replay
from protocol.machines.participant import RoundParticipant
from protocol.machines.signatory import ReplayingSigner, Signatory
from protocol.messages import KINDS, Message
from protocol.messages.rounds import RoundOpen

_EVENTS = {
    kind.__name__: kind
    for module in (events, machine, attempt_values, participant_values)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, MachineEvent)
}

Subject = RoundAttempt | RoundParticipant

_MACHINES: Mapping[str, Callable[..., Subject]] = {kind.__name__: kind for kind in (RoundAttempt, RoundParticipant)}

_BEGAN: Mapping[str, TypeAdapter[Any]] = {
    "me": TypeAdapter(str),
    "leader": TypeAdapter(str),
    "opened": TypeAdapter(Annotated[RoundOpen, BeforeValidator(lambda told: told[1])]),
    "terms": TypeAdapter(AttemptTerms),
    "now": TypeAdapter(float),
    "quorum": TypeAdapter(int),
    "is_secure": TypeAdapter(bool),
    "members": TypeAdapter(tuple[str, ...]),
    "run": TypeAdapter(str),
}
"""What a machine is made with."""


def packed(subject: Subject) -> bytes:
    """The story of a machine."""
    log = [[entry.now, type(entry.event).__name__, _plain(entry.event), entry.state] for entry in subject.log]
    signatory = subject.signatory
    began = {**subject.began, "members": signatory.members, "run": signatory.run}
    story = {"machine": type(subject).__name__, "began": _plain(began), "answers": signatory.answers, "log": log}
    data: bytes = msgpack.packb(story)
    return data


def retold(data: bytes) -> tuple[Subject, list[list[Instruction]]]:
    """Brings a machine to where it was when its story was written.

    Returns:
        The machine, and what it has instructed after each event.

    Raises:
        ValueError: these are not the bytes of a story, or of one whose beginning was forgotten already.
    """
    story = msgpack.unpackb(data, use_list=False)
    log = [LogEntry(now, _event(name, told), state) for now, name, told, state in story["log"]]
    if not log or not isinstance(log[0].event, Begin):
        raise ValueError(f"the story has more than {MAX_EVENTS} events, and its beginning is no longer known")
    began = {name: _BEGAN[name].validate_python(value) for name, value in story["began"].items()}
    run, members = began.pop("run"), began.pop("members")
    signatory = Signatory(ReplayingSigner(run, iter(story["answers"])), lambda: members)
    subject = _MACHINES[story["machine"]](signatory=signatory, **began)
    return subject, replay(subject, log)


def _event(name: str, told: Mapping[str, Any]) -> MachineEvent:
    values = dict(told)
    if "message" in values:
        kind, body = values["message"]
        values["message"] = KINDS[kind].model_validate(body)
        return _EVENTS[name](**values)
    event: MachineEvent = TypeAdapter(_EVENTS[name]).validate_python(values)
    return event


def _plain(value: Any) -> Any:
    """A value as msgpack has it."""
    if isinstance(value, Message):
        return [value.kind, value.model_dump()]
    if isinstance(value, BaseModel):
        return value.model_dump()
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, frozenset | set | tuple | list):
        return [_plain(each) for each in value]
    return value

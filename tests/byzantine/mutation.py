"""Well-formed messages that are not true, of every kind of the protocol, made from the fields that kinds declare.

A lie is plausible where it takes what was really said elsewhere: a field is replaced by the value of a field of that
name in another message that was seen, or else by another value of its type. A kind that nobody has said is invented
from its golden vector. So a new kind needs no line here: it has fields, and a vector. Knows no kind by name, and
nothing of who says what to whom.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from protocol import codec
from protocol.messages import Message
from protocol.messages.base import WireValue
from protocol.messages.rounds import RoundCommit
from protocol.topics import LARGEST, ROUNDS, inbox

VECTORS = Path(__file__).parent.parent / "vectors"
STRANGER = "zoe"
MAX_SEEN = 512
MAX_TRIES = 20
MAX_CHANGES = 4

V = TypeVar("V", bound=WireValue)


@cache
def vectors() -> Mapping[str, tuple[Message, ...]]:
    """The golden messages of every kind."""
    found = defaultdict[str, tuple[Message, ...]](tuple)
    for path in sorted(VECTORS.glob("*.json")):
        envelope = codec.decode([bytes.fromhex(frame) for frame in json.loads(path.read_text())["frames"]])
        found[envelope.message.kind] += (envelope.message,)
    return dict(found)


class Mutator:
    """Makes false messages from true ones.

    Args:
        dice: decides; the same dice and messages make the same lies.
        names: of the members.
        votes: the valid votes under a record that the liars can make; they sign with their own keys.
        spared: fields that are not lied about, since nobody who is told them reads them.

    Attributes:
        seen: the latest messages, whoever has said them.
    """

    def __init__(
        self,
        dice: random.Random,
        names: Sequence[str],
        votes: Callable[[RoundCommit], Mapping[str, bytes]],
        spared: Collection[str] = (),
    ) -> None:
        self._dice, self._names, self._votes, self._spared = dice, (*names, STRANGER), votes, spared
        self.seen: deque[Message] = deque(maxlen=MAX_SEEN)
        self._values: dict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=64))

    def see(self, message: Message) -> None:
        """Takes in a message: its fields are what lies are made of."""
        self.seen.append(message)
        self._note(message)

    def changed(self, message: V) -> V:
        """A well-formed message that differs in one field, or in some, as far as one is found."""
        fields = [name for name in type(message).model_fields if name not in self._spared]
        changes = dict[str, Any]()
        for attempt in range(MAX_TRIES if fields else 0):
            if attempt % MAX_CHANGES == 0:
                changes = {}
            name = self._dice.choice(fields)
            changes[name] = self._other(name, getattr(message, name))
            if self._dice.random() < 0.3:  # also where the message says the same again
                with suppress(ValidationError):
                    changes = _renamed({**dict(message), **changes}, name, getattr(message, name), changes[name])
            if self._dice.random() < 0.3:  # something else is false, too
                continue
            if (changed := self._valid(message, changes)) is not None and repr(changed) != repr(message):
                return changed
        return message

    def invented(self, kind: str) -> Message:
        """A message of any kind: its golden one, made to be about what is going on, and then perhaps changed."""
        message = self._dice.choice([each for each in self.seen if each.kind == kind] or vectors()[kind])
        for about in self._dice.sample(list(self.seen), min(len(self.seen), 4)):
            shared = type(about).model_fields.keys() & type(message).model_fields.keys()
            moved = self._valid(message, {name: getattr(about, name) for name in sorted(shared)})
            message = message if moved is None else moved
        return self.changed(message) if self._dice.random() < 0.7 else message

    def _valid(self, message: V, changes: Mapping[str, Any]) -> V | None:
        try:
            changed = type(message).model_validate({**dict(message), **changes})
        except ValidationError:
            return None
        if isinstance(changed, RoundCommit) and self._dice.random() < 0.7:
            return changed.model_copy(update={"votes": {**changed.votes, **self._votes(changed)}})
        return changed

    def _other(self, name: str, value: Any) -> Any:
        """Another value of a field: one that was seen in a field of this name, or one of its type."""
        if self._values[name] and self._dice.random() < 0.5:
            return self._dice.choice(self._values[name])
        return self._varied(name, value)

    def _varied(self, name: str, value: Any) -> Any:
        match value:
            case WireValue():
                return self.changed(value)
            case tuple():
                return self._varied_names(value)
            case dict():
                return self._varied_map(name, value)
        return self._dice.choice(self._scalars(value) or list(self._values[name]) or [value])

    def _scalars(self, value: Any) -> list[Any]:
        """Other values of the type of one that has no parts."""
        found: list[Any] = []
        match value:
            case bool():
                found = [not value]
            case int():
                found = [0, 1, value + 1, value - 1, value + len(self._names) - 1, value + 2**33, LARGEST]
            case float():
                found = [0.0, 1e-300, -value, value * 1e12, value / 1e12, float("nan"), float("inf")]
            case bytes():
                found = [self._dice.randbytes(len(value)) or b"x" * 32, bytes(len(value)), b""]
            case str():
                found = [*self._names, inbox(self._names[0]), ROUNDS, "", value[::-1], "0" * 64, "ab" * 32, "x" * 500]
            case Tensor():
                found = [torch.zeros_like(value), value.flatten()[:1], value.flatten().flip(0)]
        return found

    def _varied_names(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        every = tuple(sorted(self._names[:-1]))
        some = tuple(sorted(self._dice.sample(every, self._dice.randint(0, len(every)))))
        place = self._dice.randrange(len(value) + 1)
        return self._dice.choice(
            [(), some, value[:place] + value[place + 1 :], (*value, *value[:1]), (*value, STRANGER)]
        )

    def _varied_map(self, name: str, value: dict[Any, Any]) -> dict[Any, Any]:
        if not value:
            return {}
        key = self._dice.choice(sorted(value))
        rest = {other: each for other, each in value.items() if other != key}
        moved = self._dice.choice([*self._names, key])
        return self._dice.choice([
            {}, rest, {**rest, moved: value[key]}, {**value, moved: value[key]},
            {**value, key: self._other(name, value[key])}, {**value, key: self._varied(name, value[key])},
        ])  # fmt: skip

    def _note(self, value: WireValue) -> None:
        for name in type(value).model_fields:
            each = getattr(value, name)
            self._values[name].append(each)
            for part in each.values() if isinstance(each, dict) else (each,):
                if isinstance(part, WireValue):
                    self._note(part)


def _renamed(value: Any, name: str, old: Any, new: Any) -> Any:
    """A value with another one in every field of this name that has the old one, and as a key of maps."""
    match value:
        case WireValue():
            return type(value).model_validate(_renamed(dict(value), name, old, new))
        case dict():
            are_names = isinstance(old, str) and isinstance(new, str)
            keyed = {new if are_names and key == old else key: each for key, each in value.items()}
            return {
                key: new if key == name and repr(each) == repr(old) else _renamed(each, name, old, new)
                for key, each in keyed.items()
            }
        case tuple():
            return tuple(_renamed(each, name, old, new) for each in value)
    return value

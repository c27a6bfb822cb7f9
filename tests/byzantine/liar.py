"""A liar: a member that has the honest code, its keys and its memory, and says something else than that code does.

It sees every message that its member receives or would send. Of what its honest code says it may say something else, to
each receiver something of its own, say it again, keep it back for later or for good; at any moment it says what it has
made up, or what another has said, as its own. Its honest code may believe what was never said. It may be two at once
that know nothing of each other and speak to different members, with one name and one key (Bano et al. 2020, "Twins",
2004.10617). Liars know each other's messages and keys. Knows nothing of what is true at the end
(`tests.byzantine.simulation`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.certificates import vote_for
from protocol.machines.machine import Instruction
from protocol.machines.signatory import Signatory, Signer
from protocol.messages import Message
from protocol.messages.election import LeaderAnnouncement, Prepare
from protocol.messages.rounds import RoundMessage, RoundsRequest
from protocol.transcript import statement
from tests.protocol.machines.simulated_site import Site
from tests.protocol.machines.simulated_values import Disk

if TYPE_CHECKING:
    from tests.byzantine.simulation import ByzantineWorld

WAYS = ("truth", "change", "repeat", "silence", "delay", "flood")


@dataclass(frozen=True)
class Habits:
    """How a liar lies.

    Attributes:
        weights: how often it does which of `WAYS` with what its honest code says.
        initiative: how often it says something of its own when it hears something.
        leads: whether it says anything in a term of its own: then it may be followed as the leader.
        twins: whether it is two.
        corruption: how often its honest code is told something else than what was said, and believes it.
        kinds: that it makes up; few, or all.
    """

    weights: tuple[float, ...]
    initiative: float
    leads: bool
    twins: bool
    corruption: float
    kinds: tuple[str, ...]

    @classmethod
    def drawn(cls, dice: random.Random, kinds: Sequence[str], *, leads: bool) -> Habits:
        """Some liars lie always, some once in a while, where it matters."""
        truth = dice.choice([0.3, 0.8, 0.95])
        others = [dice.random() ** 3 for _ in WAYS[1:]]
        return cls(
            (truth, *((1 - truth) * each / sum(others) for each in others)),
            dice.choice([0.0, 0.02, 0.2]), leads, dice.random() < 0.3, dice.choice([0.0, 0.0, 0.02, 0.2]),
            tuple(dice.sample(kinds, dice.choice([1, 3, len(kinds)]))),
        )  # fmt: skip


class Liar:
    """One or two of the same name, with the honest code.

    Args:
        world: the others.
        name: its own.
        habits: how it lies.
        face: the honest code.

    Attributes:
        habits: how it lies.
        faces: one, or two twins; none where it is no member.
    """

    def __init__(self, world: ByzantineWorld, name: str, habits: Habits, face: type[Face]) -> None:
        self.world, self.name, self.habits = world, name, habits
        self.dice = world.dice
        self.faces = [face(self, side) for side in range(2 if habits.twins else 1)] if name in world.names else []
        others = [each for each in world.names if each != name]
        self._sides = {each: self.dice.randrange(2) for each in others}
        self._kept: list[tuple[str, Message]] = []
        self._lie: tuple[Message, Message] | None = None  # the latest, of what

    def arrived(self, name: str) -> None:
        self._each("arrived", name)

    def departed(self, name: str) -> None:
        self._each("departed", name)

    def tick(self) -> None:
        self._each("tick")
        if self._kept and self.dice.random() < 0.2:
            self.say(*self._kept.pop(self.dice.randrange(len(self._kept))))

    def receive(self, sender: str, message: Any) -> None:
        self.world.mutator.see(message)
        for face in self.faces:
            if len(self.faces) == 1 or self._sides.get(sender, face.side) == face.side:
                corrupt = sender != self.name and self.dice.random() < self.habits.corruption
                with suppress(Exception):
                    face.receive(sender, self.world.mutator.changed(message) if corrupt else message)
        if self.dice.random() < self.habits.initiative:
            self.make_up()

    def request(self, event: Any, plan: Any) -> None:
        for face in self.faces:
            if face.disk.done.get(plan.key, 0) < plan.rounds and face.requests.add(plan, plan.requester):
                face.lead(event)

    def hears_itself(self, face: Face, message: Message) -> None:
        """What its own code says to itself is true, as far as it goes."""
        self.world.works.append((face, None, Said(message)))

    def says(self, face: Face, name: str, message: Message) -> None:
        """Its honest code says a message to a member: something else may be said in its place."""
        self.world.mutator.see(message)
        if len(self.faces) > 1 and self._sides.get(name, face.side) != face.side:
            return
        match self.dice.choices(WAYS, self.habits.weights)[0]:
            case "truth":
                self.say(name, message)
            case "change":
                self.say(name, self.changed(message))
            case "repeat":
                self.say(name, self.signed(self.dice.choice(self.world.mutator.seen)))
            case "delay":
                self._kept.append((name, message))
            case "flood":
                for _ in range(self.dice.randrange(2, 20)):
                    self.say(name, message)

    def changed(self, message: Message) -> Message:
        """A lie in place of a message: now and then the same one to all that are told it."""
        if self._lie is None or self._lie[0] is not message or self.dice.random() < 0.3:
            self._lie = message, self.signed(self.world.mutator.changed(message))
        return self._lie[1]

    def make_up(self) -> None:
        """Says what nobody has asked for, the same to some or something else to each."""
        honest = [name for name in self.world.names if name not in self.world.liars]
        told = self.dice.sample(honest, self.dice.randint(1, len(honest)))
        kind = self.dice.choice(self.habits.kinds)
        message = self.signed(self.requested(self.world.mutator.invented(kind)))
        for name in told:
            self.say(name, message)
            if self.dice.random() < 0.3:
                message = self.signed(self.world.mutator.changed(message))

    def requested(self, message: Message) -> Message:
        """A request in its own name, which alone is heard; any other message as it is."""
        if not isinstance(message, RoundsRequest):
            return message
        return message.model_copy(update={"plan": message.plan.model_copy(update={"requester": self.name})})

    def say(self, name: str, message: Message) -> None:
        """A message leaves: under its own name, whatever is in it."""
        if (not self.habits.leads and self._claims_to_lead(message)) or not message.may_be_from(self.name, 1):
            return
        self.world.said_by_liars[message.kind] += 1
        self.world.send(self.name, name, message)

    def signed(self, message: Message) -> Message:
        """A message with the signature that it needs, most of the time."""
        field = type(message).model_fields.get("signature")
        if field is None or field.is_required() or self.dice.random() < 0.1:
            return message
        signature = self.world.signer(self.name).attest(statement(self.world.run, message))
        return message.model_copy(update={"signature": signature})

    def _claims_to_lead(self, message: Message) -> bool:
        """Whether a message is about a term that is this member's."""
        if isinstance(message, Prepare | LeaderAnnouncement | RoundMessage) and self.name in self.world.names:
            return self.world.owner(message.term) == self.name
        return False

    def _each(self, what: str, *of: Any) -> None:
        for face in self.faces:
            with suppress(Exception):
                getattr(face, what)(*of)


@dataclass(frozen=True)
class Said(Instruction):
    """To itself."""

    message: Message


@dataclass(frozen=True)
class CredulousSigner:
    """Signs as a liar, which checks nobody's signature."""

    signer: Signer

    @property
    def run(self) -> str:
        return self.signer.run

    def attest(self, said: bytes) -> bytes:
        return self.signer.attest(said)

    def attested(self, _name: str, _said: bytes, _signature: bytes) -> bool:
        return True


class Face(Site):
    """The honest code of a liar."""

    def __init__(self, liar: Liar, side: int) -> None:
        super().__init__(liar.world, liar.name, Disk())
        self.liar, self.side = liar, side
        self.signatory = Signatory(CredulousSigner(liar.world.signer(liar.name)), lambda: liar.world.names)

    def tell(self, name: str, message: Any) -> None:
        if name == self.name:
            self.liar.hears_itself(self, message)
        else:
            self.liar.says(self, name, message)

    def work(self, machine: Any, instruction: Instruction) -> None:
        with suppress(Exception):  # it has fooled itself
            if isinstance(instruction, Said):
                self.receive(self.name, instruction.message)
            else:
                super().work(machine, instruction)


def votes_of(world: ByzantineWorld, record: Any) -> Mapping[str, bytes]:
    """The votes for a record that the liars can cast."""
    said = statement(world.run, vote_for(record))
    return {name: world.signer(name).attest(said) for name in world.liars if name in world.names}

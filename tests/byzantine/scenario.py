"""What a seed makes: members, liars among them or a guest, keys or none; and what a run raises that finds something."""

from __future__ import annotations

import random
from dataclasses import dataclass

ROLES = ("member", "lead", "guest")
GUEST = "guest"


class Violation(AssertionError):
    """Something that must not happen has happened."""


@dataclass(frozen=True)
class Scenario:
    """What a seed makes.

    Attributes:
        seed: makes it.
        names: of the configured members.
        liars: among them, or a guest; never as many as half.
        role: whether they are content to be members, may lead, or are no members at all.
        keyed: whether statements are signed.
        sharded: whether rounds are reduced in shards.
        quorum: the floor of honest members.
        steps: that the liars have.
    """

    seed: int
    names: tuple[str, ...]
    liars: tuple[str, ...]
    role: str
    keyed: bool
    sharded: bool
    quorum: int
    steps: int

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed."""
        dice = random.Random(f"scenario {seed}")  # noqa: S311 - replayable
        names = tuple("abcdef"[: dice.choice([3, 4, 4, 5, 6])])
        role = dice.choice(ROLES)
        count = dice.randint(1, (len(names) - 1) // 2)
        liars = (GUEST,) if role == "guest" else tuple(sorted(dice.sample(names, count)))
        keyed, sharded = dice.random() < 0.85, dice.random() < 0.5
        return cls(seed, names, liars, role, keyed, sharded, dice.choice([1, 1, 2]), dice.choice([150, 400, 800]))

    @property
    def majority(self) -> int:
        """Of the configured members."""
        return len(self.names) // 2 + 1

    @property
    def is_agreed(self) -> bool:
        """Whether two majorities share an honest member, and nobody lies as a leader: then all adopt one outcome."""
        members = len(set(self.liars) & set(self.names))
        return self.keyed and 2 * self.majority - len(self.names) > members and self.role != "lead"

"""A whole secure sum within one process: every party, and what they sent each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fednet.privacy.entropy import SYSTEM, Random
from fednet.privacy.masking import sum_masked
from fednet.privacy.secure_sum import SecureSumParty


def vectors(names: Iterable[str], length: int = 50, seed: int = 0) -> dict[str, Tensor]:
    """Any int32 values: the ring wraps."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-(2**31), 2**31, (length,), generator=generator).to(torch.int32) for name in sorted(names)
    }


@dataclass
class Circle:
    """The parties of one attempt, and how far they are.

    Attributes:
        parties: by name.
        keys: what they advertised.
        sealed: by dealer and receiver.
        masked: by name.
        reveals: by name.
    """

    parties: dict[str, SecureSumParty]
    keys: dict[str, bytes] = field(default_factory=dict)
    sealed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    masked: dict[str, Tensor] = field(default_factory=dict)
    reveals: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, count: int, threshold: int, attempt: bytes = b"run/model/1/1", random: Random = SYSTEM) -> Circle:
        names = [f"c{index:02}" for index in range(count)]
        return cls({name: SecureSumParty(name, reversed(names), threshold, attempt, random) for name in names})

    @property
    def names(self) -> list[str]:
        return list(self.parties)

    def advertise(self, lost: Iterable[str] = ()) -> Circle:
        self.keys = {name: party.advertise() for name, party in self.parties.items() if name not in set(lost)}
        return self

    def share(self, lost: Iterable[str] = ()) -> Circle:
        senders = [name for name in self.keys if name not in set(lost)]
        self.sealed = {name: self.parties[name].share(self.keys) for name in senders}
        return self

    def inbox(self, name: str) -> dict[str, bytes]:
        return {dealer: boxes[name] for dealer, boxes in self.sealed.items() if dealer != name}

    def receive(self) -> Circle:
        for name in self.sealed:
            self.parties[name].receive(self.inbox(name))
        return self

    def mask(self, given: Mapping[str, Tensor], lost: Iterable[str] = ()) -> Circle:
        senders = [name for name in self.sealed if name not in set(lost)]
        self.masked = {name: self.parties[name].mask(given[name]) for name in senders}
        return self

    def dropped(self, survivors: Iterable[str]) -> set[str]:
        return set(self.sealed) - set(survivors)

    def vote(self, survivors: Iterable[str], silent: Iterable[str] = ()) -> dict[str, bytes]:
        alive = list(survivors)
        voters = [name for name in alive if name not in set(silent)]
        return {name: self.parties[name].vote(alive, self.dropped(alive)) for name in voters}

    def reveal(self, survivors: Iterable[str] | None = None, silent: Iterable[str] = ()) -> Circle:
        votes = self.vote(self.masked if survivors is None else survivors, silent)
        self.reveals = {name: self.parties[name].reveal(votes) for name in votes}
        return self

    def total(self) -> Tensor:
        return sum_masked(self.masked)


@pytest.fixture
def whole() -> Circle:
    """Five parties, any three of them, of which the last has sent no masked vector and all others have revealed."""
    circle = Circle.of(5, 3).advertise().share().receive()
    return circle.mask(vectors(circle.names), lost=["c04"]).reveal()


@pytest.fixture(name="Circle")
def circle_type() -> type[Circle]:
    return Circle

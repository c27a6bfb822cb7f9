"""What a method sees of the network: three conversations, told as plain callables and values.

A method asks and answers; it never learns whether the other side is an object of this process or a hospital
across a continent. `nodes` carries these values over the bus, `local_ask` carries them within one process;
both hand the very same values to the very same code, so both give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

Scalar = float | int | bool | str | None
"""What an option of a question may be."""


@dataclass(frozen=True)
class Question:
    """One question to every answerer: what is asked, about which tensors, with which options."""

    ask: str
    inputs: Mapping[str, Tensor]
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Replies:
    """What came back for one question, by node name in sorted order, and who is missing.

    Attributes:
        by_node: the outputs of every node that contributed; never empty.
        late: nodes that are alive but did not answer by the step's deadline.
        lost: nodes that died, left or refused, with the reason.
    """

    by_node: Mapping[str, Mapping[str, Tensor]]
    late: tuple[str, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[Question], Replies]
"""Puts a question to all answerers and waits for the replies that the run's policy demands."""


class Stopped(Exception):
    """Raised inside a long computation once its owner has asked it to stop."""


class Watch(Protocol):
    """How a long computation tells of its progress and learns that it should stop."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Says that `done` of `total` units of `phase` are through; cheap enough for every batch.

        Raises:
            Stopped: the owner wants the computation to end now.
        """
        ...


class Silent:
    """A watch that nobody watches."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Site:
    """Where an answerer lives: its name, its place among its peers, its device, its folder and its seed.

    Attributes:
        name: the node's name, unique in the run.
        index: its position among the clients in configuration order, 0-based.
        count: the number of clients that are configured.
        seed: the run's seed; derive from it with `fednet.seeds`.
        device: a torch device string, for example "cpu" or "cuda:0".
        folder: the run's folder; checkpoints go below `folder / "checkpoints"`.
    """

    name: str
    index: int
    count: int
    seed: int
    device: str
    folder: Path


class Answerer(Protocol):
    """The side of a method that holds data and a model, and answers."""

    def prepare(self, watch: Watch) -> str:
        """Loads data, trains or loads a model, and returns its card: a JSON text of at most 16 KiB."""
        ...

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question.

        Raises:
            MethodError: the question cannot be answered; it is refused and the answerer lives on.
        """
        ...


def local_ask(answerers: Mapping[str, Answerer]) -> Ask:
    """Puts questions to answerers of this very process, in sorted order of their names."""
    ordered = dict(sorted(answerers.items()))

    def ask(question: Question) -> Replies:
        return Replies({name: answerer.answer(question) for name, answerer in ordered.items()})

    return ask

"""What a method sees of the network: three conversations, told as plain callables and values.

A method asks and answers; it never learns whether the other side is an object of this process or a hospital
across a continent. `nodes` carries these values over the bus, `local_ask` carries them within one process;
both hand the very same values to the very same code, so both give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from fednet.federated.config import Federation

Scalar = float | int | bool | str | None
"""What an option of a question may be."""


@dataclass(frozen=True)
class Question:
    """One question: what is asked, about which tensors, with which options.

    Attributes:
        ask: what is asked; the words are the method's own.
        inputs: tensors by name.
        options: everything else.
        to: the answerers it is for; None means every one that is there.
    """

    ask: str
    inputs: Mapping[str, Tensor]
    options: Mapping[str, Scalar] = field(default_factory=dict)
    to: tuple[str, ...] | None = None


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


ModelState = Mapping[str, Tensor]
"""A model's parameters (and buffers) by name, on the CPU; read, never written to."""


@dataclass(frozen=True)
class RoundTask:
    """What every participant does in one round.

    Attributes:
        model: which of the method's models it is about.
        work: what to do with it, for example "train"; the words are the method's own.
        number: which round of this model it is, from 1: a part of the purpose of every random choice.
        options: everything else; the same at every participant.
    """

    model: str
    work: str
    number: int
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """What one participant contributes to one round.

    Attributes:
        state: the model as this participant would have it; the names, shapes and dtypes are those of the base.
        weight: how much it counts under a weighted rule, > 0; usually the number of examples.
        values: what was measured on the way, for the round's record.
    """

    state: ModelState
    weight: float
    values: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Participant(Protocol):
    """The side of a method that takes part in rounds. Called on the device's thread, one call at a time."""

    def initial_state(self, model: str) -> ModelState:
        """The model that everybody begins with: the same bytes at every participant.

        Raises:
            MethodError: there is no model of this name.
        """
        ...

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """Does the round's work, starting from `base`, the model that the last round left.

        Deterministic: the same task and base give the same update, so that a repeated round is the same round.

        Raises:
            MethodError: it cannot take part, and why; the round goes on without it.
        """
        ...

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what round `number` of a model has closed with."""
        ...


@dataclass(frozen=True)
class RoundPlan:
    """Rounds that somebody asks for: the same task under the same rule, several times.

    Attributes:
        key: its name in the run; a programme that is asked for again under its key is remembered, not run again.
        model: which model.
        work: what every participant does.
        rounds: how many rounds, at least 1.
        federation: how contributions become one aggregate.
        options: of every round's task.
        replacement: a model that everybody adopts as it is, instead of contributing; for `rounds=1`.
    """

    key: str
    model: str
    work: str
    rounds: int
    federation: Federation
    options: Mapping[str, Scalar] = field(default_factory=dict)
    replacement: ModelState | None = None


@dataclass(frozen=True)
class RoundRecord:
    """The record of a round that has closed.

    Attributes:
        number: which round of its model, from 1.
        model: which model.
        weights: who contributed, and with what weight, by name in sorted order.
        values: what each contributor measured, by name.
        late: who is alive but did not contribute before it closed.
        lost: who died, left or declined, with the reason.
        refused: whose contribution was refused (not finite, of another shape), with the reason.
        digest: of the model that everybody has now.
        seconds: from its opening to its close.
        lead: who led it.
    """

    number: int
    model: str
    weights: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]
    late: tuple[str, ...]
    lost: Mapping[str, str]
    refused: Mapping[str, str]
    digest: str
    seconds: float
    lead: str


@dataclass(frozen=True)
class Offer:
    """What one peer teaches the others about one subject: embeddings, and nothing else.

    Attributes:
        origin: the node that has learnt it.
        subject: what it is about, usually a class by its name or an agreed alias.
        version: from 1; a later one replaces an earlier one of the same origin and subject.
        embeddings: float32 (tokens, width), finite, on the CPU; never written to.
    """

    origin: str
    subject: str
    version: int
    embeddings: Tensor


@dataclass(frozen=True)
class ExchangePlan:
    """What every peer is asked to do in one exchange.

    Attributes:
        key: its name in the run; a call that is made again under its key is remembered, not done again.
        work: what to do before offering, for example "learn"; the words are the method's own.
        options: everything else; the same at every peer.
    """

    key: str
    work: str
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class OfferBatch:
    """What a trader has made of a call.

    Attributes:
        offers: what it offers from now on, beside what it has offered before; its own name is the origin.
        values: what was measured on the way, for the record.
    """

    offers: tuple[Offer, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Exchanger(Protocol):
    """The side of a method that takes part in exchanges. Called on the device's thread, one call at a time."""

    def initial_offers(self) -> tuple[Offer, ...]:
        """What it offers already once it is prepared, for example from an earlier life of the same site."""
        ...

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        """Does the call's work, which may take long, and says what it offers now.

        Raises:
            MethodError: it cannot take part, and why; the exchange goes on without it.
        """
        ...

    def absorb(self, offer: Offer) -> None:
        """Takes in what another peer offers; quick, since work comes with calls.

        Offers come in any order: what they make of a trader must not depend on it. What comes last of an origin and
        subject stands, whatever its version: what is outdated never comes here.

        Raises:
            MethodError: it is of no use here, and why; it is refused by name.
        """
        ...


@dataclass(frozen=True)
class ExchangeRecord:
    """The record of an exchange that is over.

    Attributes:
        key: the call's.
        offered: what each peer offered under this call: versions by subject, by origin in sorted order.
        absorbed: who took in whose offers: origins by the peer that absorbed them, in sorted order.
        values: what each peer measured, by name.
        sent: bytes on the wire of each peer's offers under this call, frames and headers included.
        refused: why a peer refused an offer: reasons by "<origin>/<subject>", by the peer that refused.
        late: who is alive but was not done before it closed.
        lost: who died, left or declined, with the reason.
        seconds: from the call to the close.
    """

    key: str
    offered: Mapping[str, Mapping[str, int]]
    absorbed: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, float]]
    sent: Mapping[str, int]
    refused: Mapping[str, Mapping[str, str]]
    late: tuple[str, ...]
    lost: Mapping[str, str]
    seconds: float


class Network(Protocol):
    """What the asking side of a method sees of the other sides.

    Attributes:
        capabilities: what the answerers say of themselves, by name in sorted order.
    """

    capabilities: Mapping[str, str]

    def ask(self, question: Question) -> Replies:
        """Puts a question and waits for the replies that the run's policy demands."""
        ...

    def run_rounds(self, programme: RoundPlan) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their end; the records of all rounds of the programme.

        By then every participant that is there answers from what the last round left.

        Raises:
            MethodError: the rounds cannot be held, and why.
        """
        ...

    def exchange(self, call: ExchangePlan) -> ExchangeRecord:
        """Has every peer do a call's work and offer, and every peer absorb what the others offer; waits for the end.

        Raises:
            MethodError: nobody offers or absorbs, and why.
        """
        ...


class Stopped(Exception):
    """Raised inside a long computation once its owner has asked it to stop."""


class Progress(Protocol):
    """How a long computation tells of its progress and learns that it should stop."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Says that `done` of `total` units of `phase` are through; cheap enough for every batch.

        Raises:
            Stopped: the owner wants the computation to end now.
        """
        ...


class NullProgress:
    """A watch that nobody watches."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class SiteContext:
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


class Responder(Protocol):
    """The side of a method that holds data and a model, and answers."""

    def prepare(self, progress: Progress) -> str:
        """Loads data, trains or loads a model, and returns its card: a JSON text of at most 16 KiB."""
        ...

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question.

        Raises:
            MethodError: the question cannot be answered; it is refused and the answerer lives on.
        """
        ...


def local_ask(answerers: Mapping[str, Responder]) -> Ask:
    """Puts questions to answerers of this very process, in sorted order of their names."""
    ordered = dict(sorted(answerers.items()))

    def ask(question: Question) -> Replies:
        return Replies({name: answerer.answer(question) for name, answerer in ordered.items()})

    return ask

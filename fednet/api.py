"""The interface between methods and the network: queries, rounds and exchange as plain values and protocols.

A method cannot tell whether the other side is in this process or on another machine: `nodes` carries these values over
the bus, `fednet.federated.local_network` within one process, and both give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from fednet.federated.config import Federation

if TYPE_CHECKING:
    from torch import Tensor

Scalar = float | int | bool | str | None
"""Type of an option of a question, a round or an exchange."""


@dataclass(frozen=True)
class Question:
    """One query.

    Attributes:
        task: name of the query, defined by the method, for example "score".
        inputs, options: tensors and scalar arguments by name.
        to: names of the responders that are asked, all of which must be present; None for all that are.
        each: instead of `to`, tensors by name for those that are asked, beside `inputs` (`fednet.questions`).
    """

    task: str
    inputs: Mapping[str, Tensor]
    options: Mapping[str, Scalar] = field(default_factory=dict)
    to: tuple[str, ...] | None = None
    each: Mapping[str, Mapping[str, Tensor]] | None = None


@dataclass(frozen=True)
class Replies:
    """The replies to one question by node name, in sorted order, and which nodes are missing.

    Attributes:
        by_node: the outputs of every node that contributed; empty only for a question with `each`.
        late: nodes that are alive but did not answer by the step's deadline.
        lost: nodes that died, left or refused, with the reason.
    """

    by_node: Mapping[str, Mapping[str, Tensor]]
    late: tuple[str, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[Question], Replies]
"""Sends a question to its responders and waits for the replies that the run's policy requires."""

ModelState: TypeAlias = "Mapping[str, Tensor]"
"""A model's parameters and buffers by name, on the CPU; read-only."""


@dataclass(frozen=True)
class RoundTask:
    """The task of every participant in one round.

    Attributes:
        model: name of the model.
        task: name of the task, defined by the method, for example "train".
        number: number of the round of this model, from 1; every random choice is seeded with it.
        options: scalar arguments; the same for every participant.
    """

    model: str
    task: str
    number: int
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """The contribution of one participant to one round.

    Attributes:
        state: the locally updated model; names, shapes and dtypes are those of the base.
        weight: weight under a weighted rule, > 0; usually the number of examples.
        values: local metrics, for the round's record.
    """

    state: ModelState
    weight: float
    values: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Participant(Protocol):
    """The part of a method's site that takes part in rounds. Called on the device's thread, one call at a time."""

    def initial_state(self, model: str) -> ModelState:
        """The initial model: the same bytes at every participant.

        Raises:
            MethodError: there is no model of this name.
        """

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """Runs the round's task, starting from `base`, the model after the last round.

        Deterministic: the same task and base give the same update, so a repeated round gives the same result.

        Raises:
            MethodError: it cannot take part; the round goes on without it.
        """

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Replaces a model by the result of its round `number`."""


@dataclass(frozen=True)
class RoundPlan:
    """A request for rounds: the same task under the same rule, one or more times.

    Attributes:
        key: unique name of the plan in the run; a plan with a known key returns its records and is not run again.
        model, task: names of the model, and of the task, which the method defines.
        rounds: number of rounds, at least 1.
        federation: how contributions are combined.
        options: scalar arguments of every round's task.
        replacement: a model that every participant adopts as it is, without contributions; needs `rounds=1`.
    """

    key: str
    model: str
    task: str
    rounds: int
    federation: Federation
    options: Mapping[str, Scalar] = field(default_factory=dict)
    replacement: ModelState | None = None


@dataclass(frozen=True)
class RoundRecord:
    """The record of a round that has closed.

    Attributes:
        number: number of the round of its model, from 1.
        model: name of the model.
        weights: weights of the contributions by name, in sorted order.
        values: local metrics by contributor.
        late: participants that are alive but did not contribute in time.
        lost: participants that died, left or declined, with the reason.
        refused: participants whose contribution was invalid (not finite, of another shape), with the reason.
        digest: SHA-256 of the model after the round, the server optimiser's slots included.
        seconds: duration from opening to close.
        leader: name of the leader.
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
    leader: str


@dataclass(frozen=True)
class Offer:
    """Token embeddings that one peer has learnt for one subject and offers to the others.

    Attributes:
        origin: name of the node that learnt them.
        subject: what they describe, usually a class name or an agreed alias.
        version: from 1; a later version replaces an earlier one of the same origin and subject.
        embeddings: float32 (tokens, width), finite, on the CPU; read-only.
    """

    origin: str
    subject: str
    version: int
    embeddings: Tensor


@dataclass(frozen=True)
class ExchangePlan:
    """A request for one exchange.

    Attributes:
        key: unique name of the exchange in the run; a known key returns its record and is not run again.
        task: name of the task that every peer runs before it offers, defined by the method, for example "learn".
        options: scalar arguments; the same for every peer.
    """

    key: str
    task: str
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class OfferBatch:
    """The result of one peer's work in an exchange.

    Attributes:
        offers: new offers, in addition to earlier ones; their origin is the peer.
        values: local metrics, for the record.
    """

    offers: tuple[Offer, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Exchanger(Protocol):
    """The part of a method's site that takes part in exchanges. Called on the device's thread, one call at a time."""

    def initial_offers(self) -> tuple[Offer, ...]:
        """The offers that exist before the first exchange, for example those of an earlier run of this process."""

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        """Runs the plan's task, which may take long, and returns its offers.

        Raises:
            MethodError: it cannot take part; the exchange goes on without it.
        """

    def absorb(self, offer: Offer) -> None:
        """Adopts another peer's offer; quick, since long work belongs to `offer`.

        Offers arrive in any order, and the result must not depend on it. The latest call for an origin and subject
        holds, whatever its version: outdated offers are not passed here.

        Raises:
            MethodError: the offer cannot be used; it is recorded as refused, with this reason.
        """


@dataclass(frozen=True)
class ExchangeRecord:
    """The record of an exchange that has closed.

    Attributes:
        key: the plan's.
        offered: versions by subject, by origin in sorted order.
        absorbed: origins whose offers a peer absorbed, by that peer in sorted order.
        values: local metrics by peer.
        bytes_sent: bytes on the wire of each peer's offers, frames and headers included.
        refused: reasons by "<origin>/<subject>", by the peer that refused.
        late: peers that are alive but were not done in time.
        lost: peers that died, left or declined, with the reason.
        seconds: duration from request to close.
    """

    key: str
    offered: Mapping[str, Mapping[str, int]]
    absorbed: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, float]]
    bytes_sent: Mapping[str, int]
    refused: Mapping[str, Mapping[str, str]]
    late: tuple[str, ...]
    lost: Mapping[str, str]
    seconds: float


class Network(Protocol):
    """The sites as a method's job sees them.

    Attributes:
        capabilities: each site's description of itself, a JSON text, by name in sorted order.
    """

    capabilities: Mapping[str, str]

    def ask(self, question: Question) -> Replies:
        """Sends a question and waits for the replies that the run's policy requires."""

    def run_rounds(self, plan: RoundPlan) -> tuple[RoundRecord, ...]:
        """Runs a plan's rounds and returns the records of all of them.

        When it returns, every participant that is present has adopted the result of the last round.

        Raises:
            MethodError: the rounds cannot be run.
        """

    def exchange(self, plan: ExchangePlan) -> ExchangeRecord:
        """Runs an exchange: every peer runs the task and offers, every peer absorbs the others' offers.

        Raises:
            MethodError: no peer offers or absorbs.
        """


class Stopped(Exception):
    """Raised inside a long computation that has been asked to stop."""


class Progress(Protocol):
    """Receives a long computation's progress, and can stop it."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Reports that `done` of `total` units of `phase` are complete; cheap enough for every batch.

        Raises:
            Stopped: the computation should end now.
        """


class NullProgress:
    """Ignores all progress and never stops."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class SiteContext:
    """The environment of a site.

    Attributes:
        name: the node's name, unique in the run.
        index: position among the clients in configuration order, from 0.
        count: number of configured clients.
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
    """A method's site: holds data and a model, and answers questions."""

    def prepare(self, progress: Progress) -> str:
        """Loads data, trains or loads a model, and returns the capabilities: a JSON text of at most 16 KiB."""

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question.

        Raises:
            MethodError: the question cannot be answered; it is refused, and the responder stays available.
        """

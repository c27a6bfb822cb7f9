"""The network within one process: the same programmes and calls, run by the same functions, without a bus.

The twin of `nodes.rounds` and, by way of `market`, of `nodes.exchange`, for notebooks and for tests that hold the bus
against it: given the same agents, both end with the same bytes. Refuses to know deadlines and deaths; nobody is ever
late here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fednet.api import (
    ExchangePlan,
    Exchanger,
    ExchangeRecord,
    ModelState,
    Network,
    NullProgress,
    Participant,
    Progress,
    Question,
    Replies,
    Responder,
    RoundPlan,
    RoundRecord,
    RoundTask,
    Update,
)
from fednet.errors import MethodError, ModelError
from fednet.federated.aggregation import aggregate
from fednet.federated.local_exchange import LocalExchange
from fednet.federated.participation import sampled_participants
from fednet.federated.state import detached_copy, digest, model_tensors, require_finite, require_like

LEAD = "local"


def local_network(
    agents: Mapping[str, Responder], capabilities: Mapping[str, str], seed: int = 0, progress: Progress | None = None
) -> Network:
    """A network of agents of this very process.

    Args:
        agents: by name; those that are `Participant` take part in rounds too, those that are `Exchanger` in exchanges.
            They have been prepared.
        capabilities: what they said of themselves when they were.
        seed: the run's, for the draw of contributors.
        progress: what every contribution tells its progress to.
    """
    ordered, watching = dict(sorted(agents.items())), progress or NullProgress()
    traders = {name: agent for name, agent in ordered.items() if isinstance(agent, Exchanger)}
    return _Local(ordered, dict(sorted(capabilities.items())), seed, watching, LocalExchange(traders, watching))


@dataclass
class _Gathered:
    """The contributions to one round."""

    updates: dict[str, Update] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def names(self) -> str:
        """Who is missing, and why, as text."""
        missing = {**self.lost, **self.refused}
        return "; ".join(f"{name} {reason}" for name, reason in sorted(missing.items())) or "nobody was drawn"


@dataclass
class _Local:
    agents: dict[str, Responder]
    capabilities: Mapping[str, str]
    seed: int
    progress: Progress
    market: LocalExchange
    _kept: dict[str, tuple[int, ModelState]] = field(default_factory=dict)
    _held: dict[str, list[RoundRecord]] = field(default_factory=dict)

    def ask(self, question: Question) -> Replies:
        """Puts a question to all agents, or to those that it is for, in sorted order of their names."""
        asked = self._asked(question.to)
        by_node, lost = {}, {}
        for name in asked:
            try:
                by_node[name] = self.agents[name].answer(question)
            except MethodError as error:
                lost[name] = f"refused: {error}"
        if not by_node:
            raise MethodError(f"nobody answered {question.ask!r}: {'; '.join(f'{n} {why}' for n, why in lost.items())}")
        return Replies(by_node, lost=lost)

    def run_rounds(self, programme: RoundPlan) -> tuple[RoundRecord, ...]:
        """Has rounds held; those that a programme of this key has had are remembered.

        Raises:
            MethodError: the programme is none, nobody can take part, or fewer than its quorum contributed.
        """
        _require_sound(programme)
        records = self._held.setdefault(programme.key, [])
        while len(records) < programme.rounds:
            records.append(self._round(programme))
        return tuple(records)

    def exchange(self, call: ExchangePlan) -> ExchangeRecord:
        """Has every trader do a call's work, offer and absorb; a call of this key that was made is remembered.

        Raises:
            MethodError: nobody offers, and why.
        """
        return self.market.exchange(call)

    def _asked(self, to: tuple[str, ...] | None) -> list[str]:
        asked = sorted(self.agents if to is None else set(to))
        if unknown := [name for name in asked if name not in self.agents]:
            raise MethodError(f"cannot ask {', '.join(unknown)}; there are {', '.join(self.agents) or 'none'}")
        return asked

    def _participants(self) -> dict[str, Participant]:
        return {name: agent for name, agent in self.agents.items() if isinstance(agent, Participant)}

    def _round(self, programme: RoundPlan) -> RoundRecord:
        began, model = time.perf_counter(), programme.model
        number, base = self._standing(model)
        number += 1
        if programme.replacement is not None:
            gathered, state = _Gathered(), _taken(programme.replacement, base)
        else:
            gathered = self._gather(programme, number, base)
            state = _combined(programme, number, base, gathered)
        self._kept[model] = number, state
        for participant in self._participants().values():
            participant.adopt(model, number, detached_copy(model_tensors(state)))
        return _record(model, number, gathered, digest(state), time.perf_counter() - began)

    def _standing(self, model: str) -> tuple[int, ModelState]:
        """How far a model is: the number of its last round and what that has left."""
        if model not in self._kept:
            self._kept[model] = 0, self._beginning(model)
        return self._kept[model]

    def _beginning(self, model: str) -> ModelState:
        states = {
            name: detached_copy(participant.initial_state(model)) for name, participant in self._participants().items()
        }
        if not states:
            raise MethodError(f"nobody here takes part in rounds of {model!r}: the method has no participants")
        found = {name: digest(state) for name, state in states.items()}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{name} {text[:12]}" for name, text in found.items())
            raise MethodError(
                f"the participants begin {model!r} differently ({listed}): use one configuration and seed"
            )
        return next(iter(states.values()))

    def _gather(self, programme: RoundPlan, number: int, base: ModelState) -> _Gathered:
        task = RoundTask(programme.model, programme.work, number, dict(programme.options))
        participants, gathered = self._participants(), _Gathered()
        share = programme.federation.participation
        for name in sampled_participants(participants, share, self.seed, programme.model, number):
            try:
                update = participants[name].contribute(task, detached_copy(model_tensors(base)), self.progress)
            except MethodError as error:
                gathered.lost[name] = f"declined: {error}"
                continue
            try:
                gathered.updates[name] = _vetted(update, base)
            except ModelError as error:
                gathered.refused[name] = str(error)
        return gathered


def _vetted(update: Update, base: ModelState) -> Update:
    """A contribution as it is now, once it fits.

    Raises:
        ModelError: it does not, and why.
    """
    require_like(update.state, model_tensors(base), "the contribution")
    require_finite(update.state, "the contribution")
    if not (math.isfinite(update.weight) and update.weight > 0):
        raise ModelError(f"the contribution weighs {update.weight}: a finite number > 0 is needed")
    return Update(detached_copy(update.state), float(update.weight), dict(update.values))


def _taken(given: ModelState, base: ModelState) -> ModelState:
    require_like(given, model_tensors(base), "the given model")
    require_finite(given, "the given model")
    return detached_copy(given)


def _combined(programme: RoundPlan, number: int, base: ModelState, gathered: _Gathered) -> ModelState:
    federation, updates = programme.federation, gathered.updates
    if len(updates) < federation.quorum:
        raise MethodError(
            f"round {number} of {programme.model!r} has {len(updates)} contributions and needs {federation.quorum}: "
            f"{gathered.names()}"
        )
    states = {name: update.state for name, update in updates.items()}
    return aggregate(federation, base, states, {name: update.weight for name, update in updates.items()})


def _record(model: str, number: int, gathered: _Gathered, digest_: str, seconds: float) -> RoundRecord:
    return RoundRecord(
        number=number,
        model=model,
        weights={name: update.weight for name, update in gathered.updates.items()},
        values={name: dict(update.values) for name, update in gathered.updates.items()},
        late=(),
        lost=gathered.lost,
        refused=gathered.refused,
        digest=digest_,
        seconds=seconds,
        lead=LEAD,
    )


def _require_sound(programme: RoundPlan) -> None:
    if programme.rounds < 1:
        raise MethodError(f"programme {programme.key!r} asks for {programme.rounds} rounds: at least 1 is needed")
    if programme.replacement is not None and programme.rounds != 1:
        raise MethodError(f"programme {programme.key!r} gives a model in {programme.rounds} rounds: give it in one")

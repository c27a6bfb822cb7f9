"""A `Network` of sites within one process: the same plans, run by the same functions, without a bus.

Counterpart of `nodes.rounds` and, by way of `local_exchange`, of `nodes.exchange`, for notebooks and for tests that
compare the bus with it: with the same sites both end with the same bytes. There are no deadlines and no late peers
here. A state is validated once, where it enters: a contribution in `_validated`, a replacement in `_run_round`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fednet.api import (
    Ask,
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
from fednet.federated.state import detached_copy, digest, model_tensors, require_valid
from fednet.methods.contract import Announcer
from fednet.questions import asked_of, recipients

LEAD = "local"


def local_ask(responders: Mapping[str, Responder]) -> Ask:
    """An `Ask` over responders of this process, in sorted order of their names."""
    one_at_a_time = threading.Lock()

    def ask(question: Question) -> Replies:
        named = recipients(question)
        names = tuple(sorted(responders)) if named is None else named
        with one_at_a_time:
            return Replies({name: responders[name].answer(asked_of(question, name)) for name in names})

    return ask


def prepare_sites(sites: Mapping[str, Responder], progress: Progress | None = None) -> dict[str, str]:
    """Prepares sites of this process as those of one run, and returns their capabilities.

    Raises:
        MethodError: they do not fit each other, or one cannot prepare.
    """
    ordered = dict(sorted(sites.items()))
    announcers = {name: site for name, site in ordered.items() if isinstance(site, Announcer)}
    announcements = {name: site.announce() for name, site in announcers.items()}
    for site in announcers.values():
        site.agree(announcements)
    return {name: site.prepare(progress or NullProgress()) for name, site in ordered.items()}


def local_network(
    sites: Mapping[str, Responder], capabilities: Mapping[str, str], seed: int = 0, progress: Progress | None = None
) -> Network:
    """A network of sites of this process.

    Args:
        sites: prepared sites by name; a `Participant` takes part in rounds too, an `Exchanger` in exchanges.
        capabilities: what their `prepare` returned.
        seed: the run's, for sampling participants.
        progress: receives every site's progress.
    """
    ordered, progress = dict(sorted(sites.items())), progress or NullProgress()
    exchangers = {name: site for name, site in ordered.items() if isinstance(site, Exchanger)}
    return _LocalNetwork(
        ordered, dict(sorted(capabilities.items())), seed, progress, LocalExchange(exchangers, progress)
    )


@dataclass
class _Contributions:
    """The contributions to one round, and why others are missing."""

    updates: dict[str, Update] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def describe_missing(self) -> str:
        """The missing participants with the reasons, as text."""
        missing = {**self.lost, **self.refused}
        return "; ".join(f"{name} {reason}" for name, reason in sorted(missing.items())) or "no participant was sampled"


@dataclass
class _LocalNetwork:
    sites: dict[str, Responder]
    capabilities: Mapping[str, str]
    seed: int
    progress: Progress
    local_exchange: LocalExchange
    _models: dict[str, tuple[int, ModelState]] = field(default_factory=dict)
    _records: dict[str, list[RoundRecord]] = field(default_factory=dict)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> Replies:
        """Asks the sites that a question is for, in sorted order of their names."""
        by_node, lost = {}, {}
        for name in self._recipients(recipients(question)):
            try:
                with self._one_at_a_time:
                    by_node[name] = self.sites[name].answer(asked_of(question, name))
            except MethodError as error:
                lost[name] = f"refused: {error}"
        if not by_node and question.each is None:
            reasons = "; ".join(f"{name} {reason}" for name, reason in lost.items())
            raise MethodError(f"no site answered {question.task!r}: {reasons}")
        return Replies(by_node, lost=lost)

    def run_rounds(self, plan: RoundPlan) -> tuple[RoundRecord, ...]:
        """Runs a plan's rounds; those that a plan of this key has had are not run again.

        Raises:
            MethodError: the plan is invalid, no site takes part, or fewer than the quorum contributed.
        """
        _require_valid_plan(plan)
        records = self._records.setdefault(plan.key, [])
        while len(records) < plan.rounds:
            records.append(self._run_round(plan))
        return tuple(records)

    def exchange(self, plan: ExchangePlan) -> ExchangeRecord:
        """Runs an exchange; a plan with a known key returns its record.

        Raises:
            MethodError: no site offers.
        """
        return self.local_exchange.exchange(plan)

    def _recipients(self, to: tuple[str, ...] | None) -> list[str]:
        names = sorted(self.sites if to is None else to)
        if unknown := [name for name in names if name not in self.sites]:
            raise MethodError(f"unknown sites {', '.join(unknown)}; expected some of {', '.join(self.sites) or 'none'}")
        return names

    def _participants(self) -> dict[str, Participant]:
        return {name: site for name, site in self.sites.items() if isinstance(site, Participant)}

    def _run_round(self, plan: RoundPlan) -> RoundRecord:
        began, model = time.perf_counter(), plan.model
        number, base = self._current(model)
        number += 1
        if plan.replacement is not None:
            contributions = _Contributions()
            require_valid(plan.replacement, model_tensors(base), "the replacement")
            state: ModelState = detached_copy(plan.replacement)
        else:
            contributions = self._contributions(plan, number, base)
            state = _aggregated(plan, number, base, contributions)
        self._models[model] = number, state
        for participant in self._participants().values():
            participant.adopt(model, number, detached_copy(model_tensors(state)))
        return _record(model, number, contributions, digest(state), time.perf_counter() - began)

    def _current(self, model: str) -> tuple[int, ModelState]:
        """The number of a model's last round, 0 before the first, and its state."""
        if model not in self._models:
            self._models[model] = 0, self._initial_state(model)
        return self._models[model]

    def _initial_state(self, model: str) -> ModelState:
        participants = self._participants()
        states = {name: detached_copy(each.initial_state(model)) for name, each in participants.items()}
        if not states:
            raise MethodError(f"no site takes part in rounds of {model!r}: the method has no participants")
        digests = {name: digest(state) for name, state in states.items()}
        if len(set(digests.values())) > 1:
            listed = ", ".join(f"{name} {text[:12]}" for name, text in digests.items())
            raise MethodError(
                f"the initial states of {model!r} differ between participants ({listed}): use the same configuration "
                "and seed at every site"
            )
        return next(iter(states.values()))

    def _contributions(self, plan: RoundPlan, number: int, base: ModelState) -> _Contributions:
        task = RoundTask(plan.model, plan.task, number, dict(plan.options))
        participants, contributions = self._participants(), _Contributions()
        share = plan.federation.participation
        for name in sampled_participants(participants, share, self.seed, plan.model, number):
            try:
                update = participants[name].contribute(task, detached_copy(model_tensors(base)), self.progress)
            except MethodError as error:
                contributions.lost[name] = f"declined: {error}"
                continue
            try:
                contributions.updates[name] = _validated(update, base)
            except ModelError as error:
                contributions.refused[name] = str(error)
        return contributions


def _validated(update: Update, base: ModelState) -> Update:
    """A copy of a contribution.

    Raises:
        ModelError: it does not fit the base, is not finite, or its weight is not a finite number > 0.
    """
    require_valid(update.state, model_tensors(base), "the contribution")
    if not (math.isfinite(update.weight) and update.weight > 0):
        raise ModelError(f"the contribution weighs {update.weight}: expected a finite number > 0")
    return Update(detached_copy(update.state), float(update.weight), dict(update.values))


def _aggregated(plan: RoundPlan, number: int, base: ModelState, contributions: _Contributions) -> ModelState:
    federation, updates = plan.federation, contributions.updates
    if len(updates) < federation.quorum:
        raise MethodError(
            f"round {number} of {plan.model!r} has {len(updates)} contributions, expected at least "
            f"{federation.quorum}: "
            f"{contributions.describe_missing()}"
        )
    states = {name: update.state for name, update in updates.items()}
    return aggregate(federation, base, states, {name: update.weight for name, update in updates.items()})


def _record(model: str, number: int, contributions: _Contributions, state_digest: str, seconds: float) -> RoundRecord:
    return RoundRecord(
        number=number,
        model=model,
        weights={name: update.weight for name, update in contributions.updates.items()},
        values={name: dict(update.values) for name, update in contributions.updates.items()},
        late=(),
        lost=contributions.lost,
        refused=contributions.refused,
        digest=state_digest,
        seconds=seconds,
        leader=LEAD,
    )


def _require_valid_plan(plan: RoundPlan) -> None:
    if plan.rounds < 1:
        raise MethodError(f"round plan {plan.key!r} asks for {plan.rounds} rounds: expected at least 1")
    if plan.replacement is not None and plan.rounds != 1:
        raise MethodError(f"round plan {plan.key!r} has a replacement and {plan.rounds} rounds: expected rounds = 1")

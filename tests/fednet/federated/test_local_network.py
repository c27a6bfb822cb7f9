"""Rounds within one process: the rule's result, named invalid contributions, and training that has an effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundPlan, RoundTask, Stopped, Update
from fednet.errors import MethodError
from fednet.federated.aggregation import aggregate
from fednet.federated.config import Federation, Krum, Mean, Median, Momentum
from fednet.federated.local_network import local_network
from fednet.federated.participation import sampled_participants
from fednet.federated.state import detached_copy, digest, model_tensors, optimiser_slots, with_slots


@dataclass
class Learner:
    """Regresses on points of its own: a linear model by a few steps of gradient descent."""

    index: int
    corruption: Callable[[Update], Update] = lambda update: update
    seen: list[RoundTask] = field(default_factory=list)
    adopted: list[tuple[str, int, str]] = field(default_factory=list)
    start: float = 0.0
    model: ModelState = field(default_factory=dict)

    def data(self) -> tuple[Tensor, Tensor]:
        x = torch.randn(20, 3, generator=torch.Generator().manual_seed(self.index))
        return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 3

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        if question.task == f"decline {self.index}":
            raise MethodError("not today")
        return {"out": torch.tensor(self.index)}

    def initial_state(self, model: str) -> ModelState:
        if model != "line":
            raise MethodError(f"there is no model {model!r}: line")
        return {"w": torch.full((3,), self.start), "b": torch.zeros(()), "n": torch.tensor(0)}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        self.seen.append(task)
        progress.report("train", 1, 1)
        w, b = base["w"], base["b"]  # written to: the base is this learner's own
        x, y = self.data()
        for _ in range(int(task.options.get("steps", 5) or 0)):
            error = x @ w + b - y
            w -= 0.1 * (x * error[:, None]).mean(0)
            b -= 0.1 * error.mean()
        return self.corruption(Update({**base, "n": base["n"] + 1}, 20.0 + self.index, {"steps": 5.0}))

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        self.adopted.append((model, number, digest(state)))
        self.model = detached_copy(state)
        state["w"].fill_(99.0)  # this learner's own as well


class Answering:
    """An answerer that takes no part in rounds."""

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {"out": torch.tensor(-1)}


def learners(count: int = 3) -> dict[str, Learner]:
    return {f"a{index}": Learner(index) for index in reversed(range(count))}


def round_plan(key: str = "k", rounds: int = 1, **federation: object) -> RoundPlan:
    return RoundPlan(key, "line", "train", rounds, Federation.model_validate(federation))


def loss(state: ModelState) -> float:
    errors = [x @ state["w"] + state["b"] - y for x, y in (Learner(index).data() for index in range(3))]
    return float(torch.cat(errors).square().mean())


def by_hand(agents: Mapping[str, Learner], federation: Federation, rounds: int) -> ModelState:
    state: ModelState = Learner(0).initial_state("line")
    for number in range(1, rounds + 1):
        task = RoundTask("line", "train", number)
        updates = {
            name: agent.contribute(task, detached_copy(model_tensors(state)), NullReporter())
            for name, agent in agents.items()
        }
        weights = {name: update.weight for name, update in updates.items()}
        state = aggregate(federation, state, {name: update.state for name, update in updates.items()}, weights)
    return state


class NullReporter:
    def report(self, phase: str, done: int, total: int, **values: float) -> None: ...


@pytest.mark.parametrize("server", [{"kind": "replace"}, {"kind": "momentum"}, {"kind": "adam"}])
@pytest.mark.parametrize("rule", [{"kind": "mean"}, {"kind": "median"}])
def test_rounds_equal_repeated_aggregation(rule: dict[str, str], server: dict[str, str]) -> None:
    agents = learners()
    records = local_network(agents, {}).run_rounds(round_plan(rounds=4, rule=rule, server=server))
    expected = by_hand(learners(), Federation.model_validate({"rule": rule, "server": server}), 4)
    assert records[-1].digest == digest(expected)
    assert [record.number for record in records] == [1, 2, 3, 4]
    assert {agent.adopted[-1] for agent in agents.values()} == {("line", 4, digest(model_tensors(expected)))}
    assert all(len(agent.adopted) == 4 for agent in agents.values())


def test_the_record_lists_weights_and_values() -> None:
    (record,) = local_network({**learners(), "z": Answering()}, {}).run_rounds(round_plan())
    assert record.weights == {"a0": 20.0, "a1": 21.0, "a2": 22.0}
    assert list(record.weights) == sorted(record.weights)
    assert record.values == {name: {"steps": 5.0} for name in record.weights}
    assert (record.late, record.lost, record.refused, record.leader) == ((), {}, {}, "local")
    assert (record.model, record.seconds >= 0) == ("line", True)


def test_training_trains_and_an_aggregate_of_zeros_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    agents = learners()
    network = local_network(agents, {})
    start = loss(Learner(0).initial_state("line"))
    network.run_rounds(round_plan(rounds=30))
    good = by_hand(learners(), Federation(), 30)
    assert agents["a0"].adopted[-1][2] == digest(good)
    assert loss(good) < 0.01 * start

    def zeros(*_: object) -> ModelState:
        return {name: torch.zeros_like(tensor) for name, tensor in Learner(0).initial_state("line").items()}

    monkeypatch.setattr("fednet.federated.local_network.aggregate", zeros)
    broken = learners()
    local_network(broken, {}).run_rounds(round_plan(rounds=30))
    assert broken["a0"].adopted[-1][2] == digest(zeros()) != digest(good)
    assert loss(zeros()) == start


def test_a_key_runs_once_and_numbers_continue() -> None:
    agents = learners()
    network = local_network(agents, {})
    first = network.run_rounds(round_plan("one", 2))
    assert network.run_rounds(round_plan("one", 2)) == first
    assert len(agents["a0"].seen) == 2
    assert [record.number for record in network.run_rounds(round_plan("two", 2))] == [3, 4]
    once = learners()
    assert (
        local_network(once, {}).run_rounds(round_plan(rounds=4))[-1].digest
        == network.run_rounds(round_plan("two", 2))[-1].digest
    )


def test_a_replacement_is_adopted_by_every_site() -> None:
    agents = learners()
    network = local_network(agents, {})
    network.run_rounds(round_plan("train", server={"kind": "momentum"}))
    model = {"w": torch.tensor([1.0, 2.0, 3.0]), "b": torch.ones(()), "n": torch.tensor(7)}
    (record,) = network.run_rounds(replace(round_plan("set"), replacement=model))
    assert record.number == 2
    assert (record.weights, record.values, record.lost) == ({}, {}, {})
    assert record.digest == digest({**model, "w": torch.tensor([1.0, 2.0, 3.0])})
    assert {agent.adopted[-1] for agent in agents.values()} == {("line", 2, record.digest)}
    assert model["w"].tolist() == [1, 2, 3]
    assert len(agents["a0"].seen) == 1


@pytest.mark.parametrize(
    "model",
    [
        {"w": torch.zeros(3), "b": torch.zeros(())},
        {"w": torch.zeros(4), "b": torch.zeros(()), "n": torch.tensor(0)},
        {"w": torch.full((3,), float("nan")), "b": torch.zeros(()), "n": torch.tensor(0)},
        {"w": torch.zeros(3), "b": torch.zeros(()), "n": torch.tensor(0), "server/velocity/w": torch.zeros(3)},
    ],
)
def test_an_invalid_replacement_changes_nothing(model: ModelState) -> None:
    agents = learners()
    network = local_network(agents, {})
    with pytest.raises(MethodError, match="the replacement"):
        network.run_rounds(replace(round_plan("set"), replacement=model))
    assert agents["a0"].adopted == []
    assert network.run_rounds(round_plan())[0].number == 1


CORRUPTIONS: dict[str, tuple[Callable[[Update], Update], str]] = {
    "nan": (
        lambda update: replace(update, state={**update.state, "w": torch.tensor([0, float("nan"), 1])}),
        "not finite",
    ),
    "inf": (lambda update: replace(update, state={**update.state, "b": torch.tensor(float("inf"))}), "not finite"),
    "shape": (lambda update: replace(update, state={**update.state, "w": torch.zeros(4)}), "expected float32"),
    "dtype": (lambda update: replace(update, state={**update.state, "w": torch.zeros(3).double()}), "expected float32"),
    "missing": (lambda update: replace(update, state={"w": update.state["w"]}), "is missing"),
    "more": (lambda update: replace(update, state={**update.state, "x": torch.zeros(1)}), "no tensor 'x'"),
    "slots": (
        lambda update: replace(update, state=with_slots(update.state, {"velocity/w": torch.zeros(3)})),
        "no tensor 'server/velocity/w'",
    ),
    "weightless": (lambda update: replace(update, weight=0.0), "weighs 0.0"),
    "heavy": (lambda update: replace(update, weight=float("inf")), "weighs inf"),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_an_invalid_contribution_is_refused_by_name_and_the_round_goes_on(corruption: str) -> None:
    agents, (bad, message) = learners(), CORRUPTIONS[corruption]
    agents["a1"].corruption = bad
    (record,) = local_network(agents, {}).run_rounds(round_plan())
    assert set(record.refused) == {"a1"}
    assert message in record.refused["a1"]
    assert set(record.weights) == {"a0", "a2"}
    assert record.lost == {}
    without = learners()
    del without["a1"]
    assert record.digest == local_network(without, {}).run_rounds(round_plan())[0].digest
    assert agents["a1"].adopted == agents["a0"].adopted


def declining(update: Update) -> Update:
    raise MethodError("no data")


def test_a_participant_that_declines_is_lost_and_too_few_are_an_error() -> None:
    agents = learners()
    agents["a2"].corruption = declining
    agents["a1"].corruption = CORRUPTIONS["nan"][0]
    network = local_network(agents, {})
    (record,) = network.run_rounds(round_plan())
    assert record.lost == {"a2": "declined: no data"}
    assert set(record.refused) == {"a1"}
    with pytest.raises(
        MethodError, match=r"round 2 of 'line' has 1 contributions, expected at least 2.*a1.*a2 declined: no data"
    ):
        network.run_rounds(round_plan("more", 3, quorum=2))
    agents["a1"].corruption = lambda update: update
    assert [one.number for one in network.run_rounds(round_plan("more", 3, quorum=2))] == [2, 3, 4]


def test_no_contribution_is_an_error() -> None:
    agents = learners(1)
    agents["a0"].corruption = declining
    with pytest.raises(MethodError, match="has 0 contributions"):
        local_network(agents, {}).run_rounds(round_plan())


def test_krum_of_too_few_leaves_the_model_alone() -> None:
    agents = learners(4)
    network = local_network(agents, {})
    with pytest.raises(MethodError, match="krum"):
        network.run_rounds(round_plan(rule={"kind": "krum"}))
    assert network.run_rounds(round_plan("mean"))[0].number == 1


def test_a_robust_rule_withstands_a_byzantine_participant() -> None:
    agents = learners(5)
    agents["a4"].corruption = lambda update: replace(
        update, state={**update.state, "w": torch.full((3,), 3e38)}, weight=1e9
    )
    found = {}
    for rule in (Mean(), Median(), Krum()):
        local_network(agents, {}).run_rounds(RoundPlan("k", "line", "train", 1, Federation(rule=rule)))
        found[rule.kind] = float(agents["a0"].model["w"].abs().max())
    assert found["mean"] > 1e30
    assert found["median"] < 10
    assert found["krum"] < 10


def test_a_sample_contributes_and_all_adopt() -> None:
    agents = learners(5)
    records = local_network(agents, {}, seed=4).run_rounds(round_plan(rounds=6, participation=0.4))
    names = sorted(agents)
    assert [tuple(record.weights) for record in records] == [
        sampled_participants(names, 0.4, 4, "line", n) for n in range(1, 7)
    ]
    assert len({tuple(record.weights) for record in records}) > 1
    assert len({tuple(agent.adopted) for agent in agents.values()}) == 1


def test_tasks_carry_number_work_and_options() -> None:
    agents = learners(1)
    local_network(agents, {}).run_rounds(replace(round_plan(rounds=2), options={"steps": 1}))
    assert agents["a0"].seen == [RoundTask("line", "train", number, {"steps": 1}) for number in (1, 2)]


def test_differing_initial_states_are_refused() -> None:
    agents = learners()
    agents["a2"].start = 1e-7
    with pytest.raises(MethodError, match="initial states of 'line' differ"):
        local_network(agents, {}).run_rounds(round_plan())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RoundPlan("k", "circle", "train", 1, Federation()), "no model 'circle'"),
        (RoundPlan("k", "line", "train", 0, Federation()), "at least 1"),
        (RoundPlan("k", "line", "train", 2, Federation(), replacement={}), "expected rounds = 1"),
    ],
)
def test_an_invalid_plan_is_refused(wrong: RoundPlan, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        local_network(learners(), {}).run_rounds(wrong)


def test_without_participants_there_are_no_rounds() -> None:
    with pytest.raises(MethodError, match="no participants"):
        local_network({"z": Answering()}, {}).run_rounds(round_plan())


def test_questions_go_to_all_or_to_some() -> None:
    network = local_network({**learners(), "z": Answering()}, {"z": "{}", "a0": "{}"})
    assert list(network.capabilities) == ["a0", "z"]
    assert list(network.ask(Question("x", {})).by_node) == ["a0", "a1", "a2", "z"]
    assert list(network.ask(Question("x", {}, to=("z", "a1", "a1"))).by_node) == ["a1", "z"]
    replies = network.ask(Question("decline 1", {}))
    assert (list(replies.by_node), replies.lost) == (["a0", "a2", "z"], {"a1": "refused: not today"})
    with pytest.raises(MethodError, match=r"no site answered.*a1 refused: not today"):
        network.ask(Question("decline 1", {}, to=("a1",)))
    with pytest.raises(MethodError, match="unknown sites a9"):
        network.ask(Question("x", {}, to=("a9",)))


def test_a_stop_ends_the_rounds() -> None:
    class Stopping:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            raise Stopped

    agents = learners()
    with pytest.raises(Stopped):
        local_network(agents, {}, progress=Stopping()).run_rounds(round_plan())
    assert agents["a0"].adopted == []


def test_momentum_is_kept_between_plans() -> None:
    federation = {"kind": "momentum", "beta": 0.5}
    agents = learners()
    network = local_network(agents, {})
    network.run_rounds(round_plan("one", server=federation))
    (last,) = network.run_rounds(round_plan("two", server=federation))
    expected = by_hand(learners(), Federation(server=Momentum(beta=0.5)), 2)
    assert optimiser_slots(expected)
    assert last.digest == digest(expected)

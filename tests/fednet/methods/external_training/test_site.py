"""A training loop and a node hand rounds to each other, one by one and in order; neither waits in vain."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from fednet.api import NullProgress, Question, RoundTask, SiteContext, Stopped
from fednet.errors import MethodError, PrivacyError
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.results import MODEL, TRAIN
from fednet.methods.external_training.site import LoopSite, module_state

PATIENCE = 20.0


class Nobody:
    """Progress of a round that nobody waits for any more."""

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        raise Stopped


def site(rounds: int = 2) -> LoopSite:
    return LoopSite(ExternalTrainingConfig(rounds=rounds), SiteContext("a1", 0, 1, 0, "cpu", Path("unused")))


def module(value: float = 0.0) -> nn.Module:
    net = nn.Linear(1, 1)
    net.load_state_dict({"weight": torch.full((1, 1), value), "bias": torch.full((1,), value)})
    return net


def task(number: int) -> RoundTask:
    return RoundTask(MODEL, TRAIN, number, {})


def in_loop(site: LoopSite, loop: Callable[[], object]) -> object:
    """Runs a loop on a thread of its own while the rounds 1 and 2 are held here; returns what it ends with."""
    site.join(lambda: None)
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(loop)
        site.prepare(NullProgress())
        state = site.initial_state(MODEL)
        for number in (1, 2):
            state = site.contribute(task(number), state, NullProgress()).state
            site.adopt(MODEL, number, state)
        return ended.result(PATIENCE)


def test_a_loop_gets_each_round_once_and_the_last_model_in_the_end() -> None:
    training, net, numbers = site(), module(), list[int]()

    def loop() -> float:
        for turn in training.rounds(net):
            numbers.append(turn.number)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(1.0)
            turn.done(weight=3, loss=torch.tensor(0.5))
        return float(net.state_dict()["bias"])

    assert in_loop(training, loop) == 2.0
    assert numbers == [1, 2]


def test_a_round_that_is_held_again_is_not_trained_again() -> None:
    training, net, trained = site(1), module(), list[int]()
    training.join(lambda: None)

    def loop() -> None:
        for turn in training.rounds(net):
            trained.append(turn.number)
            turn.done(weight=1)

    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(loop)
        training.prepare(NullProgress())
        base = training.initial_state(MODEL)
        once = training.contribute(task(1), base, NullProgress())
        assert training.contribute(task(1), base, NullProgress()) is once
        training.adopt(MODEL, 1, once.state)
        ended.result(PATIENCE)
    assert trained == [1]


def test_a_loop_that_goes_on_without_done_is_told() -> None:
    training = site()
    training.join(lambda: None)

    def loop() -> None:
        for _ in training.rounds(module()):
            pass

    with ThreadPoolExecutor(2) as threads:
        ended = threads.submit(loop)
        training.prepare(NullProgress())
        contributed = threads.submit(training.contribute, task(1), module_state(module()), NullProgress())
        with pytest.raises(MethodError, match=r"round 1 of 2: call done\(weight=\.\.\.\)"):
            ended.result(PATIENCE)
        training.leave("it is over")
        with pytest.raises(MethodError, match="it is over"):
            contributed.result(PATIENCE)


def test_done_counts_once() -> None:
    training, errors = site(), list[str]()

    def loop() -> None:
        for turn in training.rounds(module()):
            turn.done(weight=1)
            try:
                turn.done(weight=1)
            except MethodError as error:
                errors.append(str(error))

    in_loop(training, loop)
    assert errors == ["round 1 of 2: done was called twice", "round 2 of 2: done was called twice"]


def test_a_round_that_nobody_waits_for_is_withdrawn() -> None:
    training = site()
    with pytest.raises(Stopped):
        training.contribute(task(1), module_state(module()), Nobody())
    training.end()
    assert list(training.rounds(module())) == []


def test_a_loop_that_has_left_declines() -> None:
    training = site()
    training.leave("the training loop of a1 left: it ended before the last round")
    with pytest.raises(MethodError, match="ended before the last round"):
        training.contribute(task(1), {}, NullProgress())


def test_a_run_of_rounds_is_held_once() -> None:
    training = site()
    training.end()
    list(training.rounds(module()))
    with pytest.raises(MethodError, match="held once"):
        next(iter(training.rounds(module())))


def test_a_site_that_was_started_without_a_loop_is_refused() -> None:
    with pytest.raises(MethodError, match="a1 is a training script"):
        site().prepare(NullProgress())


def test_what_a_loop_cannot_do_is_refused() -> None:
    training = site()
    with pytest.raises(MethodError, match="answers no questions, such as 'score'"):
        training.answer(Question("score", {}))
    with pytest.raises(MethodError, match="unknown model 'gan'"):
        training.initial_state("gan")
    with pytest.raises(MethodError, match="unknown task 'average'"):
        training.contribute(RoundTask(MODEL, "average", 1, {}), {}, NullProgress())


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"finished": 1}', '{"finished": true}', '{"finished": [1]}', "[" * 8000]
)
def test_who_does_not_say_that_it_has_finished_has_not(text: str) -> None:
    assert not site().finished(text)


def test_who_says_so_has_finished_and_so_have_those_it_names() -> None:
    training = site()
    assert training.finished(training.capabilities({"b1", "a1"})) == {"a1", "b1"}
    assert not training.finished(training.capabilities(()))


def test_a_model_that_noise_would_spoil_is_refused_before_it_trains(tmp_path: Path) -> None:
    private = ExternalTrainingConfig.model_validate({"privacy": {}})
    training = LoopSite(private, SiteContext("a1", 0, 1, 0, "cpu", tmp_path))
    with pytest.raises(PrivacyError, match="GroupNorm in place of BatchNorm"):
        next(training.rounds(nn.BatchNorm1d(2)))


def test_with_privacy_a_round_that_is_held_again_is_paid_for_once(tmp_path: Path) -> None:
    private = ExternalTrainingConfig.model_validate({"rounds": 1, "privacy": {"noise": 1.0}})
    training = LoopSite(private, SiteContext("a1", 0, 1, 0, "cpu", tmp_path))

    def loop() -> None:
        for turn in training.rounds(module(1.0)):
            turn.done(weight=9.0, loss=0.5)

    training.join(lambda: None)
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(loop)
        training.prepare(NullProgress())
        base = training.initial_state(MODEL)
        first, again = (training.contribute(task(1), base, NullProgress()) for _ in range(2))
        training.adopt(MODEL, 1, first.state)
        ended.result(PATIENCE)
    assert first is again
    assert (first.weight, "loss" in first.values) == (1.0, False)
    assert len(json.loads((tmp_path / "ledgers" / "a1.json").read_text())["entries"]) == 1

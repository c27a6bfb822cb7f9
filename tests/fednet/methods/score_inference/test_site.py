"""An agent trains once, answers exactly what it is asked and refuses the rest."""

from __future__ import annotations

import json

import pytest
import torch

from fednet.api import NullProgress, Question, SiteContext, Stopped
from fednet.errors import MethodError, ModelError
from fednet.methods.score_inference.site import ScoreCapabilities, ScoreInferenceSite
from fednet.seeds import generator


def question(ask: str = "score", labels=None, x=None, **options) -> Question:
    x = torch.randn(4, 1, 4, 4, generator=generator(0, "x")) if x is None else x
    inputs = {"x": x} | ({} if labels is None else {"labels": labels})
    return Question(ask, inputs, {"t": 0.5, **options})


class Counting:
    def __init__(self, last: int | None = None) -> None:
        self.last, self.heard = last, 0

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.heard += 1
        if done == self.last:
            raise Stopped


def test_the_card_says_what_others_must_know(federation) -> None:
    card = ScoreCapabilities.model_validate_json(federation().capabilities["a2"])
    assert card.histogram == (0, 13, 0)
    assert (card.classes, card.shape, card.conditional, card.steps) == (("one", "two", "three"), (1, 4, 4), False, 3)
    assert len(federation().capabilities["a2"]) < 2000


def test_an_agent_trains_once_and_then_remembers(federation) -> None:
    made = federation()
    again = federation()
    heard = Counting()
    card = json.loads(again.agents["a1"].prepare(heard))
    assert heard.heard == 0
    assert card["seconds"] == 0
    assert card["loss"] == json.loads(made.capabilities["a1"])["loss"]
    one, two = (agents.agents["a1"].answer(question())["score"] for agents in (made, again))
    assert torch.equal(one, two)


def test_another_configuration_trains_anew(federation, small_config) -> None:
    federation()
    other = federation(small_config(train={"steps": 4}))
    assert json.loads(other.capabilities["a1"])["steps"] == 4
    sampled_otherwise = federation(small_config(samples={"total": 9}))
    assert json.loads(sampled_otherwise.capabilities["a1"])["seconds"] == 0


def test_a_stopped_training_leaves_no_checkpoint(federation, small_config, tmp_path) -> None:
    made = federation(small_config(train={"steps": 2}))
    agent = ScoreInferenceSite(
        small_config(train={"steps": 9}), SiteContext("b", 0, 1, 0, "cpu", tmp_path / "b"), made.agents["a1"]._share
    )
    with pytest.raises(Stopped):
        agent.prepare(Counting(last=2))
    assert not list((tmp_path / "b").glob("**/*.safetensors"))


def test_the_answer_does_not_depend_on_the_other_samples(federation) -> None:
    agent, x = federation().agents["a1"], torch.randn(6, 1, 4, 4)
    whole = agent.answer(question(x=x))["score"]
    torch.testing.assert_close(whole[2:3], agent.answer(question(x=x[2:3]))["score"], atol=1e-5, rtol=1e-5)
    assert whole.dtype == torch.float32
    assert whole.shape == x.shape


def test_the_divergence_is_hutchinsons_estimate(federation) -> None:
    agent = federation().agents["a1"]
    x = torch.randn(1, 1, 4, 4, generator=generator(1, "x"))
    net = agent._net
    jacobian = torch.autograd.functional.jacobian(lambda v: net.score(v, torch.tensor(0.5)), x).view(16, 16)
    probes = [agent.answer(question(x=x, divergence=True, probe_seed=seed))["divergence"] for seed in range(200)]
    assert float(torch.stack(probes).mean()) == pytest.approx(float(jacobian.trace()), rel=0.05)
    probe = torch.randint(0, 2, x.shape, generator=generator(7, "probe")).float() * 2 - 1
    told = agent.answer(question(x=x, divergence=True, probe_seed=7))
    assert float(told["divergence"]) == pytest.approx(float(probe.flatten() @ jacobian @ probe.flatten()), rel=1e-4)
    torch.testing.assert_close(told["score"], agent.answer(question(x=x))["score"])


def test_labels_and_guidance_reach_the_model(federation, small_config) -> None:
    agent = federation(small_config(model={"conditional": True})).agents["a1"]
    labels = torch.tensor([0, 1, 2, 0])
    told, free = (agent.answer(question(labels=labels, guidance=g))["score"] for g in (1.0, 0.0))
    torch.testing.assert_close(free, agent.answer(question())["score"])
    torch.testing.assert_close(agent.answer(question(labels=labels, guidance=2.0))["score"], free + 2 * (told - free))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (question("histogram"), "'histogram'"),
        (Question("score", {}, {"t": 0.5}), "x must be"),
        (question(x=torch.randn(4, 1, 5, 4)), "x must be"),
        (question(x=torch.randn(0, 1, 4, 4)), "x must be"),
        (question(x=torch.randn(4, 1, 4, 4).double()), "float64"),
        (question(x=torch.full((1, 1, 4, 4), torch.nan)), "finite"),
        (question(t=0.0), "t must lie"),
        (question(t=1.5), "t must lie"),
        (question(t=None), "t must be a number"),
        (question(t=True), "t must be a number"),
        (question(guidance="much"), "guidance"),
        (question(labels=torch.tensor([0, 1, 2, 0])), "unconditional"),
        (question(divergence=True), "probe_seed"),
    ],
)
def test_bad_questions_are_refused_and_the_agent_lives_on(federation, asked: Question, told: str) -> None:
    agent = federation(count=1).agents["a1"]
    with pytest.raises(MethodError, match=told):
        agent.answer(asked)
    assert "score" in agent.answer(question())


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, 2, 3]), torch.tensor([0, -1, 0, 0]), torch.tensor([0]), torch.ones(4)]
)
def test_bad_labels_are_refused(federation, small_config, labels) -> None:
    agent = federation(small_config(model={"conditional": True}), count=1).agents["a1"]
    with pytest.raises(MethodError, match="labels must"):
        agent.answer(question(labels=labels))


def test_an_unprepared_agent_says_so(small_config, tmp_path) -> None:
    with pytest.raises(MethodError, match="not prepared"):
        ScoreInferenceSite(small_config(), SiteContext("a1", 0, 1, 0, "cpu", tmp_path)).answer(question())


def test_a_device_that_is_not_there_is_named(federation, small_config, tmp_path) -> None:
    share = federation(count=1).agents["a1"]._share
    with pytest.raises(ModelError, match="cuda:99"):
        ScoreInferenceSite(small_config(), SiteContext("a1", 0, 1, 0, "cuda:99", tmp_path / "x"), share).prepare(
            NullProgress()
        )

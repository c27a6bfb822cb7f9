"""An site trains once, answers exactly what it is asked and refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, SiteContext, Stopped
from fednet.errors import MethodError, ModelError
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.site import ScoreInferenceSite
from fednet.seeds import generator


def question(ask: str = "score", labels: Any = None, x: Any = None, **options: Any) -> Question:
    x = torch.randn(4, 1, 4, 4, generator=generator(0, "x")) if x is None else x
    inputs = {"x": x} | ({} if labels is None else {"labels": labels})
    return Question(ask, inputs, {"t": 0.5, **options})


class Counting:
    """Counts the steps of a training, and asks for its end after some."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.steps = last, 0

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        if phase.startswith("reading"):
            return
        self.steps += 1
        if done == self.last:
            raise Stopped


def test_the_card_says_what_others_must_know(federation: Callable[..., Any]) -> None:
    capabilities = ScoreCapabilities.model_validate_json(federation().capabilities["a2"])
    assert capabilities.histogram == (0, 13, 0)
    assert (capabilities.classes, capabilities.shape, capabilities.conditional, capabilities.steps) == (
        ("one", "two", "three"),
        (1, 4, 4),
        False,
        3,
    )
    assert len(federation().capabilities["a2"]) < 2000


def test_a_trained_model_leaves_as_a_folder_that_another_site_can_bring_along(
    federation: Callable[..., Any], tmp_path: Path
) -> None:
    trained = federation(count=1).sites["a1"]
    brought = ScoreInferenceSite.from_overrides(
        trained.config,
        SiteContext("b1", 0, 1, 0, "cpu", tmp_path / "other"),
        {"model": {"kind": "diffusers", "path": str(tmp_path / "models" / "a1")}},
    )
    brought.prepare(NullProgress())
    scores = [site.answer(question())["score"] for site in (trained, brought)]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


def test_an_agent_trains_once_and_then_remembers(federation: Callable[..., Any]) -> None:
    made = federation()
    again = federation()
    progress = Counting()
    capabilities = json.loads(again.sites["a1"].prepare(progress))
    assert progress.steps == 0
    assert capabilities["seconds"] == 0
    assert capabilities["loss"] == json.loads(made.capabilities["a1"])["loss"]
    one, two = (sites.sites["a1"].answer(question())["score"] for sites in (made, again))
    assert torch.equal(one, two)


def test_another_configuration_trains_anew(federation: Callable[..., Any], small_config: Callable[..., Any]) -> None:
    federation()
    other = federation(small_config(train={"steps": 4}))
    assert json.loads(other.capabilities["a1"])["steps"] == 4
    sampled_otherwise = federation(small_config(samples={"total": 9}))
    assert json.loads(sampled_otherwise.capabilities["a1"])["seconds"] == 0


def test_a_stopped_training_leaves_no_checkpoint(
    federation: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    made = federation(small_config(train={"steps": 2}))
    site = ScoreInferenceSite(
        small_config(train={"steps": 9}), SiteContext("b", 0, 1, 0, "cpu", tmp_path / "b"), made.sites["a1"].own
    )
    with pytest.raises(Stopped):
        site.prepare(Counting(last=2))
    assert not list((tmp_path / "b").glob("**/*.safetensors"))


def test_the_answer_does_not_depend_on_the_other_samples(federation: Callable[..., Any]) -> None:
    site, x = federation().sites["a1"], torch.randn(6, 1, 4, 4)
    whole = site.answer(question(x=x))["score"]
    torch.testing.assert_close(whole[2:3], site.answer(question(x=x[2:3]))["score"], atol=1e-5, rtol=1e-5)
    assert whole.dtype == torch.float32
    assert whole.shape == x.shape


def test_the_divergence_is_hutchinsons_estimate(federation: Callable[..., Any]) -> None:
    site = federation().sites["a1"]
    x = torch.randn(1, 1, 4, 4, generator=generator(1, "x"))
    net = site.loaded.expert
    jacobian = torch.autograd.functional.jacobian(lambda v: net.score(v, torch.tensor(0.5)), x).view(16, 16)
    probes = [site.answer(question(x=x, divergence=True, probe_seed=seed))["divergence"] for seed in range(200)]
    assert float(torch.stack(probes).mean()) == pytest.approx(float(jacobian.trace()), rel=0.05)
    probe = torch.randint(0, 2, x.shape, generator=generator(7, "probe")).float() * 2 - 1
    reply = site.answer(question(x=x, divergence=True, probe_seed=7))
    assert float(reply["divergence"]) == pytest.approx(float(probe.flatten() @ jacobian @ probe.flatten()), rel=1e-4)
    torch.testing.assert_close(reply["score"], site.answer(question(x=x))["score"])


def test_labels_and_guidance_reach_the_model(federation: Callable[..., Any], small_config: Callable[..., Any]) -> None:
    site = federation(small_config(model={"conditional": True})).sites["a1"]
    labels = torch.tensor([0, 1, 2, 0])
    reply, free = (site.answer(question(labels=labels, guidance=g))["score"] for g in (1.0, 0.0))
    torch.testing.assert_close(free, site.answer(question())["score"])
    torch.testing.assert_close(site.answer(question(labels=labels, guidance=2.0))["score"], free + 2 * (reply - free))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (question("histogram"), "unknown question 'histogram'"),
        (Question("score", {}, {"t": 0.5}), "x must be"),
        (question(x=torch.randn(4, 1, 5, 4)), "x must be"),
        (question(x=torch.randn(0, 1, 4, 4)), "x must have 1 to"),
        (question(x=torch.randn(4, 1, 4, 4).double()), "float64"),
        (question(x=torch.full((1, 1, 4, 4), torch.nan)), "finite"),
        (question(t=0.0), "t must be a number in"),
        (question(t=1.5), "t must be a number in"),
        (question(t=None), "t must be a number in"),
        (question(t=True), "t must be a number"),
        (question(guidance="much"), "guidance"),
        (question(labels=torch.tensor([0, 1, 2, 0])), "unconditional"),
        (question(divergence=True), "probe_seed"),
    ],
)
def test_bad_questions_are_refused_and_the_agent_lives_on(
    federation: Callable[..., Any], asked: Question, message: str
) -> None:
    site = federation(count=1).sites["a1"]
    with pytest.raises(MethodError, match=message):
        site.answer(asked)
    assert "score" in site.answer(question())


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, 2, 3]), torch.tensor([0, -1, 0, 0]), torch.tensor([0]), torch.ones(4)]
)
def test_bad_labels_are_refused(federation: Callable[..., Any], small_config: Callable[..., Any], labels: Any) -> None:
    site = federation(small_config(model={"conditional": True}), count=1).sites["a1"]
    with pytest.raises(MethodError, match="labels must"):
        site.answer(question(labels=labels))


def test_an_unprepared_agent_says_so(small_config: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="not prepared"):
        ScoreInferenceSite(small_config(), SiteContext("a1", 0, 1, 0, "cpu", tmp_path)).answer(question())


def test_a_device_that_is_not_there_is_named(
    federation: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    share = federation(count=1).sites["a1"].own
    with pytest.raises(ModelError, match="cuda:99"):
        ScoreInferenceSite(small_config(), SiteContext("a1", 0, 1, 0, "cuda:99", tmp_path / "x"), share).prepare(
            NullProgress()
        )

"""An object of Python answers as a score, or as the score of its denoiser; what it does wrong is said by its name."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fednet.diffusion.sde import SDE, VE, VP
from fednet.errors import ModelError
from fednet.models.config import PythonModelConfig
from fednet.models.python_expert import PythonModel
from fednet.seeds import generator


class Denoiser(nn.Module):
    """E[data | y] of N(mean, 1/4), the mean moved by the label."""

    def __init__(self, mean: float = 0.2) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, y: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        mean = self.mean + (0.0 if labels is None else 0.1 * labels.view(-1, 1, 1, 1))
        return (0.25 * y + sigma**2 * mean) / (0.25 + sigma**2)


class Score:
    def score(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return -x * t if labels is None else -x * labels.view(-1, 1, 1, 1)


class Wrong:
    def __call__(self, y: Tensor, sigma: Tensor) -> Any:
        return y[:1] if sigma > 1 else 3


def broken(y: Tensor, sigma: Tensor) -> Tensor:
    raise RuntimeError("out of order")


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("somebodys_models")
    vars(module).update(denoiser=Denoiser, score=Score, wrong=Wrong, broken=lambda: broken, number=lambda: 3)
    monkeypatch.setitem(sys.modules, "somebodys_models", module)


def opened(name: str, **more: Any) -> PythonModel:
    given = {"kind": "python", "object": f"somebodys_models:{name}", "shape": (1, 2, 2), **more}
    return PythonModel(PythonModelConfig.model_validate(given))


def points() -> Tensor:
    return torch.randn(3, 1, 2, 2, generator=generator(0, "x"))


@pytest.mark.parametrize("sde", [VP(), VE()], ids=lambda sde: sde.kind)
@pytest.mark.parametrize("limits", [None, (0.0, 255.0)])
def test_a_denoiser_has_the_score_of_its_density(sde: SDE, limits: Any) -> None:
    """In [0, 255] its N(140, 1/4) is N((140 - 127.5) / 127.5, (.5 / 127.5)^2) in [-1, 1]."""
    expert = opened("denoiser", range=limits, options={"mean": 140.0 if limits else 0.2}).load(sde, "cpu", ())
    scale, shift = (127.5, 127.5) if limits else (1.0, 0.0)
    mean, variance = ((140.0 if limits else 0.2) - shift) / scale, 0.25 / scale**2
    for t in (0.05, 0.5, 1.0):
        alpha, std = map(float, sde.marginal(torch.tensor(t, dtype=torch.float64)))
        truth = -(points() - alpha * mean) / (alpha**2 * variance + std**2)
        torch.testing.assert_close(expert.score(points(), torch.tensor(t)), truth, rtol=1e-3, atol=1e-3)


def test_labels_are_the_objects_own_and_guidance_leads_away_from_none() -> None:
    model = opened("score", classes=["b", "a"], conditional=True)
    expert, x, t = model.load(VP(), "cpu", ("a", "b")), points(), torch.tensor(0.5)
    labels = torch.tensor([0, 1, 0])
    labelled = -x * torch.tensor([1, 0, 1]).view(-1, 1, 1, 1)
    torch.testing.assert_close(expert.score(x, t, labels), labelled)
    torch.testing.assert_close(expert.score(x, t), -x * t)
    torch.testing.assert_close(expert.score(x, t, labels, 3.0), -x * t + 3 * (labelled + x * t))
    denoiser = opened("denoiser", classes=["b", "a"], conditional=True).load(VP(), "cpu", ("a", "b"))
    assert not torch.equal(denoiser.score(x, t, labels), denoiser.score(x, t))


def test_a_module_is_frozen_on_its_device_and_its_card_says_what_it_is() -> None:
    expert = opened("denoiser").load(VP(), "cpu", ())
    assert (expert.card.kind, expert.card.network) == ("python", "somebodys_models:denoiser")
    assert (expert.card.prediction, expert.classes, expert.shape) == ("sample", 0, (1, 2, 2))
    assert not expert.score(points(), torch.tensor(0.5)).requires_grad
    with pytest.raises(ModelError, match="cuda:97"):
        opened("denoiser").load(VP(), "cuda:97", ())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"object": "nowhere.at.all:x"}, r"nowhere\.at\.all:x cannot be imported: ModuleNotFoundError"),
        ({"object": "somebodys_models:missing"}, "cannot be imported: AttributeError"),
        ({"options": {"size": 3}}, "failed with size: TypeError"),
        ({"object": "somebodys_models:number"}, r"made a int; expected an object with score\(x, t, labels\)"),
        ({"object": "somebodys_models:score", "range": (0, 1)}, "range is for denoisers"),
        ({"conditional": True}, "takes labels: name them"),
    ],
)
def test_what_is_no_expert_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        opened("denoiser", **given)


@pytest.mark.parametrize(
    ("name", "t", "reason"),
    [
        ("broken", 0.5, r"somebodys_models:broken failed: RuntimeError: out of order"),
        ("wrong", 0.9, r"answered a tensor \(1, 1, 2, 2\); expected a tensor \(3, 1, 2, 2\)"),
        ("wrong", 0.01, "answered int; expected a tensor"),
    ],
)
def test_what_somebodys_code_does_wrong_is_an_answer_that_names_it(name: str, t: float, reason: str) -> None:
    expert = opened(name).load(VP(), "cpu", ())
    with pytest.raises(ModelError, match=reason):
        expert.score(points(), torch.tensor(t))

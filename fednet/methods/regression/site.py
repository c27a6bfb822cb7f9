"""A site with a few points of a line around one place, too close together to tell its slope. Knows no other site."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fednet.api import ModelState, Progress, Question, RoundTask, SiteContext, Update
from fednet.errors import MethodError
from fednet.federated.state import detached_copy, model_tensors, require_finite, require_like
from fednet.methods.regression.config import RegressionConfig
from fednet.seeds import derive, generator

LINE, TRAIN = "line", "train"
"""The model, and what a round is for."""


class RegressionSite:
    """One site (an `Responder` and a `Participant`).

    Args:
        config: the run's.
        site: its place among the clients is that of its points: 1 apart, the middle one at 0.
    """

    def __init__(self, config: RegressionConfig, site: SiteContext) -> None:
        self.config, self.site = config, site
        middle, random = site.index - (site.count - 1) / 2, generator(site.seed, "points", site.name)
        self.x = middle + config.spread * (2 * torch.rand(config.examples, 1, generator=random) - 1)
        self.y = config.slope * self.x
        self._begin = detached_copy(_fresh(site.seed).state_dict())
        self._now: ModelState = self._begin

    def prepare(self, progress: Progress) -> str:
        """Nothing to make ready; its card says how many points it has, and between which x they lie."""
        return json.dumps({"points": len(self.x), "from": float(self.x.min()), "to": float(self.x.max())})

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers "predict": y (n, 1) at x (n, 1); with the option `alone`, after that many steps without the others.

        Raises:
            MethodError: the question cannot be answered.
        """
        x = question.inputs.get("x")
        if question.ask != "predict" or x is None or x.dtype != torch.float32 or x.ndim != 2 or x.shape[1] != 1:
            raise MethodError(f"{self.site.name} answers predict, with x float32 (n, 1); not {question.ask[:40]!r}")
        alone = question.options.get("alone", 0)
        if isinstance(alone, bool) or not isinstance(alone, int) or not 0 <= alone <= 1_000_000:
            raise MethodError(f"option alone is a number of steps, not {alone!r}")
        net = self._trained(self._begin, alone) if alone else _module_from_state(self._now)
        with torch.no_grad():
            return {"y": net(x)}

    def initial_state(self, model: str) -> ModelState:
        """The line that everybody begins with.

        Raises:
            MethodError: there is no such model.
        """
        if model != LINE:
            raise MethodError(f"there is the model {LINE}, not {model[:40]!r}")
        return self._begin

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What a few steps make of `base` here; the weight is the number of points.

        Raises:
            MethodError: the task is none, or the steps are too long.
        """
        self.initial_state(task.model)
        if task.work != TRAIN:
            raise MethodError(f"a round is for {TRAIN}, not {task.work[:40]!r}")
        net = self._trained(model_tensors(base), self.config.steps)
        with torch.no_grad():
            loss = float((net(self.x) - self.y).square().mean())
        progress.report("training line", self.config.steps, self.config.steps, loss=loss)
        return Update(detached_copy(net.state_dict()), float(len(self.x)), {"loss": loss})

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with.

        Raises:
            ModelError: it is no line, or not finite.
        """
        require_like(model_tensors(state), self.initial_state(model), f"round {number} of {model}")
        require_finite(model_tensors(state), f"round {number} of {model}")
        self._now = detached_copy(model_tensors(state))

    def _trained(self, state: ModelState, steps: int) -> nn.Linear:
        net = _module_from_state(state)
        optimiser = torch.optim.SGD(net.parameters(), lr=self.config.lr)
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (net(self.x) - self.y).square().mean()
            loss.backward()
            optimiser.step()
        if not bool(torch.isfinite(loss)):
            raise MethodError(f"the steps diverge: lower lr ({self.config.lr:g})")
        return net


def _fresh(seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init", LINE))
        return nn.Linear(1, 1)


def _module_from_state(state: ModelState) -> nn.Linear:
    net = nn.Linear(1, 1)
    net.load_state_dict(dict(state))
    return net

"""A site with a few points of a line, too close together to tell its slope. Knows no other site.

All sites' centres lie in [-REACH, REACH], however many there are: gradient descent on the mean square is stable for
lr < 1 / (1 + x^2), so that x which grew with the number of sites would let any step size diverge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fednet.api import ModelState, Progress, Question, RoundTask, SiteContext, Update
from fednet.errors import MethodError
from fednet.federated.site_models import SiteModels, initial_network
from fednet.federated.state import detached_copy, model_tensors
from fednet.methods.common.inputs import vectors_input
from fednet.methods.common.options import require_known, whole_number
from fednet.methods.common.site import MethodSite, QuestionHandlers, RoundModels
from fednet.methods.common.training import descend
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.disclosures import DISCLOSURES
from fednet.seeds import generator

LINE = "line"
"""The model."""
TRAIN = "train"
"""The task of a round."""
REACH = 2.0
"""The largest centre; up to five sites are 1 apart."""


class RegressionSite(RoundModels, MethodSite[RegressionConfig]):
    """One site (a `Responder` and a `Participant`).

    Args:
        config: the run's.
        context: its index among the clients decides the centre of its points; the middle one is 0.
    """

    disclosures = DISCLOSURES

    def __init__(self, config: RegressionConfig, context: SiteContext) -> None:
        super().__init__(config, context)
        apart = min(1.0, 2 * REACH / max(1, context.count - 1))
        centre = apart * (context.index - (context.count - 1) / 2)
        random = generator(context.seed, "points", context.name)
        self.x = centre + apart * config.spread * (2 * torch.rand(config.examples, 1, generator=random) - 1)
        self.y = config.slope * self.x
        line = initial_network(context.seed, LINE, make=lambda: nn.Linear(1, 1))
        self._states = SiteModels(context.name, {LINE: line.state_dict()})

    @property
    def states(self) -> SiteModels:
        """The line."""
        return self._states

    def prepare(self, progress: Progress) -> str:
        """The site's capabilities: how many points it has, and between which x they lie."""
        return json.dumps({"points": len(self.x), "from": float(self.x.min()), "to": float(self.x.max())})

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {"predict": self._predict}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What a few steps make of `base`; the weight is the number of points.

        Raises:
            MethodError: the task is unknown, or the training diverges.
        """
        self.initial_state(task.model)
        require_known(task.task, (TRAIN,), "task", self.context.name)
        net = self._trained(model_tensors(base), self.config.steps)
        with torch.no_grad():
            loss = float((net(self.x) - self.y).square().mean())
        progress.report("training line", self.config.steps, self.config.steps, loss=loss)
        return Update(detached_copy(net.state_dict()), float(len(self.x)), {"loss": loss})

    def _predict(self, question: Question) -> Mapping[str, Tensor]:
        """Y (n, 1) at x (n, 1); with the option `alone`, after so many steps without the other sites."""
        x = vectors_input(question.inputs.get("x"), (1,), "x")
        alone = whole_number(question.options, "alone", 0, least=0)
        net = (
            self._trained(self.initial_state(LINE), alone)
            if alone
            else _module_from_state(self.states.current_state(LINE))
        )
        with torch.no_grad():
            return {"y": net(x)}

    def _trained(self, state: ModelState, steps: int) -> nn.Linear:
        net = _module_from_state(state)
        optimiser = torch.optim.SGD(net.parameters(), lr=self.config.lr)
        for _ in range(steps):
            loss = (net(self.x) - self.y).square().mean()
            descend(optimiser, loss)
        if not all(bool(torch.isfinite(part).all()) for part in net.parameters()):
            raise MethodError(f"{self.context.name}: the training diverges: lower lr ({self.config.lr:g})")
        return net


def _module_from_state(state: ModelState) -> nn.Linear:
    net = nn.Linear(1, 1)
    net.load_state_dict(dict(state))
    return net

"""A trajectory: what an evaluation leaves alone, and what leaving a point does."""

from __future__ import annotations

from typing import Any

import torch

from fednet.diffusion.combination import LabelCounts
from fednet.diffusion.sde import VP
from fednet.diffusion.trajectory import Trajectory, flow_step
from fednet.methods.score_inference.rules import make_rule
from fednet.rules.contract import RuleSettings
from fednet.seeds import generator


def trajectory(gaussians: Any, rule: str) -> Trajectory:
    held = LabelCounts(("a", "b"), torch.ones(2, 1), None)
    made = make_rule(RuleSettings(kind=rule), held)
    x = VP().prior((50, 2), generator(0, "latent"))
    return Trajectory(gaussians(VP(), (-1.0, 1.0), (0.5, 0.5)), made, x, made.init(50), 0)


def test_an_evaluation_elsewhere_leaves_the_trajectory_where_it_is(gaussians: Any) -> None:
    made = trajectory(gaussians, "mixture")
    made.leave(VP(), flow_step(VP(), made.x, 0.6))
    state, x = made.state, made.x
    there = made.evaluate(VP(), x + 0.1, flow_step(VP(), x + 0.1, 0.5))
    assert made.state is state
    assert made.x is x
    assert made.evaluations == 2
    truth = made.query.log_density(x + 0.1, 0.5) - made.query.log_density(x, 0.6)  # type: ignore[attr-defined]
    found = there.state.log_p - state.log_p
    torch.testing.assert_close(found - found.mean(0), truth - truth.mean(0), atol=0.03, rtol=0)


def test_a_rule_without_densities_is_asked_for_no_divergences_and_follows_nothing(gaussians: Any) -> None:
    made = trajectory(gaussians, "mean")
    made.leave(VP(), flow_step(VP(), made.x, 0.6))
    assert made.evaluate(VP(), made.x, flow_step(VP(), made.x, 0.5)).answers.divergences is None
    assert torch.equal(made.state.log_p, torch.zeros(2, 50))

"""The arithmetic of a step."""

from __future__ import annotations

import torch

from fednet.diffusion.combination import RuleState, SolverStep


def test_a_reverse_step_goes_along_the_whole_score_and_a_flow_along_half_of_it() -> None:
    score, drift = torch.full((2, 1), 2.0), torch.full((2, 1), 5.0)
    reverse = SolverStep(0.5, 0.1, drift, g2=4.0, q=4.0, noise=torch.full((2, 1), 7.0))
    flow = SolverStep(0.5, 1.0, drift, g2=4.0, q=0.0)
    torch.testing.assert_close(reverse.displacement(score), torch.full((2, 1), -0.5 + 0.8 + 7.0))
    torch.testing.assert_close(flow.displacement(score), torch.full((2, 1), -5.0 + 4.0))


def test_only_steps_off_the_reverse_sde_need_divergences() -> None:
    assert not SolverStep(0.5, 0.1, None, g2=4.0, q=4.0).needs_divergence
    assert SolverStep(0.5, 1.0, None, g2=4.0, q=0.0).needs_divergence
    assert SolverStep(0.5, 1.0, None, g2=0.0, q=0.1).needs_divergence


def test_at_the_start_all_agents_count_the_same() -> None:
    state = RuleState.fresh(3, 5)
    assert torch.equal(state.log_p, torch.zeros(3, 5))
    assert not bool(state.lost.any())
    assert torch.equal(state.at(torch.ones(3, 5)).log_p, torch.ones(3, 5))

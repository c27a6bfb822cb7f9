"""Parts of training loops: a step goes down, losses are finite, means are of the last half."""

from __future__ import annotations

import math

import pytest
import torch

from fednet.errors import MethodError
from fednet.methods.common.training import descend, mean_of_last_half, require_finite_losses


def test_a_step_goes_down_the_gradient_and_forgets_the_last_one() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    optimiser = torch.optim.SGD([x], lr=0.1)
    for expected in (1.6, 1.28):
        descend(optimiser, x.square().sum())
        assert float(x.detach()) == pytest.approx(expected)


def test_losses_that_are_not_finite_end_the_training() -> None:
    assert require_finite_losses({"a": 1.0}, "lower lr") == {"a": 1.0}
    for bad in (math.nan, math.inf):
        with pytest.raises(MethodError, match=r"diverges .*: lower lr"):
            require_finite_losses({"a": 1.0, "b": bad}, "lower lr")


def test_means_are_of_the_last_half_of_the_steps_in_which_a_loss_was_measured() -> None:
    history = [{"a": 9.0}, {"a": 9.0}, {"b": 4.0, "a": 1.0}, {"a": 3.0}]
    assert mean_of_last_half(history) == {"a": 2.0, "b": 4.0}
    assert list(mean_of_last_half(history)) == ["a", "b"]
    assert mean_of_last_half([]) == {}

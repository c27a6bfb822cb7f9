"""A late contribution counts as the change that it made, and less with every round it comes late."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fednet.api import Update
from fednet.federated.staleness import rebased_update

Drawn = Callable[..., dict[str, Tensor]]


def test_in_time_it_is_left_as_it_is(state: Drawn) -> None:
    update = Update(state(1), 3.0, {"loss": 0.5})
    assert rebased_update(update, state(2), state(2), 0, 0.5) is update


def test_from_the_same_model_it_is_the_same_but_lighter(state: Drawn) -> None:
    """Where nothing has moved meanwhile, base + (update - began) is the update, up to the dtypes' rounding."""
    update, began = Update(state(1), 3.0, {"loss": 0.5}), state(2)
    late = rebased_update(update, began, began, 3, 0.5)
    assert late.weight == pytest.approx(3.0 * 4**-0.5)
    assert late.values == {"loss": 0.5, "staleness": 3.0}
    assert late.state.keys() == began.keys()
    for name in ("float32.4", "float64.2", "int64.1", "complex64.3"):
        assert late.state[name].dtype == update.state[name].dtype
        assert torch.allclose(late.state[name], update.state[name], atol=1e-6)


def test_the_change_is_carried_to_where_the_others_went() -> None:
    random = torch.Generator().manual_seed(0)
    began, base, change = (torch.randn(70_000, generator=random) for _ in range(3))
    late = rebased_update(Update({"w": began + change}, 1.0), {"w": began}, {"w": base}, 1, 0.0)
    assert late.weight == 1.0
    assert torch.allclose(late.state["w"], base + change, atol=1e-5)


def test_weights_fall_with_every_round() -> None:
    zero = {"w": torch.zeros(1)}
    weights = [rebased_update(Update(zero, 2.0), zero, zero, late, 0.5).weight for late in range(6)]
    assert weights == sorted(weights, reverse=True)
    assert len(set(weights)) == 6


def test_a_late_variance_is_what_was_measured() -> None:
    """Rebased like a weight, it would be .1 + (.05 - 1) < 0."""
    began, base, late = ({"norm.running_var": torch.tensor([value]), "w": torch.zeros(1)} for value in (1.0, 0.1, 0.05))
    assert rebased_update(Update(late, 1.0), began, base, 2, 0.5).state["norm.running_var"].tolist() == [
        pytest.approx(0.05)
    ]

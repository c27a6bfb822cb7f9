"""Parts of a training loop: one optimiser step, a check for divergence, mean losses. Knows no method and no data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fednet.errors import MethodError


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimiser down the gradient of a loss, a scalar."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    optimiser.step()


def require_finite_losses(losses: dict[str, float], remedy: str) -> dict[str, float]:
    """The losses, if they are finite.

    Raises:
        MethodError: one is not; says what to do.
    """
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise MethodError(f"the training diverges (losses {losses}): {remedy}")
    return losses


def mean_of_last_half(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every loss over the last half of the steps in which it was measured, by name in sorted order."""
    last = history[len(history) // 2 :]
    measured = {name: [losses[name] for losses in last if name in losses] for name in sorted(set().union(*last))}
    return {name: sum(values) / len(values) for name, values in measured.items()}

"""Privacy of whole clients: every client's change of the model is clipped, and the sum of all changes gets noise.

DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963) with the noise made by the clients themselves, since there is no
server that could: each adds its part before the change leaves it, so that the changes of `least` clients together
have the deviation noise * clip. Two runs are neighbours if one client more takes part. Nobody is sampled in secret
(who contributes to a round is drawn from the run's public seed), so there is no amplification: a client pays for every
round in which it contributes, at rate 1.

Who sees only the sum, as behind a secure sum, faces the noise of all; who sees a client's change by itself, as in a
plain round, faces that client's part, `noise / sqrt(least)`. Both are said. A client that knows its own part faces that
of the others: of n contributors, (n - 1) / n of the variance. A secure sum clips every number of a change
(`fednet.privacy.quantise`). What it cuts off is noise that the sum lacks, so its clip must lie beyond whatever a change
and its noise come to. Knows no network and no training.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import PrivacyError
from fednet.federated.state import is_statistic, require_finite, require_like
from fednet.privacy.accounting import Expense
from fednet.privacy.noise import NoiseSource

BEYOND = 10.0
"""Deviations of its noise beyond which a number is not expected: with a probability of 2e-23, and models have 1e9."""


class ClientLevel(BaseModel):
    """How a client's change is protected.

    Attributes:
        clip: the largest Euclidean norm of a change over all of the model's numbers.
        noise: the deviation of the sum's noise in units of `clip`.
        least: fewest contributors that a round closes with. A site whose quorum it is contributes to no plan with a
            lower one, and reveals no share of a sum of fewer (`fednet.federated.floors`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clip: float = Field(default=1.0, gt=0.0)
    noise: float = Field(default=1.0, gt=0.0)
    least: int = Field(default=2, ge=1)

    @property
    def deviation(self) -> float:
        """Of the noise in each number of a client's change."""
        return self.clip * self.noise / math.sqrt(self.least)

    @property
    def reach(self) -> float:
        """The largest magnitude of a number of a clipped and noisy change: a secure sum must not clip below it."""
        return self.clip + BEYOND * self.deviation

    def expense_of_sum(self, rounds: int = 1) -> Expense:
        """What rounds cost against whoever sees the sums only."""
        return Expense(1.0, self.noise, rounds)

    def expense_of_change(self, rounds: int = 1) -> Expense:
        """What rounds cost against whoever sees this client's changes themselves."""
        return Expense(1.0, self.noise / math.sqrt(self.least), rounds)


def clip_change(state: ModelState, base: ModelState, clip: float) -> tuple[dict[str, Tensor], float]:
    """The base, changed in the direction of `state` by a norm of `clip` at most.

    Args:
        state: where a client would go; finite.
        base: where the round began; names, shapes and dtypes as in `state`.
        clip: > 0.

    Returns:
        The clipped state, and the norm of the change before. Whole numbers and bools stay as in the base: they have no
        norm, and would tell of a client what noise cannot cover.

    Raises:
        ModelError: the two do not fit, or one is not finite.
        PrivacyError: clip is not above 0.
    """
    if not 0.0 < clip < math.inf:
        raise PrivacyError(f"a change is clipped to a norm above 0, not to {clip}")
    require_like(state, base, "the client's model")
    require_finite(state, "the client's model")
    changes = {name: state[name].double() - start.double() for name, start in base.items() if start.is_floating_point()}
    norm = math.sqrt(sum(float(change.square().sum()) for change in changes.values()))
    factor = min(1.0, clip / norm) if norm > 0 else 1.0
    kept = {name: start.clone() for name, start in base.items() if name not in changes}
    moved = {name: (base[name].double() + factor * change).to(base[name].dtype) for name, change in changes.items()}
    return {name: kept[name] if name in kept else moved[name] for name in base}, norm


def clip_and_noise(state: ModelState, base: ModelState, config: ClientLevel, source: NoiseSource) -> dict[str, Tensor]:
    """What a client may contribute: its change, clipped, with its part of the noise.

    It must count as much as everybody else's: contribute it with weight 1.

    Raises:
        ModelError: as for `clip_change`.
        PrivacyError: the model keeps running statistics.
    """
    require_no_statistics(base)
    held, _ = clip_change(state, base, config.clip)
    return {
        name: _noisy(tensor, config.deviation, source) if tensor.is_floating_point() else tensor
        for name, tensor in held.items()
    }


def require_no_statistics(model: ModelState) -> None:
    """Refuses a model that noise would spoil.

    Raises:
        PrivacyError: it keeps running statistics. They are no part of a change that a norm bounds, and noise would move
            a variance below 0.
    """
    if kept := sorted(filter(is_statistic, model)):
        raise PrivacyError(
            f"the model keeps running statistics ({kept[0]}, {len(kept)} in all), which noise on a whole client's "
            "change would spoil: use GroupNorm in place of BatchNorm"
        )


def _noisy(tensor: Tensor, deviation: float, source: NoiseSource) -> Tensor:
    noise = source.gaussian(tensor.numel()).view(tensor.shape)
    noisy: Tensor = torch.add(tensor.double(), noise * deviation)
    return noisy.to(tensor.dtype)

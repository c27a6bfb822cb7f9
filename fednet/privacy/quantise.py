"""Real numbers as integers modulo 2^32, so that sums are exact and a masked value says nothing.

A value is clipped to [-clip, clip], multiplied by a scale and rounded half to even. The scale is the largest power of
two at which the sum of all contributions stays within int32, so nothing wraps and scaling itself rounds nothing: the
sum of n contributions is off by at most n / (2 scale) from the sum of the clipped values. After Bonawitz et al. 2017.

A clip is meant for weights. Running statistics and counters move further in a round, and a clipped one is wrong, not
just slow: `change_between` divides their changes by a power of two, so that the same clip holds STATISTIC_RANGE and
COUNTER_RANGE, and `changed` multiplies them again; their error is n / (2 scale) times that power. All of it works in
place on the few values that it is given, so that they stay in the processor's cache. Knows nothing of who sends the
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.errors import PrivacyError
from fednet.federated.blocks import rounded
from fednet.federated.state import is_finite, is_statistic
from fednet.privacy.masking import require_vector

LARGEST = 2**31 - 1
MOST = 2**16
STATISTIC_RANGE = 2.0**10
"""Largest change of a running statistic in a round that a secure sum carries."""
VARIANCE = "running_var"
"""How the name of a running variance ends."""
COUNTER_RANGE = 2.0**20
"""Largest change of an integer in a round that a secure sum carries."""


@dataclass(frozen=True)
class Quantiser:
    """From real numbers to integers and back.

    Attributes:
        clip: the largest magnitude of a value that is contributed, 1e-30 .. 1e30; what is beyond is cut off.
        contributors: the most contributions that a sum has, 1 .. 65,536.
    """

    clip: float
    contributors: int

    def __post_init__(self) -> None:
        if not 1e-30 <= self.clip <= 1e30:
            raise PrivacyError(f"values cannot be clipped to {self.clip}: give a number from 1e-30 to 1e30")
        if not 1 <= self.contributors <= MOST:
            raise PrivacyError(f"a sum of {self.contributors} contributions: give a number from 1 to {MOST}")

    @property
    def scale(self) -> float:
        """Steps per unit: the largest power of two with contributors * (clip * scale + 1/2) <= 2^31 - 1."""
        fits = (LARGEST / self.contributors - 0.5) / self.clip
        return math.ldexp(1.0, math.frexp(fits)[1] - 1)

    def bound(self, contributors: int | None = None, total_weight: float = 1.0) -> float:
        """How far a value of the sum (or of the mean, by its total weight) is from the exact one, at most."""
        return (self.contributors if contributors is None else contributors) / (2 * self.scale * total_weight)

    def exceeding(self, values: Tensor) -> int:
        """How many values are beyond the clip."""
        if not values.numel() or (-self.clip <= values.amin() and values.amax() <= self.clip):
            return 0
        return int((values.abs() > self.clip).sum())

    def encode(self, values: Tensor, weight: float = 1.0) -> Tensor:
        """Clips, weighs and rounds.

        Args:
            values: real (n,), n > 0.
            weight: what they count in (0, 1], relative to the largest weight there may be; they are clipped before.

        Returns:
            int32 (n,) on the CPU, each within +-clip * scale.

        Raises:
            PrivacyError: a value that is not finite, or a weight outside (0, 1].
        """
        if not 0.0 < weight <= 1.0:
            raise PrivacyError(f"a weight of {weight}: divide by the largest weight, so that it is in (0, 1]")
        values = values.detach().to("cpu", torch.float64)
        if not is_finite(values):
            raise PrivacyError("the update has values that are not finite: lower the learning rate")
        return values.clamp(-self.clip, self.clip).mul_(weight * self.scale).round_().to(torch.int32)

    def decode(self, total: Tensor) -> Tensor:
        """The sum of at most `contributors` encoded vectors as float64 (n,).

        Raises:
            PrivacyError: it is no int32 vector.
        """
        return self.mean(total, (1.0,))

    def mean(self, total: Tensor, weights: Iterable[float]) -> Tensor:
        """The mean of the contributions whose weights these are (as given to `encode`), as float64 (n,).

        Raises:
            PrivacyError: the sum is no int32 vector.
        """
        return require_vector(total, "sum").to(torch.float64).div_(self.scale * math.fsum(weights))


def change_between(values: Tensor, base: Tensor, name: str, clip: float) -> Tensor:
    """What an update changes: values - base, in the unit in which the quantiser's clip holds it.

    Args:
        values: real coordinates (n,) of one tensor of the update.
        base: the same ones of what it began from.
        name: of the tensor.
        clip: what the quantiser will clip to.

    Returns:
        float64 (n,), new.
    """
    change = values.to(torch.float64, copy=True).sub_(base.double())
    return change if (unit := _unit(name, base, clip)) == 1.0 else change.div_(unit)


def changed(base: Tensor, change: Tensor, name: str, clip: float) -> Tensor:
    """The base plus a change; undoes `change_between` up to rounding.

    Args:
        base: real coordinates (n,) of one tensor.
        change: float64 (n,), overwritten.
        name: of the tensor.
        clip: as it was.

    Returns:
        (n,) with the dtype of the base. Integers are rounded half to even; the quantiser's error does not put a running
        variance below 0.
    """
    unit = _unit(name, base, clip)
    total = (change if unit == 1.0 else change.mul_(unit)).add_(base)
    if name.endswith(VARIANCE):
        total.clamp_(min=0.0)
    return rounded(total, base.dtype)


def _unit(name: str, tensor: Tensor, clip: float) -> float:
    """The power of two, at least 1, by which a tensor's changes are divided."""
    if is_statistic(name):
        widest = STATISTIC_RANGE
    elif tensor.dtype is torch.bool or tensor.is_floating_point() or tensor.is_complex():
        return 1.0
    else:
        widest = COUNTER_RANGE
    return max(1.0, 2.0 ** math.ceil(math.log2(widest / clip)))

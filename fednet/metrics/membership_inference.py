"""Membership inference attacks: how well an attacker separates training images from others.

Both attacks give every image a score that is larger for likelier members. The area under the ROC curve is the
probability that a member scores above a non-member: .5 is chance, 1 complete memorisation. Members and non-members must
come from the same source, or the attack separates the sources. An audit reads private images, so its result is not
covered by any epsilon.

Source: Yeom et al. 2018 (arXiv 1709.01604) for the threshold on a loss, Hayes et al. 2019 (LOGAN, arXiv 1705.07663)
for a discriminator as the loss; Chen et al. 2020 (GAN-Leaks, arXiv 1909.03935, full black-box) for the nearest sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.errors import MeasureError
from fednet.metrics.novelty import auroc, nearest_distance


@dataclass(frozen=True)
class MembershipAttack:
    """Results of the attacks on equally many members and non-members.

    Attributes:
        loss: the AUC of the threshold on the loss, in [0, 1].
        nearest: the AUC of the distance to the nearest sample; None without samples.
        count: number of members, and of non-members.
    """

    loss: float
    nearest: float | None
    count: int


def loss_attack(members: Tensor, strangers: Tensor) -> float:
    """The AUC of the attack that takes a smaller loss for membership.

    Args:
        members: losses (n,), n > 0; a discriminator's is -log of how real it takes a picture to be.
        strangers: losses (m,), m > 0.

    Raises:
        MeasureError: no losses, another shape, or NaN.
    """
    return auroc(members, strangers)


def nearest_attack(members: Tensor, strangers: Tensor, drawn: Tensor) -> float:
    """The AUC of the attack that takes a smaller distance to the nearest sample for membership.

    Args:
        members: pictures (n, c, h, w) that the generator's training has seen.
        strangers: pictures (m, c, h, w) from the same source that it has not.
        drawn: samples (k, c, h, w) of the generator.

    Raises:
        MeasureError: no pictures, or shapes that do not fit.
    """
    return auroc(nearest_distance(members, drawn), nearest_distance(strangers, drawn))


def halves(members: int, strangers: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Equally many positions of members and of non-members, drawn without replacement.

    Raises:
        MeasureError: there are none of either.
    """
    count = min(members, strangers)
    if count < 1:
        raise MeasureError(f"an attack needs members and non-members; got {members} and {strangers}")
    return torch.randperm(members, generator=random)[:count], torch.randperm(strangers, generator=random)[:count]

"""Membership attacks against a GAN, with a site's own pictures as members. Reads private pictures; see the README."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fednet.metrics.membership_inference import MembershipAttack, halves, loss_attack, nearest_attack
from fednet.models.gan import Discriminator

CHUNK = 512


def membership_attacks(
    discriminator: Discriminator, members: Tensor, strangers: Tensor, samples: Tensor | None, random: torch.Generator
) -> MembershipAttack:
    """The AUC of both attacks, on equally many members and non-members.

    Args:
        discriminator: its loss on real pictures is the attack's statistic.
        members: pictures (n, c, h, w) that were trained on.
        strangers: pictures (m, c, h, w) of the same kind that were not.
        samples: (k, c, h, w) of the generator; None for no attack on it.
        random: draws a subset of the more numerous.

    Raises:
        MeasureError: there are none of either.
    """
    inside, outside = halves(len(members), len(strangers), random)
    members, strangers = members[inside], strangers[outside]
    return MembershipAttack(
        loss=loss_attack(_losses(discriminator, members), _losses(discriminator, strangers)),
        nearest=None if samples is None else nearest_attack(members, strangers, samples),
        count=len(members),
    )


@torch.no_grad()
def _losses(discriminator: Discriminator, images: Tensor) -> Tensor:
    device = next(discriminator.parameters()).device
    return torch.cat([softplus(-discriminator(chunk.to(device))).cpu() for chunk in torch.split(images, CHUNK)])

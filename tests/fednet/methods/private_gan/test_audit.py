"""Membership attacks on equally many members and non-members."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fednet.errors import MeasureError
from fednet.methods.private_gan.audit import membership_attacks


class Brightness(nn.Module):
    """A discriminator that takes bright pictures for real."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean((1, 2, 3))


def attack(members: Tensor, strangers: Tensor, samples: Tensor | None = None) -> Any:
    discriminator: Any = Brightness()
    return membership_attacks(discriminator, members, strangers, samples, torch.Generator().manual_seed(0))


def pictures(count: int, low: float, high: float) -> Tensor:
    return torch.linspace(low, high, count)[:, None, None, None].expand(-1, 1, 4, 4)


def test_members_whose_loss_is_lower_are_found() -> None:
    found = attack(pictures(6, 0.5, 1.0), pictures(4, -1.0, 0.0))
    assert (found.loss, found.nearest, found.count) == (1.0, None, 4)


def test_members_that_samples_repeat_are_found() -> None:
    members = pictures(4, 0.5, 1.0)
    assert attack(members, pictures(4, -1.0, 0.0), samples=members).nearest == 1.0


def test_the_same_pictures_on_both_sides_are_chance() -> None:
    both = pictures(5, -1.0, 1.0)
    assert attack(both, both).loss == 0.5


def test_an_attack_without_strangers_is_refused() -> None:
    with pytest.raises(MeasureError):
        attack(pictures(3, 0.0, 1.0), pictures(0, 0.0, 1.0))

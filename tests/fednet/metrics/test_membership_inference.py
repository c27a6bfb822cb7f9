"""Membership attacks where the truth is known."""

from __future__ import annotations

import pytest
import torch

from fednet.errors import MeasureError
from fednet.metrics.membership_inference import halves, loss_attack, nearest_attack


def test_the_loss_attack_is_the_chance_that_a_member_loses_less() -> None:
    assert loss_attack(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1.0
    assert loss_attack(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 0.0
    assert loss_attack(torch.ones(3), torch.ones(4)) == 0.5
    assert loss_attack(torch.tensor([0.0, 2.0]), torch.tensor([1.0])) == 0.5


def test_a_generator_that_copies_gives_its_members_away_and_one_that_does_not_does_not() -> None:
    random = torch.Generator().manual_seed(0)
    members, strangers = (torch.randn(60, 1, 8, 8, generator=random) for _ in range(2))
    assert nearest_attack(members, strangers, members + 0.01) == 1.0
    other = torch.randn(300, 1, 8, 8, generator=random)
    assert abs(nearest_attack(members, strangers, other) - 0.5) < 0.15


def test_members_and_strangers_are_drawn_in_equal_numbers() -> None:
    members, strangers = halves(10, 4, torch.Generator().manual_seed(0))
    assert len(members) == len(strangers) == 4
    assert len(set(members.tolist())) == 4
    with pytest.raises(MeasureError, match="needs members and non-members"):
        halves(0, 4, torch.Generator())


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(MeasureError):
        loss_attack(torch.zeros(0), torch.zeros(3))
    with pytest.raises(MeasureError):
        nearest_attack(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(0, 1, 8, 8))

"""What a site learns from and what it holds out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.errors import DataError, MethodError
from fednet.methods.novelty.config import held_out_count
from fednet.methods.novelty.site_data import split_held_out


def test_every_picture_is_in_one_part_and_every_class_in_both(pictures: Callable[..., Any]) -> None:
    share = pictures(0, 2, 3, count=7)
    have = split_held_out("a1", share, 0.2, seed=0)
    assert have.held_out.histogram() == (2, 0, 2, 2)
    together = torch.cat([have.train.images, have.held_out.images]).flatten(1)
    assert torch.equal(together.sort(0).values, share.images.flatten(1).sort(0).values)
    for part in (have.train, have.held_out):
        columns = part.images.mean((1, 2)).view(len(part), 4, 2).sum(2).argmax(1)
        assert torch.equal(columns, part.labels)


def test_the_division_is_the_site_s_own_and_repeats(pictures: Callable[..., Any]) -> None:
    share = pictures(0, 1)
    one, same, other = (split_held_out(name, share, 0.25, seed=0) for name in ("a1", "a1", "a2"))
    assert torch.equal(one.held_out.images, same.held_out.images)
    assert not torch.equal(one.held_out.images, other.held_out.images)


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (5, 1), (6, 2), (10, 2)])
def test_a_part_is_held_out_and_one_is_left(count: int, held: int) -> None:
    assert held_out_count(count, 0.2) == held


def test_labels_choose_and_none_is_all(pictures: Callable[..., Any]) -> None:
    have = split_held_out("a1", pictures(0, 1, 2), 0.25, seed=0)
    assert set(have.training_images((0, 2)).labels.tolist()) == {0, 2}
    assert len(have.training_images(None)) + len(have.held_out_images(None)) == 48


def test_a_label_that_is_not_there_is_named(pictures: Callable[..., Any]) -> None:
    have = split_held_out("a1", pictures(0, 1), 0.25, seed=0)
    with pytest.raises(MethodError, match=r"a1 has no pictures to train on of four \(label 3\): it has 0-1"):
        have.training_images((0, 3))


def test_too_few_pictures_are_refused(pictures: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="too few"):
        split_held_out("a1", pictures(0, 1, count=1), 0.2, seed=0)

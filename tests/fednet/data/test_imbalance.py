"""What stays of a class is counted exactly, drawn for each class alone, and nested."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.data.imbalance import keep
from fednet.errors import DataError

LABELS = torch.arange(10).repeat(43)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    parts=st.lists(st.floats(0.001, 1.0), min_size=6, max_size=6),
    named=st.sets(st.integers(0, 5)),
    seed=st.integers(0, 2**32),
)
def test_counts_are_exact(sizes: list[int], parts: list[float], named: set[int], seed: int) -> None:
    labels = torch.repeat_interleave(torch.tensor(sizes))
    cut = {label: parts[label] for label in named if label < len(sizes)}
    stays = keep(labels, cut, seed)
    assert stays.dtype == torch.int64
    assert torch.equal(stays, stays.unique())
    wanted = [max(1, round(cut.get(label, 1.0) * size)) for label, size in enumerate(sizes)]
    assert torch.bincount(labels[stays]).tolist() == wanted


def test_nothing_is_cut_unless_it_is_named() -> None:
    assert torch.equal(keep(LABELS, {}, 0), torch.arange(430))


def test_less_is_a_part_of_more() -> None:
    some, more = (set(keep(LABELS, {3: part}, 1).tolist()) for part in (0.2, 0.5))
    assert some < more


def test_classes_are_drawn_apart_and_by_the_seed() -> None:
    both, one = keep(LABELS, {3: 0.3, 5: 0.3}, 1), keep(LABELS, {3: 0.3}, 1)
    assert torch.equal(both[LABELS[both] == 3], one[LABELS[one] == 3])
    assert not torch.equal(both[LABELS[both] == 3] - 3, both[LABELS[both] == 5] - 5)
    assert torch.equal(one, keep(LABELS, {3: 0.3}, 1))
    assert not torch.equal(one, keep(LABELS, {3: 0.3}, 2))


@pytest.mark.parametrize("labels", [torch.arange(10), torch.tensor([0, 13])])
def test_a_class_that_is_not_there_is_refused(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"partition\.imbalance names class 12"):
        keep(labels, {12: 0.5}, 0)

"""An agent's train and test parts are exact, even over the classes, and its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.data.local_split import train_and_test
from fednet.errors import DataError

LABELS = torch.arange(10).repeat(12)


@settings(max_examples=200, deadline=None)
@given(
    labels=st.lists(st.integers(0, 12), min_size=1, max_size=150),
    percent=st.integers(1, 100),
    seed=st.integers(0, 2**32),
    agent=st.integers(0, 30),
)
def test_parts_cover_without_overlap_and_every_class_is_cut_alike(
    labels: list[int], percent: int, seed: int, agent: int
) -> None:
    held = torch.tensor(labels)
    train, test = train_and_test(held, percent / 100, seed, agent)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(len(labels)))
    assert all(torch.equal(part, part.sort().values) and part.dtype == torch.int64 for part in (train, test))
    assert len(train) == max(1, percent * len(labels) // 100)
    of_class = torch.bincount(held) * len(train) / len(labels)
    assert ((torch.bincount(held[train], minlength=len(of_class)) - of_class).abs() < 1).all()


def test_three_quarters_of_twelve_are_nine() -> None:
    train, test = train_and_test(LABELS, 0.75, 0, 0)
    assert torch.bincount(LABELS[train]).tolist() == [9] * 10
    assert torch.bincount(LABELS[test]).tolist() == [3] * 10


def test_percent_of_a_hundred_are_exact() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert [len(train_and_test(labels, percent / 100, 0, 0)[0]) for percent in range(1, 101)] == list(range(1, 101))


def test_all_may_be_trained_on() -> None:
    train, test = train_and_test(LABELS, 1.0, 0, 0)
    assert torch.equal(train, torch.arange(120))
    assert len(test) == 0


def test_seed_and_agent_decide() -> None:
    first = train_and_test(LABELS, 0.5, 3, 1)[0]
    assert torch.equal(first, train_and_test(LABELS, 0.5, 3, 1)[0])
    assert not torch.equal(first, train_and_test(LABELS, 0.5, 3, 2)[0])
    assert not torch.equal(first, train_and_test(LABELS, 0.5, 4, 1)[0])


def test_no_class_of_one_picture_is_always_tested() -> None:
    trained = {label for agent in range(20) for label in train_and_test(torch.arange(8), 0.5, 0, agent)[0].tolist()}
    assert trained == set(range(8))


def test_nothing_cannot_be_split() -> None:
    with pytest.raises(DataError, match="agent 4 has no pictures"):
        train_and_test(torch.tensor([], dtype=torch.int64), 0.5, 0, 4)

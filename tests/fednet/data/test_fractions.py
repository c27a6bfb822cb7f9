"""Matrices of fractions are divisions, and are what their regime says."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.data.config import PartitionConfig
from fednet.data.fractions import capped, fractions
from fednet.errors import DataError

LABELS = torch.arange(10).repeat(108)
MATRICES: list[dict[str, Any]] = [
    {"kind": "pathological", "classes_per_client": 4},
    {"kind": "pathological", "classes_per_client": 4, "balanced": True},
    {"kind": "pathological", "classes_per_client": 4, "balanced": False},
    {"kind": "homogeneous"},
    {"kind": "heterogeneous"},
    {"kind": "disjoint"},
]


@pytest.mark.parametrize("regime", MATRICES, ids=str)
@pytest.mark.parametrize("agents", [3, 5, 10])
def test_every_class_is_given_out_whole(regime: dict[str, Any], agents: int) -> None:
    matrix = fractions(LABELS, PartitionConfig(**regime), agents, 0)
    assert matrix.shape == (agents, 10)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1)


def test_balanced_is_what_pathological_is_anyway() -> None:
    said, unsaid = (PartitionConfig(kind="pathological", classes_per_client=3, balanced=flag) for flag in (True, None))
    np.testing.assert_array_equal(fractions(LABELS, said, 7, 2), fractions(LABELS, unsaid, 7, 2))


def test_unequal_parts_go_to_the_same_holders() -> None:
    even, uneven = (
        fractions(LABELS, PartitionConfig(kind="pathological", classes_per_client=4, balanced=flag), 10, 2)
        for flag in (True, False)
    )
    np.testing.assert_array_equal(even > 0, uneven > 0)
    holders = (even > 0).sum(axis=0)
    small = np.sort(np.where(uneven > 0, uneven * holders, np.inf), axis=0)[: int(holders.min()) - 1]
    assert ((small >= 0.1) & (small <= 1)).all()
    assert len(np.unique(uneven)) > 5


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards"])
def test_what_is_drawn_has_no_matrix(kind: Any) -> None:
    settings: dict[str, dict[str, Any]] = {"dirichlet": {"alpha": 1.0}, "shards": {"shards_per_client": 2}}
    options = settings.get(kind, {})
    with pytest.raises(DataError, match=f"'{kind}' has no fixed matrix"):
        fractions(LABELS, PartitionConfig(kind=kind, **options), 5, 0)


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    agents=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_a_cap_holds_back_who_has_an_even_part(counts: list[int], agents: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).dirichlet(np.full(agents, 0.5), size=len(counts)).T
    result, sizes = capped(matrix, np.array(counts)), np.array(counts)
    np.testing.assert_allclose(result.sum(axis=0), 1)
    assert (result @ sizes <= sizes.sum() / agents + sizes.max() + 1e-9).all()
    np.testing.assert_array_equal(result[:, 0], matrix[:, 0] / matrix[:, 0].sum())
    held = np.cumsum(result * sizes, axis=1)[:, :-1]
    assert (result[:, 1:][held >= sizes.sum() / agents + 1e-9] == 0).all()


@pytest.mark.parametrize("agents", [1, 2, 5, 10, 12])
def test_heterogeneous_shares_half_of_each_class_among_its_owners(agents: int) -> None:
    matrix = fractions(LABELS, PartitionConfig(kind="heterogeneous"), agents, 0)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    if agents > 1:
        own = {agent: label for agent in range(agents) for label in range(10) if matrix[agent, label] >= 0.25}
        assert set(own) == set(range(agents))

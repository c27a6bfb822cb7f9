"""Divisions are exact, reproducible, and refused where they are impossible."""

import hashlib
import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.data.config import PartitionConfig
from fednet.data.imbalance import keep
from fednet.data.partition import divide, partition
from fednet.errors import DataError

LABELS = torch.arange(10).repeat_interleave(108)[torch.randperm(1080, generator=torch.Generator().manual_seed(1))]
REGIMES: list[dict[str, Any]] = [
    {"kind": "iid"},
    {"kind": "pathological", "classes_per_client": 2},
    {"kind": "pathological", "classes_per_client": 7},
    {"kind": "dirichlet", "alpha": 0.3},
    {"kind": "homogeneous"},
    {"kind": "heterogeneous"},
    {"kind": "disjoint"},
    {"kind": "iid", "balanced": False},
    {"kind": "pathological", "classes_per_client": 10, "balanced": False},
    {"kind": "dirichlet", "alpha": 0.1, "balanced": True},
    {"kind": "shards", "shards_per_client": 2},
    {"kind": "shards", "shards_per_client": 7, "balanced": False},
    {"kind": "dirichlet", "alpha": 0.5, "imbalance": dict.fromkeys(range(5, 10), 0.1)},
]
PUBLISHED = [
    ({"kind": "iid"}, "42b13a0da178357f"),
    ({"kind": "pathological", "classes_per_client": 2}, "48d3c0fc128cca2f"),
    ({"kind": "dirichlet", "alpha": 0.3}, "a3d1b3e05ea5b074"),
    ({"kind": "dirichlet", "alpha": 0.1, "least": 20}, "da1c2d7cf5474a9f"),
    ({"kind": "homogeneous"}, "ac14856077357f40"),
    ({"kind": "heterogeneous"}, "769e9571d7a6a507"),
    ({"kind": "disjoint"}, "a52b11e7e98977a8"),
]
"""What commit 4098b47 gave to five agents with seed 3: the tables in the methods' READMEs stand on these divisions."""


def counts(shares: tuple[Tensor, ...], labels: Tensor = LABELS) -> list[list[int]]:
    return [torch.bincount(labels[share], minlength=10).tolist() for share in shares]


def drawn(regime: dict[str, Any], agents: int = 5, seed: int = 3) -> tuple[Tensor, ...]:
    return partition(LABELS, PartitionConfig(**regime), agents, seed)


@pytest.mark.parametrize("agents", [5, 7, 10])
@pytest.mark.parametrize("regime", REGIMES, ids=str)
def test_every_picture_that_is_kept_goes_to_exactly_one_agent(regime: dict[str, Any], agents: int) -> None:
    shares = drawn(regime, agents)
    assert len(shares) == agents
    assert torch.equal(torch.cat(shares).sort().values, keep(LABELS, regime.get("imbalance", {}), 3))
    assert all(torch.equal(share, share.sort().values) and share.dtype == torch.int64 for share in shares)


@pytest.mark.parametrize(("regime", "digest"), PUBLISHED, ids=str)
def test_published_divisions_stay_what_they_were(regime: dict[str, Any], digest: str) -> None:
    held = b"|".join(share.numpy().tobytes() for share in drawn(regime))
    assert hashlib.sha256(held).hexdigest()[:16] == digest


@pytest.mark.parametrize("regime", REGIMES, ids=str)
def test_imbalance_goes_before_every_kind(regime: dict[str, Any]) -> None:
    cut = dict.fromkeys((1, 8), 0.25)
    shares = drawn({**regime, "imbalance": cut})
    assert torch.equal(torch.cat(shares).sort().values, keep(LABELS, cut, 3))
    assert sum(np.array(counts(shares))).tolist() == [27 if label in cut else 108 for label in range(10)]


def test_a_matrix_divides_what_imbalance_keeps() -> None:
    matrix = ((0.5,) * 10, (0.25,) * 10)
    held = counts(drawn({"kind": "matrix", "matrix": matrix, "imbalance": {4: 8 / 108}}, 2))
    assert held == [[4 if label == 4 else 54 for label in range(10)], [2 if label == 4 else 27 for label in range(10)]]


def test_imbalance_goes_by_name_where_classes_are_called_by_other_numbers() -> None:
    """`{2: 0.3}` thinned class 11, the third in the order of text."""
    labels, classes = torch.arange(6).repeat(10), ("1", "2", "3", "9", "10", "11")
    (share,) = partition(labels, PartitionConfig(imbalance={2: 0.3}), 1, 0, classes)
    assert torch.bincount(labels[share]).tolist() == [10, 3, 10, 10, 10, 10]


def test_nothing_cut_is_nothing_changed() -> None:
    for regime in REGIMES[:7]:
        whole = drawn({**regime, "imbalance": dict.fromkeys(range(10), 1.0)})
        assert all(torch.equal(a, b) for a, b in zip(drawn(regime), whole, strict=True))


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    weights=st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_fractions_become_pictures_to_within_one(sizes: list[int], weights: list[list[int]], seed: int) -> None:
    labels = torch.repeat_interleave(torch.tensor(sizes))
    raw = np.array(weights, dtype=float)[:, : len(sizes)] + 1e-3
    matrix = raw / raw.sum(axis=0)
    shares = divide(labels, matrix, seed)
    assert torch.equal(torch.cat(shares).sort().values, torch.arange(len(labels)))
    for share, row in zip(shares, matrix, strict=True):
        held = torch.bincount(labels[share], minlength=len(sizes)).numpy()
        assert (np.abs(held - row * np.array(sizes)) < 1).all()


def test_the_seed_decides_and_nothing_else() -> None:
    for regime in REGIMES:
        config = PartitionConfig(**regime)
        first, again = (partition(LABELS, config, 5, seed=3) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        if regime["kind"] != "disjoint":
            other = partition(LABELS, config, 5, seed=4)
            assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def digests(regimes: list[dict[str, Any]]) -> list[str]:
    """A digest of the shares in each regime, computed in whatever Python this runs in."""
    import hashlib

    import torch

    from fednet.data.config import PartitionConfig
    from fednet.data.local_split import train_and_test
    from fednet.data.partition import partition

    labels, found = torch.arange(10).repeat(30), []
    for regime in regimes:
        shares = partition(labels, PartitionConfig(**regime), 5, 7)
        shares += train_and_test(labels[shares[2]], 0.75, 7, 2)
        found.append(hashlib.sha256(b"|".join(share.numpy().tobytes() for share in shares)).hexdigest())
    return found


def test_the_hash_seed_changes_nothing() -> None:
    """This Python has one seed, a second Python another one."""
    asked = f"from typing import Any\n{inspect.getsource(digests)}\nprint(hash('a'), *digests({REGIMES!r}))"
    command = [sys.executable, "-c", asked]
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        hash_of_a, *others = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=100
        ).stdout.split()
        assert others == digests(REGIMES)
        if int(hash_of_a) != hash("a"):
            break  # always with the first, unless that is this Python's own


def test_iid_parts_differ_by_at_most_one() -> None:
    sizes = [len(share) for share in partition(LABELS[:1077], PartitionConfig(), 10, 0)]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    agents=st.integers(1, 9),
    least=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_unequal_sizes_lie_within_their_bounds(sizes: list[int], agents: int, least: int, seed: int) -> None:
    labels = torch.repeat_interleave(torch.tensor(sizes))
    even = len(labels) // agents
    assume(even >= least)
    shares = partition(labels, PartitionConfig(balanced=False, least=least), agents, seed)
    held = sorted(len(share) for share in shares)
    assert sum(held) == len(labels)
    assert held[0] >= min(even, max(least, len(labels) / agents / 10))
    assert all(size <= even for size in held[:-1])


def test_the_largest_is_not_always_the_same() -> None:
    for regime in ({"kind": "iid"}, {"kind": "pathological", "classes_per_client": 10}):
        shares = [drawn({**regime, "balanced": False}, seed=seed) for seed in range(12)]
        assert len({int(np.argmax([len(share) for share in some])) for some in shares}) > 1


def test_unequal_iid_keeps_the_proportions_of_the_classes() -> None:
    labels = torch.arange(2).repeat(20_000)
    for share in partition(labels, PartitionConfig(balanced=False), 4, 0):
        assert abs(labels[share].float().mean() - 0.5) < 0.05


def test_shards_are_stretches_of_the_sorted_labels() -> None:
    shares = drawn({"kind": "shards", "shards_per_client": 2}, 10)
    held = np.array(counts(shares))
    assert held.sum(axis=1).tolist() == [108] * 10
    assert (held % 54 == 0).all()
    assert (held == 54).any()


@settings(max_examples=60, deadline=None)
@given(
    pictures=st.integers(1, 200),
    agents=st.integers(1, 8),
    each=st.integers(1, 6),
    balanced=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_shards_cover_whatever_the_sizes(pictures: int, agents: int, each: int, balanced: bool, seed: int) -> None:
    assume(agents * each <= pictures)
    config = PartitionConfig(kind="shards", shards_per_client=each, balanced=balanced)
    shares = partition(torch.arange(pictures) % 7, config, agents, seed)
    assert torch.equal(torch.cat(shares).sort().values, torch.arange(pictures))
    low, high = pictures // (agents * each), -(-pictures // (agents * each))
    if balanced:
        assert all(low * each <= len(share) <= high * each for share in shares)
    assert sum(len(share) > high * each for share in shares) <= 1


def test_homogeneous_gives_equal_parts_of_every_class_and_spreads_the_rounding() -> None:
    labels = torch.arange(10).repeat_interleave(107)
    held = np.array(counts(partition(labels, PartitionConfig(kind="homogeneous"), 10, 0), labels))
    assert ((held == 10) | (held == 11)).all()
    assert set(held.sum(axis=1)) == {107}


def test_heterogeneous_is_the_source_regime_at_ten_agents() -> None:
    held = counts(partition(LABELS, PartitionConfig(kind="heterogeneous"), 10, 0))
    assert held == [[54 if agent == label else 6 for label in range(10)] for agent in range(10)]


def test_disjoint_gives_two_digits_to_each_of_five() -> None:
    held = counts(partition(LABELS, PartitionConfig(kind="disjoint"), 5, 0))
    assert held == [[108 if label // 2 == agent else 0 for label in range(10)] for agent in range(5)]


@pytest.mark.parametrize(("agents", "per_client"), [(5, 2), (4, 3), (10, 2), (7, 7), (30, 1)])
def test_pathological_gives_exactly_as_many_classes(agents: int, per_client: int) -> None:
    config = PartitionConfig(kind="pathological", classes_per_client=per_client)
    held = np.array(counts(partition(LABELS, config, agents, seed=2))) > 0
    assert (held.sum(axis=1) == per_client).all()
    holders = held.sum(axis=0)
    assert holders.max() - holders.min() <= 1


def test_dirichlet_tends_to_equal_parts_and_to_single_owners() -> None:
    even = np.array(counts(partition(LABELS, PartitionConfig(kind="dirichlet", alpha=1e6), 5, 0)))
    assert np.abs(even - 108 / 5).max() < 2
    skewed = np.array(counts(partition(LABELS, PartitionConfig(kind="dirichlet", alpha=0.01), 3, 0)))
    assert np.median(skewed.max(axis=0)) > 0.9 * 108


def test_balanced_dirichlet_gives_nobody_more_than_an_even_part_and_a_class() -> None:
    even, skew = 1080 / 5, {"kind": "dirichlet", "alpha": 0.05}
    assert max(len(share) for seed in range(20) for share in drawn(skew, 5, seed)) > even + 108 + 10
    balanced = [drawn({**skew, "balanced": True}, 5, seed) for seed in range(20)]
    assert max(len(share) for shares in balanced for share in shares) <= even + 108 + 10


@pytest.mark.parametrize("balanced", [None, True])
def test_dirichlet_respects_least(balanced: bool | None) -> None:
    shares = drawn({"kind": "dirichlet", "alpha": 0.2, "least": 60, "balanced": balanced}, 10, 0)
    assert min(len(share) for share in shares) >= 60


def test_unequal_pathological_parts_respect_least() -> None:
    regime = {"kind": "pathological", "classes_per_client": 10, "balanced": False, "least": 90}
    assert min(len(share) for share in drawn(regime, 10)) >= 90


def test_a_matrix_may_keep_data_from_everyone() -> None:
    matrix = tuple((0.25,) * 10 for _ in range(2))
    held = counts(partition(LABELS, PartitionConfig(kind="matrix", matrix=matrix), 2, 0))
    assert held == [[27] * 10] * 2


@pytest.mark.parametrize(
    ("regime", "agents", "said"),
    [
        ({"kind": "iid"}, 0, "at least one"),
        ({"kind": "iid", "least": 500}, 5, "cannot give each of 5 agents at least 500"),
        ({"kind": "disjoint"}, 11, "10 classes are not enough for 11 agents"),
        ({"kind": "disjoint", "least": 150}, 7, "fewer than the 150"),
        ({"kind": "pathological", "classes_per_client": 2}, 4, "must lie in 3 to 10"),
        ({"kind": "pathological", "classes_per_client": 11}, 4, "must lie in 3 to 10"),
        ({"kind": "dirichlet", "alpha": 0.001, "least": 100}, 10, "raise alpha"),
        ({"kind": "iid", "least": 60, "imbalance": dict.fromkeys(range(10), 0.1)}, 2, "110 pictures cannot give"),
        ({"kind": "iid", "imbalance": {10: 0.1}}, 5, "names the class '10'; the classes are 0, 1, 2"),
        ({"kind": "shards", "shards_per_client": 217}, 5, "cannot be cut into 1085 shards, 217 for each of 5"),
        ({"kind": "matrix", "matrix": ((1.0,) * 10,)}, 2, "1 rows and 10 columns"),
        ({"kind": "matrix", "matrix": ((1.0,) * 10, (0.0,) * 10)}, 2, "gives agent 1 0 pictures"),
    ],
)
def test_what_is_impossible_is_refused(regime: dict[str, Any], agents: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        partition(LABELS, PartitionConfig(**regime), agents, seed=0)


@pytest.mark.parametrize("labels", [torch.tensor([], dtype=torch.int64), torch.zeros(4), torch.tensor([-1, 0])])
def test_what_are_no_labels_is_refused(labels: Tensor) -> None:
    with pytest.raises(DataError, match="int64"):
        partition(labels, PartitionConfig(), 1, seed=0)

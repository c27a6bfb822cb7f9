"""The weighted mean is NumPy's, in any order and on any number of threads; equal models average to themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated.averaging import shares, weighted_mean
from fednet.federated.blocks import BLOCK
from fednet.federated.state import digest

Draw = Callable[..., dict[str, Tensor]]
WEIGHTS = {"b": 3.0, "a": 120.0, "c": 41.5}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def reference(tensors: list[Tensor], weights: list[float]) -> np.ndarray:
    wide = torch.complex128 if tensors[0].is_complex() else torch.float64
    return np.average(np.stack([tensor.to(wide).numpy() for tensor in tensors]), axis=0, weights=weights)


def test_it_is_numpys(state: Draw) -> None:
    states = {name: state(seed, 2 * BLOCK + 5) for seed, name in enumerate(WEIGHTS)}
    mean = weighted_mean(states, WEIGHTS)
    for key, result in mean.items():
        expected = reference([one[key] for one in states.values()], list(WEIGHTS.values()))
        like = states["a"][key]
        assert (result.dtype, result.shape) == (like.dtype, like.shape)
        if like.dtype is torch.bool:
            assert (result.numpy() == (expected > 0.5)).all()
        elif not (like.is_floating_point() or like.is_complex()):
            assert (result.numpy() == np.rint(expected)).all()
        else:
            rounded = torch.from_numpy(np.asarray(expected)).to(like.dtype)
            wide = torch.complex128 if like.is_complex() else torch.float64
            least = max(1e-6, torch.finfo(like.dtype).eps if like.element_size() < 4 else 0)
            assert torch.allclose(result.to(wide), rounded.to(wide), rtol=least, atol=1e-6), key


def test_neither_order_nor_threads_nor_strides_matter(state: Draw, threads: Callable[[int], None]) -> None:
    states = {name: state(seed, 3 * BLOCK) for seed, name in enumerate(WEIGHTS)}
    found = set()
    for order, count in itertools.product(itertools.permutations(WEIGHTS), (1, 3)):
        threads(count)
        given_states = {name: states[name] for name in order}
        given_states["a"] = {
            key: torch.stack([value, value], -1).select(-1, 1) if value.element_size() > 1 else value
            for key, value in reversed(given_states["a"].items())
        }
        found.add(digest(weighted_mean(given_states, {name: WEIGHTS[name] for name in reversed(order)})))
    assert len(found) == 1


def test_equal_models_average_to_themselves(state: Draw) -> None:
    one = state(5)
    mean = weighted_mean(dict.fromkeys("abcdefg", one), {name: 1.0 + 1 / ord(name) for name in "abcdefg"})
    for key, tensor in one.items():
        exact = tensor.dtype != torch.float64
        assert torch.equal(mean[key], tensor) if exact else torch.allclose(mean[key], tensor, rtol=1e-15), key


def test_only_the_proportions_of_weights_matter(state: Draw) -> None:
    states = {"a": state(1), "b": state(2)}
    found = {digest(weighted_mean(states, {"a": 3 * scale, "b": scale})) for scale in (1.0, 2.0**-1000, 2.0**1000)}
    assert len(found) == 1


def test_the_result_shares_nothing(state: Draw) -> None:
    one = {"w": torch.ones(3)}
    weighted_mean({"a": one}, {"a": 1.0})["w"].zero_()
    assert one["w"].tolist() == [1, 1, 1]


def test_integers_round_half_to_even_and_stay_in_range() -> None:
    both = {"a": {"n": torch.tensor([0, 1, 2])}, "b": {"n": torch.tensor([1, 2, 3])}}
    assert weighted_mean(both, {"a": 1, "b": 1})["n"].tolist() == [0, 2, 2]
    for dtype in (torch.int64, torch.int32, torch.int8, torch.uint8):
        info = torch.iinfo(dtype)
        ends = torch.tensor([info.min, info.max], dtype=dtype)
        mean = weighted_mean({"a": {"n": ends}, "b": {"n": ends}}, {"a": 1, "b": 1})["n"]
        assert torch.allclose(mean.double(), ends.double(), rtol=1e-15)


def test_bools_go_by_weight() -> None:
    states = {"a": {"b": torch.tensor([True, False])}, "b": {"b": torch.tensor([False, True])}}
    assert weighted_mean(states, {"a": 2, "b": 1})["b"].tolist() == [True, False]
    assert weighted_mean(states, {"a": 1, "b": 1})["b"].tolist() == [False, False]


def test_products_and_sums_are_rounded_apart() -> None:
    a, b = 1 + 2.0**-30, 1 - 2.0**-30
    states = {"a": {"w": torch.tensor([-1.0], dtype=torch.float64)}, "b": {"w": torch.tensor([a], dtype=torch.float64)}}
    part_a, part_b = shares(["a", "b"], {"a": 1.0, "b": b})
    expected = part_a * -1.0 + part_b * a  # Python rounds both
    assert weighted_mean(states, {"a": 1.0, "b": b})["w"].item() == expected


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, None])
def test_a_weight_that_is_none_is_refused(weight: float | None) -> None:
    weights = {"a": 1.0} | ({} if weight is None else {"b": weight})
    with pytest.raises(MethodError, match=r"^b contributes with weight"):
        weighted_mean({"a": {}, "b": {}}, weights)
    with pytest.raises(MethodError, match="at least one"):
        weighted_mean({}, {})


@given(st.dictionaries(st.text(max_size=3), st.floats(1e-300, 1e308), min_size=1))
def test_shares_add_up_to_one(weights: dict[str, float]) -> None:
    assert math.isclose(math.fsum(shares(sorted(weights), weights)), 1.0, rel_tol=1e-12)

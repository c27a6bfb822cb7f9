"""Robust rules are NumPy's on honest contributions, and arbitrary ones cannot move them far."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated import robust
from fednet.federated.averaging import weighted_mean
from fednet.federated.blocks import BLOCK
from fednet.federated.config import Krum, Median, TrimmedMean
from fednet.federated.state import digest
from fednet.federated.update_rules import reduce
from fednet.rules.contract import RuleSettings

Draw = Callable[..., dict[str, Tensor]]
States = Mapping[str, dict[str, Tensor]]
HUGE = float(np.finfo(np.float32).max)


def honest(count: int, length: int = 50) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return {
        f"h{index}": {"w": torch.randn(length, generator=generator), "n": torch.tensor(10 + index)}
        for index in range(count)
    }


def reduced(rule: RuleSettings, states: States) -> dict[str, Tensor]:
    return reduce(rule, states, dict.fromkeys(states, 1.0))


def coordinate_median(states: States) -> dict[str, Tensor]:
    return reduced(Median(), states)


def trimmed_mean(states: States, trim: float) -> dict[str, Tensor]:
    return reduced(TrimmedMean(trim=trim), states)


def krum(states: States, byzantine: int, keep: int) -> dict[str, Tensor]:
    return reduced(Krum(byzantine=byzantine, keep=keep), states)


def krum_scores(states: States, byzantine: int) -> dict[str, float]:
    return robust.krum_scores(sorted(states), robust.squared_distances(states), byzantine)


def stacked(states: States, key: str) -> np.ndarray:
    return np.stack([states[name][key].double().numpy() for name in sorted(states)])


@pytest.mark.parametrize("count", range(1, 9))
def test_the_median_is_numpys(count: int) -> None:
    states = honest(count, BLOCK + 7)
    assert np.allclose(coordinate_median(states)["w"], np.median(stacked(states, "w"), axis=0), rtol=1e-7, atol=0)


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("trim", [0.0, 0.1, 0.2, 0.34, 0.49])
def test_the_trimmed_mean_is_the_mean_of_what_is_left(count: int, trim: float) -> None:
    states = honest(count)
    left_out = int(trim * count + 1e-9)
    expected = np.sort(stacked(states, "w"), axis=0)[left_out : count - left_out].mean(axis=0)
    assert np.allclose(trimmed_mean(states, trim)["w"], expected, rtol=1e-6, atol=1e-7)


def test_a_share_is_not_lost_to_rounding() -> None:
    states = {f"{index:03}": {"w": torch.tensor(float(index >= 71))} for index in range(100)}
    assert trimmed_mean(states, 0.29)["w"].item() == 0.0  # 0.29 * 100 is 28.999999999999996


def test_the_ends_of_the_trimmed_mean_are_the_mean_and_the_median() -> None:
    states = honest(7)
    mean = weighted_mean(states, dict.fromkeys(states, 1.0))
    assert torch.allclose(trimmed_mean(states, 0.0)["w"], mean["w"])
    assert digest(trimmed_mean(states, 0.49)) == digest(coordinate_median(states))


ATTACKS = st.one_of(
    st.sampled_from([HUGE, -HUGE, 0.0, -0.0, 1e-40]), st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.data())
def test_arbitrary_contributions_cannot_leave_the_honest_range(f: int, data: st.DataObject) -> None:
    good = honest(f + 1)
    liars = {
        f"{data.draw(st.sampled_from('az'))}{index}": {
            "w": torch.tensor(data.draw(st.lists(ATTACKS, min_size=50, max_size=50))),
            "n": torch.tensor(data.draw(st.integers(-(2**63), 2**63 - 1))),
        }
        for index in range(f)
    }
    everybody = {**good, **liars}
    low, high = stacked(good, "w").min(axis=0), stacked(good, "w").max(axis=0)
    trim = f / len(everybody)
    for result in (coordinate_median(everybody), trimmed_mean(everybody, trim)):
        values = result["w"].double().numpy()
        assert (values >= low - 1e-6).all()
        assert (values <= high + 1e-6).all()
        assert 10 <= result["n"] <= 10 + f


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2), st.data())
def test_krum_takes_an_honest_contribution(f: int, data: st.DataObject) -> None:
    good = honest(f + 3)
    keep = data.draw(st.integers(1, 1 if f == 0 else 2)) if f < 2 else 1
    size = data.draw(st.sampled_from([HUGE, 1e6, -1e4]))
    liars = {f"a{index}": {"w": torch.full((50,), size), "n": torch.tensor(-(2**63))} for index in range(f)}
    everybody = {**good, **liars}
    if len(everybody) < max(2 * f + 3, f + 2 + keep):
        keep = 1
    chosen = krum(everybody, f, keep)
    assert chosen["w"].abs().max() < 10
    if keep == 1:
        assert any(torch.equal(chosen["w"], state["w"]) for state in good.values())
    assert 10 <= chosen["n"] <= 13


def test_a_small_majority_of_equal_huge_liars_is_what_the_mean_falls_for() -> None:
    """The control: the same attack moves the mean."""
    everybody = {**honest(5), "a0": {"w": torch.full((50,), 1e30), "n": torch.tensor(0)}}
    assert weighted_mean(everybody, dict.fromkeys(everybody, 1.0))["w"].min() > 1e28


def test_scores_are_the_papers() -> None:
    states = honest(6)
    rows = stacked(states, "w")
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    expected = np.sort(squares, axis=1)[:, 1 : 1 + 6 - 1 - 2].sum(axis=1)  # itself is the closest
    scores = krum_scores(states, 1)
    assert np.allclose([scores[name] for name in sorted(states)], expected, rtol=1e-12)
    assert torch.equal(krum(states, 1, 1)["w"], states[min(scores, key=scores.__getitem__)]["w"])
    best = sorted(scores, key=scores.__getitem__)[:3]
    assert np.allclose(
        krum(states, 1, 3)["w"], rows[[int(name[1]) for name in best]].mean(axis=0), rtol=1e-5, atol=1e-7
    )


def test_equal_scores_go_by_name() -> None:
    states = {
        name: {"w": torch.tensor([value])} for name, value in zip("cabed", (1.0, -1.0, 1.0, -1.0, 0.0), strict=True)
    }
    scores = krum_scores(states, 0)
    assert scores["a"] == scores["b"] == scores["c"] == scores["e"]
    even = {name: {"w": torch.tensor([float(name in "bd")])} for name in "dbca"}
    assert krum(even, 0, 1)["w"].item() == 0.0  # all score the same: a


def test_krum_of_too_few_says_what_it_needs() -> None:
    for count, byzantine, keep, needed in ((4, 1, 1, 5), (2, 0, 1, 3), (6, 2, 1, 7), (5, 1, 3, 6)):
        with pytest.raises(MethodError, match=f"needs {needed} contributions, got {count}"):
            krum(honest(count), byzantine, keep)


def test_neither_order_nor_threads_matter(state: Draw) -> None:
    states = {f"p{seed}": state(seed, 2 * BLOCK) for seed in range(5)}
    rules: list[Callable[[States], dict[str, Tensor]]] = [
        coordinate_median,
        lambda given_states: trimmed_mean(given_states, 0.3),
        lambda given_states: krum(given_states, 1, 1),
        lambda given_states: krum(given_states, 1, 2),
    ]
    before = torch.get_num_threads()
    try:
        for rule in rules:
            found = set()
            for order, threads in itertools.product((sorted(states), sorted(states, reverse=True)), (1, 4)):
                torch.set_num_threads(threads)
                found.add(digest(rule({name: states[name] for name in order})))
            assert len(found) == 1
    finally:
        torch.set_num_threads(before)


def test_every_dtype_of_equal_models_stays(state: Draw) -> None:
    one = state(4)
    equal = dict.fromkeys("abcdef", one)
    for result in (coordinate_median(equal), trimmed_mean(equal, 0.2), krum(equal, 1, 1), krum(equal, 1, 2)):
        for key, tensor in one.items():
            assert result[key].dtype == tensor.dtype
            assert torch.allclose(result[key].to(torch.complex128), tensor.to(torch.complex128), rtol=1e-15), key


def test_no_contribution_is_refused() -> None:
    for act in (coordinate_median, lambda none: trimmed_mean(none, 0.1)):
        with pytest.raises(MethodError, match="at least one"):
            act({})


def test_a_liar_with_honest_weights_cannot_choose_the_counters_and_nothing_is_shared() -> None:
    good = honest(4)
    centre = {"w": coordinate_median(good)["w"], "n": torch.tensor(2**60)}  # the closest to all
    chosen = krum({**good, "z": centre}, 1, 1)
    assert torch.equal(chosen["w"], centre["w"])
    assert chosen["n"].item() == 12
    chosen["w"].zero_()
    assert centre["w"].any()

"""The sum is within n / (2 scale), nothing wraps, and what is no number is refused."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import PrivacyError
from fednet.federated.blocks import coordinates
from fednet.federated.state import digest
from fednet.privacy.masking import sum_masked
from fednet.privacy.quantise import Quantiser, change_between, changed

CLIPS = st.floats(1e-30, 1e30)
WIDE = 2.0**20
"""A clip that needs no units."""


@settings(deadline=None, max_examples=60)
@given(CLIPS, st.integers(1, 40), st.data())
def test_the_error_of_a_sum_is_within_the_bound(clip: float, count: int, data: st.DataObject) -> None:
    quantiser = Quantiser(clip, count)
    value = st.floats(-2, 2).map(lambda part: part * clip)
    vectors = data.draw(st.lists(st.lists(value, min_size=3, max_size=3), min_size=count, max_size=count))
    encoded = {str(i): quantiser.encode(torch.tensor(v, dtype=torch.float64)) for i, v in enumerate(vectors)}
    total = quantiser.decode(sum_masked(encoded))
    for place in range(3):
        exact = sum(Fraction(min(max(vector[place], -clip), clip)) for vector in vectors)
        assert abs(Fraction(float(total[place])) - exact) <= Fraction(count) / (2 * Fraction(quantiser.scale))
    assert quantiser.bound() == count / (2 * quantiser.scale)


@settings(deadline=None)
@given(CLIPS, st.integers(1, 2**16), st.sampled_from([1, -1]))
def test_the_largest_sum_just_fits(clip: float, count: int, sign: int) -> None:
    quantiser = Quantiser(clip, count)
    one = int(quantiser.encode(torch.tensor([sign * clip], dtype=torch.float64)))
    assert count * abs(one) <= 2**31 - 1 < 2 * (count * (abs(one) + 1))
    assert float(quantiser.decode(torch.tensor([count * one], dtype=torch.int32))) * sign > 0
    assert Fraction(quantiser.scale).numerator & (Fraction(quantiser.scale).numerator - 1) == 0


def test_a_weighted_mean_is_within_its_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    quantiser, weights = Quantiser(1.0, 10), [0.1, 1.0, 0.25]
    values = [torch.rand(1000, generator=generator, dtype=torch.float64) * 2 - 1 for _ in weights]
    encoded = {str(i): quantiser.encode(v, w) for i, (v, w) in enumerate(zip(values, weights, strict=True))}
    exact = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    error = (quantiser.mean(sum_masked(encoded), weights) - exact).abs().max()
    assert 0 < error <= quantiser.bound(3, sum(weights)) + 1e-15


def test_what_is_beyond_the_clip_is_cut_off_and_counted() -> None:
    quantiser, values = Quantiser(0.5, 3), torch.tensor([0.25, -7.0, 0.5, 9.0], dtype=torch.float16)
    assert quantiser.exceeding(values) == 2
    assert quantiser.decode(quantiser.encode(values)).tolist() == [0.25, -0.5, 0.5, 0.5]


@pytest.mark.parametrize("place", [0, 70_000])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(bad: float, place: int) -> None:
    values = torch.zeros(70_001)
    values[place] = bad
    with pytest.raises(PrivacyError, match="not finite"):
        Quantiser(1.0, 3).encode(values)


def test_settings_that_make_no_sense_are_refused() -> None:
    for clip, count in [(0.0, 3), (-1.0, 3), (float("nan"), 3), (float("inf"), 3), (1.0, 0), (1.0, 2**16 + 1)]:
        with pytest.raises(PrivacyError):
            Quantiser(clip, count)
    for weight in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(PrivacyError, match="weight"):
            Quantiser(1.0, 3).encode(torch.zeros(1), weight)
    with pytest.raises(PrivacyError, match="expected int32"):
        Quantiser(1.0, 3).decode(torch.zeros(1))


def difference(state: Mapping[str, Tensor], base: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    return {name: change_between(coordinates(state[name]), coordinates(base[name]), name, clip) for name in base}


def apply_change(base: Mapping[str, Tensor], change: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    found = {name: torch.empty_like(tensor) for name, tensor in base.items()}
    for name, tensor in base.items():
        coordinates(found[name]).copy_(changed(coordinates(tensor), change[name].clone(), name, clip))
    return found


def states() -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    base = {
        "w": torch.randn(3, 5, generator=generator),
        "a": torch.randn(2, 2, 2, generator=generator, dtype=torch.float64),
        "n": torch.tensor(7),
        "z": torch.randn(3, generator=generator, dtype=torch.complex64),
        "e": torch.empty(0, 4),
    }
    return base, {name: (tensor * 3 + 1).to(tensor.dtype) for name, tensor in base.items()}


def test_a_difference_leads_from_the_base_to_the_state() -> None:
    base, state = states()
    change = difference(state, base, WIDE)
    assert all(part.dtype is torch.float64 for part in change.values())
    assert sum(map(len, change.values())) == 15 + 8 + 1 + 6
    again = apply_change(base, change, WIDE)
    assert list(again) == list(base)
    assert digest(again) == digest(state)
    assert digest(apply_change(base, {name: part * 0 for name, part in change.items()}, WIDE)) == digest(base)
    assert apply_change(base, {name: part * 0.1 for name, part in change.items()}, WIDE)["n"] == round(7 + 1.5)


@pytest.mark.parametrize("clip", [1e-6, 0.3, 4.0, 1e6])
def test_a_clip_of_weights_holds_statistics_and_counters(clip: float) -> None:
    """Two sites of equal weight; a counter moves by 90, a variance by 20 and down to nothing."""
    base = {
        "w": torch.tensor([0.0, 0.0]),
        "norm.running_var": torch.tensor([1.0, 0.7312]),
        "norm.num_batches_tracked": torch.tensor(24),
    }
    states = {
        "a": {"w": torch.tensor([clip / 2, 0.0]), "norm.running_var": torch.tensor([21.0, 1e-30])},
        "b": {"w": torch.tensor([clip / 4, 9e6]), "norm.running_var": torch.tensor([11.0, 1e-30])},
    }
    quantiser = Quantiser(clip, 2)
    changes = [
        difference({**state, "norm.num_batches_tracked": torch.tensor(114)}, base, clip) for state in states.values()
    ]
    mean = {
        name: quantiser.mean(
            sum_masked({str(i): quantiser.encode(each[name]) for i, each in enumerate(changes)}), [1, 1]
        )
        for name in base
    }
    found = apply_change(base, mean, clip)
    assert found["norm.num_batches_tracked"] == 114
    assert found["norm.running_var"].tolist() == pytest.approx([16.0, 0.0], abs=2e-5)
    assert float(found["norm.running_var"].min()) >= 0.0
    assert found["w"].tolist() == pytest.approx([0.375 * clip, clip / 2], rel=1e-5)

"""Seeds are functions of their purpose alone: the same in every process, and different for different purposes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fednet.seeds import derive, generator, seeded

PURPOSES = st.lists(st.text(max_size=5) | st.integers(), max_size=4)


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert derive(0, "train", "a1", 3) == 2009654586352405646


@given(st.integers(), PURPOSES)
def test_a_seed_has_63_bits(seed: int, purpose: list[str | int]) -> None:
    assert 0 <= derive(seed, *purpose) < 1 << 63


def test_purposes_are_distinct() -> None:
    purposes: list[tuple[str | int, ...]] = [(), ("a",), ("a", 1), ("a", "1"), ("a1",), (1, "a"), ("", "a")]
    assert len({derive(seed, *purpose) for seed in (0, 1) for purpose in purposes}) == 2 * len(purposes)


def test_a_generator_repeats_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, second = (torch.randn(3, generator=generator(0, "noise")) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.randn(3, generator=generator(0, "noise", 1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generators_draw_from_a_seed_as_with_torchs_own_way_and_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    with seeded(derive(0, "weights")):
        first = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(0, "weights"))
        assert torch.equal(torch.randn(3), first)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpus_generator_draws_from_a_seed_too_and_is_left_as_it_was() -> None:
    device = torch.device("cuda", 0)
    before = torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with seeded(5, device):
            draws.append(torch.randn(3, device=device))
    assert torch.equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(device), before)

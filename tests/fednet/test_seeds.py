"""Seeds are functions of their purpose alone: the same in every process, and different for different purposes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fednet.seeds import derive, generator

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

"""The draw is a function of the seed and the round, of the right size, and fair."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fednet.federated.participation import sampled_participants

NAMES = [f"a{index}" for index in range(10)]


@given(st.sets(st.text(max_size=4), min_size=1, max_size=20), st.floats(0.001, 1.0), st.integers(0, 5), st.randoms())
def test_it_is_a_sorted_part_of_the_right_size_whatever_the_order(
    names: set[str], share: float, number: int, random: Random
) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)
    chosen = sampled_participants(shuffled, share, 3, "m", number)
    assert chosen == sampled_participants(names, share, 3, "m", number)
    assert list(chosen) == sorted(set(chosen) & names)
    assert len(chosen) == max(1, round(share * len(names)))


def test_everybody_and_nobody() -> None:
    assert sampled_participants(NAMES, 1.0, 0, "m", 1) == tuple(NAMES)
    assert sampled_participants([], 1.0, 0, "m", 1) == ()


def test_every_round_model_and_seed_draws_anew() -> None:
    draws = [
        sampled_participants(NAMES, 0.5, seed, model, number)
        for seed in (0, 1)
        for model in "mn"
        for number in range(1, 6)
    ]
    assert len(set(draws)) > 15


def test_everybody_has_the_same_chance() -> None:
    counts = Counter(name for number in range(1000) for name in sampled_participants(NAMES, 0.3, 0, "m", number))
    assert set(counts) == set(NAMES)
    assert all(240 < count < 360 for count in counts.values())  # 300, deviation 14.5


def test_the_loss_of_one_moves_only_its_place() -> None:
    for number in range(50):
        before = set(sampled_participants(NAMES, 0.4, 0, "m", number))
        after = set(sampled_participants(NAMES[1:], 0.45, 0, "m", number))
        assert len(before) == len(after) == 4
        assert before - {"a0"} <= after

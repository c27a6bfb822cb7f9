"""The system's generator is private, a seed is not; the same seed gives the same bytes, however they are cut."""

from __future__ import annotations

from fednet.privacy.entropy import SYSTEM, SeededRandom, is_private


def test_only_the_systems_generator_is_private() -> None:
    assert is_private(SYSTEM)
    assert not is_private(SeededRandom(0))
    assert not is_private(lambda count: b"0" * count)


def test_a_seed_gives_the_same_bytes_and_another_purpose_others() -> None:
    random, again = SeededRandom(1, "a", 2), SeededRandom(1, "a", 2)
    assert random(5) + random(20) == again(25)
    assert (
        len(
            {
                SeededRandom(1)(32),
                SeededRandom(2)(32),
                SeededRandom(1, "a")(32),
                SeededRandom(1, "a", 2)(32),
                SeededRandom(1, "b")(32),
            }
        )
        == 5
    )

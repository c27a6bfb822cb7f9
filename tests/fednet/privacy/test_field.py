"""The prime is one; interpolation undoes evaluation; what is drawn is uniform."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.privacy.entropy import SeededRandom
from fednet.privacy.field import SECRETS, PrimeField

MERSENNE = PrimeField(2**61 - 1)
FIELDS = (PrimeField(7), MERSENNE, SECRETS)


def is_prime(number: int) -> bool:
    """Miller and Rabin with 50 bases: wrong with a probability below 4^-50."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    return all(
        pow(base, odd, number) == 1 or any(pow(base, odd << i, number) == number - 1 for i in range(twos))
        for base in range(2, 52)
    )


def test_the_prime_is_the_smallest_above_two_to_the_256() -> None:
    assert [extra for extra in range(1, 298) if is_prime(2**256 + extra)] == [SECRETS.prime - 2**256]
    assert SECRETS.width == 33


@settings(deadline=None)
@given(st.sampled_from(FIELDS), st.data())
def test_interpolation_undoes_evaluation(field: PrimeField, data: st.DataObject) -> None:
    elements = st.integers(0, field.prime - 1)
    coefficients = data.draw(st.lists(elements, min_size=1, max_size=6))
    count = len(coefficients)
    places = data.draw(st.lists(elements, min_size=count, max_size=count, unique=True))
    points = {place: field.evaluate(coefficients, place) for place in places}
    at = data.draw(elements)
    assert field.interpolate(points, at) == field.evaluate(coefficients, at)
    assert field.evaluate(coefficients, at) == sum(c * at**i for i, c in enumerate(coefficients)) % field.prime


def test_every_element_is_drawn_equally_often() -> None:
    counts = Counter(map(PrimeField(7).draw, [SeededRandom(3)] * 7000))
    assert set(counts) == set(range(7))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 22.5  # chi-squared, 6 degrees, p = 0.001


@pytest.mark.parametrize("field", FIELDS[1:])
def test_large_elements_are_drawn_too(field: PrimeField) -> None:
    drawn = [field.draw(SeededRandom(4, index)) for index in range(200)]
    assert all(0 <= value < field.prime for value in drawn)
    assert 60 < sum(value > field.prime // 2 for value in drawn) < 140

"""Arithmetic modulo a prime: the field over which a secret is shared.

A secret of 256 bits must be one element, so the prime is the smallest above 2^256. Sharing in the integers, or modulo a
number that is no prime, leaks the secret and fails to recover it. Python's integers do not run in constant time: a
neighbour who can time this very process to the microsecond is not kept out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fednet.privacy.entropy import Random


@dataclass(frozen=True)
class PrimeField:
    """The integers 0 .. prime - 1.

    Attributes:
        prime: a prime; that it is one is not checked.
    """

    prime: int

    @property
    def width(self) -> int:
        """The bytes of one element."""
        return (self.prime.bit_length() + 7) // 8

    def draw(self, random: Random) -> int:
        """One element, each with the same probability (by rejection)."""
        bits = (self.prime - 1).bit_length()
        while True:
            value = int.from_bytes(random((bits + 7) // 8), "big") & ((1 << bits) - 1)
            if value < self.prime:
                return value

    def evaluate(self, coefficients: Sequence[int], at: int) -> int:
        """The value of c_0 + c_1 x + c_2 x^2 + ... at x (Horner)."""
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * at + coefficient) % self.prime
        return value

    def weights(self, places: Sequence[int], at: int = 0) -> list[int]:
        """What each value counts in the polynomial of least degree through `places`, at x (Lagrange).

        Args:
            places: distinct modulo the prime.
            at: x.
        """
        weights = []
        for place in places:
            above, below = 1, 1
            for other in places:
                if other != place:
                    above = above * (at - other) % self.prime
                    below = below * (place - other) % self.prime
            weights.append(above * pow(below, -1, self.prime) % self.prime)
        return weights

    def interpolate(self, points: Mapping[int, int], at: int = 0) -> int:
        """The value at x of the polynomial of least degree through all points (x, y)."""
        weights = self.weights(tuple(points), at)
        return sum(weight * value for weight, value in zip(weights, points.values(), strict=True)) % self.prime


SECRETS = PrimeField(2**256 + 297)
"""For secrets of 32 bytes; an element has 33."""

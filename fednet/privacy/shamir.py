"""A secret in n shares, of which any t give it back and any t - 1 say nothing.

Shamir 1979, "How to share a secret": the values at 1 .. n of a polynomial of degree t - 1 over a prime field, whose
value at 0 is the secret and whose other coefficients are drawn at random. Through any t - 1 shares and any secret goes
exactly one such polynomial, so t - 1 shares fit every secret equally well. Refuses to know who holds a share, and
cannot tell a false share from a true one, except where there are more than t.
"""

from __future__ import annotations

from collections.abc import Mapping

from fednet.errors import PrivacyError
from fednet.privacy.entropy import SYSTEM, Random
from fednet.privacy.field import SECRETS, PrimeField


def split(
    secret: int, threshold: int, count: int, random: Random = SYSTEM, field: PrimeField = SECRETS
) -> dict[int, int]:
    """Cuts a secret into shares.

    Args:
        secret: an element of the field.
        threshold: how many shares give it back, 1 .. count.
        count: how many shares, fewer than the field has elements.
        random: where the coefficients come from.
        field: in which it is shared.

    Returns:
        The shares by place, 1 .. count.

    Raises:
        PrivacyError: a secret outside the field, a threshold above the count, or too many shares.
    """
    if not 0 <= secret < field.prime:
        raise PrivacyError(f"the secret is no element of the field: give a number below 2^{field.prime.bit_length()}")
    if not 1 <= threshold <= count < field.prime:
        raise PrivacyError(f"{threshold} of {count} shares: use a threshold of at least 1 and at most the shares")
    coefficients = [secret, *(field.draw(random) for _ in range(threshold - 1))]
    return {place: field.evaluate(coefficients, place) for place in range(1, count + 1)}


def recover(shares: Mapping[int, int], threshold: int, field: PrimeField = SECRETS) -> int:
    """The secret of which these are shares, by place.

    Raises:
        PrivacyError: too few shares, a place or a value that no share has, or shares beyond the threshold that do not
            fit the others.
    """
    if len(shares) < threshold:
        raise PrivacyError(f"{len(shares)} shares: {threshold} are needed to recover a secret")
    if any(not 0 < place < field.prime or not 0 <= value < field.prime for place, value in shares.items()):
        raise PrivacyError("a share is no element of the field: use the shares as they were dealt")
    ordered = sorted(shares.items())
    base, rest = dict(ordered[:threshold]), ordered[threshold:]
    if any(field.interpolate(base, place) != value for place, value in rest):
        raise PrivacyError(f"{len(shares)} shares do not lie on one polynomial: at least one of them is false")
    return field.interpolate(base)

"""Any t shares give the secret back, t - 1 fit every secret, and equally well."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, product

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.entropy import SeededRandom
from fednet.privacy.field import SECRETS, PrimeField
from fednet.privacy.shamir import recover, split

MERSENNE = PrimeField(2**61 - 1)


@pytest.mark.parametrize("field", [MERSENNE, SECRETS], ids=["2^61-1", "2^256+297"])
@pytest.mark.parametrize(("threshold", "count"), [(3, 5), (20, 30)])
def test_a_thousand_of_a_thousand_secrets_come_back(threshold: int, count: int, field: PrimeField) -> None:
    draw = random.Random(threshold)  # noqa: S311 - which shares are kept is no secret
    right = 0
    for index in range(1000):
        secret = field.draw(SeededRandom(5, index))
        shares = split(secret, threshold, count, field=field)
        kept = dict(draw.sample(sorted(shares.items()), threshold))
        right += recover(kept, threshold, field) == secret
    assert right == 1000


def test_every_choice_of_shares_gives_the_secret() -> None:
    shares = split(42, 3, 5)
    for size in (3, 4, 5):
        for kept in combinations(shares.items(), size):
            assert recover(dict(kept), 3) == 42


@pytest.mark.parametrize(("threshold", "count"), [(3, 5), (20, 30)])
def test_one_share_too_few_fits_every_secret(threshold: int, count: int) -> None:
    shares = split(7, threshold, count)
    known = dict(list(shares.items())[: threshold - 1])
    for other in [0, 1, 7, SECRETS.prime - 1, *(SECRETS.draw(SeededRandom(6, index)) for index in range(20))]:
        through = {**known, 0: other}  # t points: one polynomial of degree t - 1 goes through them
        forged = {place: SECRETS.interpolate(through, place) for place in shares}
        assert known.items() <= forged.items()
        assert recover(forged, threshold) == other


class Scripted:
    """Gives these bytes in turn."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)

    def __call__(self, count: int) -> bytes:
        return self.values.pop(0).to_bytes(count, "big")


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 4)])
def test_over_all_coefficients_too_few_shares_are_distributed_alike_for_every_secret(
    threshold: int, count: int
) -> None:
    field = PrimeField(5)
    dealt = {
        secret: [
            split(secret, threshold, count, Scripted(*drawn), field)
            for drawn in product(range(5), repeat=threshold - 1)
        ]
        for secret in range(5)
    }
    for places in combinations(range(1, count + 1), threshold - 1):
        seen = {
            secret: Counter(tuple(shares[place] for place in places) for shares in all_shares)
            for secret, all_shares in dealt.items()
        }
        assert all(counts == seen[0] for counts in seen.values())
        assert set(seen[0].values()) == {1}
        assert len(seen[0]) == 5 ** (threshold - 1)


def test_shares_are_fresh_every_time() -> None:
    assert split(1, 2, 3) != split(1, 2, 3)
    assert split(1, 2, 3, SeededRandom(0)) == split(1, 2, 3, SeededRandom(0))


def test_false_shares_beyond_the_threshold_are_noticed() -> None:
    shares = split(9, 3, 5)
    shares[5] = (shares[5] + 1) % SECRETS.prime
    with pytest.raises(PrivacyError, match="at least one of them is false"):
        recover(shares, 3)


def test_what_cannot_be_shared_or_recovered_is_refused() -> None:
    for secret, threshold, count in [(-1, 2, 3), (SECRETS.prime, 2, 3), (1, 0, 3), (1, 4, 3)]:
        with pytest.raises(PrivacyError):
            split(secret, threshold, count)
    with pytest.raises(PrivacyError):
        split(1, 2, 7, field=PrimeField(7))
    shares = split(123_456_789, 3, 5)
    with pytest.raises(PrivacyError, match="2 shares: 3 are needed") as caught:
        recover({1: shares[1], 2: shares[2]}, 3)
    assert str(shares[1]) not in str(caught.value)
    for false in ({0: 1}, {SECRETS.prime: 1}, {4: -1}, {4: SECRETS.prime}):
        with pytest.raises(PrivacyError, match="no element"):
            recover({1: shares[1], 2: shares[2], **false}, 3)

"""The encrypted sum is exact; without the key it does not open; foreign bytes are refused by name."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from fednet.errors import PrivacyError
from fednet.privacy.homomorphic import MODULUS, MOST_SUMMED, SLOTS, Keyholder, sum_encrypted

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason="TenSEAL is not installed (the extra `he`)"
)


def test_without_the_library_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(PrivacyError, match=r"pip install 'fednet\[he\]'"):
        Keyholder()
    with pytest.raises(PrivacyError, match=r"pip install 'fednet\[he\]'"):
        sum_encrypted(b"", {"a": torch.zeros(1, dtype=torch.uint8)})


def test_the_modulus_is_a_prime_that_batches_and_holds_every_int32() -> None:
    assert MODULUS % (2 * SLOTS) == 1
    assert MODULUS > 2**32
    assert all(MODULUS % divisor for divisor in range(2, 92_683))


@pytest.fixture(scope="module")
def holder() -> Keyholder:
    return Keyholder()


@needs_tenseal
def test_ten_thousand_sums_of_ten_are_exact(holder: Keyholder) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = {f"c{i}": torch.randint(-(2**27), 2**27, (10_000,), generator=generator).int() for i in range(10)}
    total = sum_encrypted(holder.public(), {name: holder.mask(vector) for name, vector in vectors.items()})
    another = Keyholder(holder.secret())
    assert torch.equal(another.unmask(total), torch.stack(list(vectors.values())).sum(0).int())


@needs_tenseal
def test_the_largest_sum_and_the_most_contributions_are_exact(holder: Keyholder) -> None:
    limits = torch.tensor([2**31 - 1, -(2**31), 0], dtype=torch.int32)
    assert torch.equal(holder.unmask(sum_encrypted(holder.public(), {"a": holder.mask(limits)})), limits)
    one = holder.mask(torch.full((SLOTS,), 2**23 - 1, dtype=torch.int32))  # one ciphertext: its noise adds up, too
    total = sum_encrypted(holder.public(), {str(index): one for index in range(MOST_SUMMED)})
    assert holder.unmask(total).unique().tolist() == [MOST_SUMMED * (2**23 - 1)]
    with pytest.raises(PrivacyError, match="257"):
        sum_encrypted(holder.public(), {str(index): one for index in range(MOST_SUMMED + 1)})


@needs_tenseal
def test_the_public_part_opens_nothing_and_encryption_is_fresh(holder: Keyholder) -> None:
    with pytest.raises(PrivacyError, match="public key only"):
        Keyholder(holder.public())
    with pytest.raises(PrivacyError, match="no key"):
        Keyholder(b"something")
    vector = torch.ones(5, dtype=torch.int32)
    assert not torch.equal(holder.mask(vector), holder.mask(vector))
    with pytest.raises(PrivacyError):
        Keyholder().unmask(holder.mask(vector))


@needs_tenseal
def test_foreign_bytes_are_refused_by_name(holder: Keyholder) -> None:
    good = holder.mask(torch.ones(5, dtype=torch.int32))
    longer, huge = good.clone(), good.clone()
    longer[7] += 1
    huge[:8] = 255
    bad = [good[:-1], torch.cat([good, good[:1]]), good[:8], good[:0], longer, huge, good.float(), good[:30]]
    bad += [torch.randint(0, 256, (100,)).to(torch.uint8), holder.mask(torch.ones(6, dtype=torch.int32))]
    for vector in bad:
        with pytest.raises(PrivacyError, match="'b'") as caught:
            sum_encrypted(holder.public(), {"a": good, "b": vector})
        assert caught.value.peers == ("b",)
    with pytest.raises(PrivacyError, match="no sum"):
        holder.unmask(good[:-1])
    with pytest.raises(PrivacyError, match="expected int32"):
        holder.mask(torch.ones(5))

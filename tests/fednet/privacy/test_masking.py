"""Masks cancel exactly, look like noise, and begin anywhere."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from fednet.errors import PrivacyError
from fednet.privacy.masking import VectorMasking, derive_key, length_prefixed, public_key, shared_secret, sum_masked

LENGTH = 200_003


def mask(key: bytes, length: int = LENGTH, offset: int = 0) -> torch.Tensor:
    return VectorMasking("a", [(key, 1)], offset).next(torch.zeros(length, dtype=torch.int32))


def test_both_ends_of_a_pair_make_the_same_key() -> None:
    one, other = b"a" * 32, b"b" * 32
    secret = shared_secret(one, public_key(other))
    assert secret == shared_secret(other, public_key(one))
    assert derive_key(secret, b"x") == derive_key(secret, b"x") != derive_key(secret, b"y")
    assert derive_key(secret, b"x", b"y") != derive_key(secret, b"xy")


def test_the_secret_is_that_of_rfc_7748() -> None:
    private = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")  # section 6.1
    other = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    assert public_key(private).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert shared_secret(private, other).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_a_key_of_small_order_is_refused() -> None:
    with pytest.raises(PrivacyError, match="small order"):
        shared_secret(b"a" * 32, bytes(32))


def test_a_mask_taken_away_leaves_every_bit() -> None:
    vector = torch.randint(-(2**31), 2**31, (LENGTH,)).to(torch.int32)
    masked = VectorMasking("a", [(b"k" * 32, 1)]).next(vector)
    assert (masked != vector).float().mean() > 0.999
    assert torch.equal(VectorMasking("a", [(b"k" * 32, -1)]).next(masked), vector)


@pytest.mark.parametrize("slices", [[1, 3, 70_000, 129_999], [65_536, 65_537, 68_930]])
def test_slices_have_the_masks_of_the_whole(slices: list[int]) -> None:
    masks = [(b"k" * 32, 1), (b"l" * 32, -1)]
    vector, masking = torch.randint(-(2**31), 2**31, (LENGTH,)).to(torch.int32), VectorMasking("a", masks)
    parts = [masking.next(part) for part in torch.split(vector, slices)]
    assert torch.equal(torch.cat(parts), VectorMasking("a", masks).next(vector))


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 65_535, 65_536, 65_537, 199_999])
def test_a_mask_begins_anywhere(offset: int) -> None:
    assert torch.equal(mask(b"k" * 32, LENGTH - offset, offset), mask(b"k" * 32)[offset:])


def test_a_mask_is_uniform_and_another_keys_is_independent() -> None:
    values = mask(b"k" * 32).numpy().view("uint32")
    assert stats.kstest(values / 2**32, "uniform").pvalue > 1e-4
    other = mask(b"l" * 32).numpy().view("uint32")
    assert abs(float(stats.pearsonr(values, other).statistic)) < 0.02


def test_the_stream_is_aes_in_counter_mode() -> None:
    expected = bytes.fromhex("dc95c078a2408989ad48a21492842087")  # AES-256 of the zero block under the zero key
    assert mask(bytes(32), 4).numpy().astype("<i4").tobytes() == expected


def test_the_order_of_a_sum_does_not_matter_and_it_wraps() -> None:
    vectors = {name: torch.tensor([2**31 - 1, -(2**31), value], dtype=torch.int32) for value, name in enumerate("abc")}
    total = sum_masked(vectors)
    assert torch.equal(total, sum_masked(dict(reversed(vectors.items()))))
    assert total.tolist() == [2**31 - 3, -(2**31), 3]
    assert vectors["a"].tolist() == [2**31 - 1, -(2**31), 0]
    assert torch.equal(sum_masked({"a": torch.arange(6, dtype=torch.int32)[::2]}), torch.tensor([0, 2, 4]).int())


@pytest.mark.parametrize(
    "bad", [torch.zeros(3), torch.zeros(4, dtype=torch.int32), torch.zeros(1, 3, dtype=torch.int32), torch.empty(0)]
)
def test_a_vector_that_does_not_fit_is_refused_by_name(bad: torch.Tensor) -> None:
    with pytest.raises(PrivacyError, match="'b'") as caught:
        sum_masked({"a": torch.zeros(3, dtype=torch.int32), "b": bad})
    assert caught.value.peers == ("b",)
    with pytest.raises(PrivacyError, match="at least one"):
        sum_masked({})


def test_length_prefixed_parts_stay_distinct() -> None:
    splits = [(b"a", b"b"), (b"ab",), (b"", b"ab"), (b"ab", b""), ()]
    assert len({length_prefixed(*parts) for parts in splits}) == 5

"""Sums of encrypted vectors by somebody who has no key, as an alternative to masks: TenSEAL's BFV.

The same three words as in a secure sum: `mask`, `summed`, `unmask`. BFV (Fan and Vercauteren 2012) adds integers modulo
a prime exactly, so the sum is the sum, never nearly. The parameters are SEAL's for 128 bits of security.

Who is trusted differs. All peers hold one key, so whoever adds must hold none and must hand on nothing but the sum; no
threshold and no drop-outs to repair: the sum is of whatever came. Ciphertexts are not authenticated: bytes that were
changed on the way may open to another number, so whoever carries them must sign them. One is about five times its
vector. Needs the extra `he`. Refuses to know how the key gets to the other peers: sealed, and never to whoever adds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fednet.errors import PrivacyError
from fednet.privacy.masking import require_vector

SLOTS = 4096
"""Numbers in one ciphertext: the degree of the ring."""

MODULUS = 8_590_090_241
"""Plain numbers are modulo this prime: above 2^33, so that every int32 fits, and 1 modulo 2 * SLOTS, for batching."""

MOST_SUMMED = 256
"""Contributions in a sum, at most: the noise of so many leaves the sum exact."""

_LONGEST = 160_000
_COUNT, _LENGTH = 8, 4


class Keyholder:
    """A peer that can encrypt a vector and open a sum."""

    def __init__(self, secret: bytes | None = None) -> None:
        """Draws a key, or takes the one of another keyholder.

        Raises:
            PrivacyError: TenSEAL is not installed, or the bytes are no secret key.
        """
        seal = _tenseal()
        self._context = (
            seal.context(seal.SCHEME_TYPE.BFV, poly_modulus_degree=SLOTS, plain_modulus=MODULUS, n_threads=1)
            if secret is None
            else _context(secret)
        )
        if not self._context.is_private():
            raise PrivacyError("these bytes have a public key only: give a keyholder's `secret()`")

    def secret(self) -> bytes:
        """The key, for other keyholders: to be sealed on its way."""
        return self._serialised(secret=True)

    def public(self) -> bytes:
        """What `summed` needs; it opens nothing."""
        return self._serialised(secret=False)

    def mask(self, vector: Tensor) -> Tensor:
        """Encrypts a vector.

        Args:
            vector: int32 (n,), quantised.

        Returns:
            uint8 (m,).

        Raises:
            PrivacyError: no quantised vector.
        """
        seal, blocks = _tenseal(), torch.split(require_vector(vector, "this peer"), SLOTS)
        return _packed(len(vector), [seal.bfv_vector(self._context, block.tolist()).serialize() for block in blocks])

    def unmask(self, total: Tensor) -> Tensor:
        """Opens a sum.

        Args:
            total: uint8 (m,), from `summed`.

        Returns:
            int32 (n,), exact.

        Raises:
            PrivacyError: no sum under this key, or one beyond int32.
        """
        count, parts = _unpacked(total, "")
        result = torch.tensor(
            [value for vector in _vectors(self._context, count, parts, "") for value in vector.decrypt()]
        )
        if bool((result != result.to(torch.int32)).any()):
            raise PrivacyError("the sum is beyond 32 bits: it was encrypted under another key, or is no sum")
        return result.to(torch.int32)

    def _serialised(self, *, secret: bool) -> bytes:
        data: bytes = self._context.serialize(
            save_public_key=True, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
        )
        return data


def sum_encrypted(public: bytes, vectors: Mapping[str, Tensor]) -> Tensor:
    """Adds up encrypted vectors without a key.

    Args:
        public: a keyholder's `public()`.
        vectors: uint8 (m,) by whose they are, at least 1 and at most `MOST_SUMMED`.

    Returns:
        uint8 (m,), the encrypted sum.

    Raises:
        PrivacyError: none or too many; a vector of another length, or no encrypted vector; names whose.
    """
    if not 1 <= len(vectors) <= MOST_SUMMED:
        raise PrivacyError(f"a sum of {len(vectors)} encrypted vectors: from 1 to {MOST_SUMMED} can be added")
    context, first = _context(public), min(vectors)
    count, _ = _unpacked(vectors[first], first)
    totals: list[Any] = []
    for name, vector in sorted(vectors.items()):
        length, parts = _unpacked(vector, name)
        if length != count:
            raise PrivacyError(f"{name!r} sent {length} values, {first!r} {count}: use one model", (name,))
        opened = _vectors(context, count, parts, name)
        totals = [total + part for total, part in zip(totals, opened, strict=True)] if totals else list(opened)
    return _packed(count, [total.serialize() for total in totals])


def _tenseal() -> ModuleType:
    try:
        return importlib.import_module("tenseal")
    except ImportError:
        raise PrivacyError(
            "homomorphic sums need TenSEAL, which is not installed: pip install 'fednet[he]', or use masks"
        ) from None


def _context(data: bytes) -> Any:
    try:
        return _tenseal().context_from(data, n_threads=1)
    except (ValueError, RuntimeError):
        raise PrivacyError("these bytes are no key of a homomorphic sum: give a keyholder's") from None


def _vectors(context: Any, count: int, parts: list[bytes], whose: str) -> Iterator[Any]:
    """The ciphertexts in their order; each is of the size that its place asks for."""
    for start, part in zip(range(0, count, SLOTS), parts, strict=True):
        try:
            vector = _tenseal().bfv_vector_from(context, part)
        except (ValueError, RuntimeError):
            vector = None
        if vector is None or vector.size() != min(SLOTS, count - start):
            raise _refused(whose)
        yield vector


def _packed(count: int, parts: list[bytes]) -> Tensor:
    framed = b"".join(len(part).to_bytes(_LENGTH, "big") + part for part in parts)
    return torch.frombuffer(bytearray(count.to_bytes(_COUNT, "big") + framed), dtype=torch.uint8)


def _unpacked(packed: Tensor, whose: str) -> tuple[int, list[bytes]]:
    """How many numbers, and the bytes of each ciphertext: as many as the numbers need and not a byte more."""
    data = packed.numpy().tobytes() if packed.dtype is torch.uint8 and packed.dim() == 1 else b""
    count, at, parts = int.from_bytes(data[:_COUNT], "big"), _COUNT, []
    while at < len(data):
        length = int.from_bytes(data[at : at + _LENGTH], "big")
        parts.append(data[at + _LENGTH : at + _LENGTH + length])
        at += _LENGTH + length
        if length > _LONGEST or len(parts[-1]) != length:
            break
    else:
        if count and len(parts) == -(-count // SLOTS):
            return count, parts
    raise _refused(whose)


def _refused(whose: str) -> PrivacyError:
    if not whose:
        return PrivacyError("these bytes are no sum of encrypted vectors under this key: use what `summed` gave")
    return PrivacyError(f"{whose!r} sent bytes that are no encrypted vector under this key: leave it out", (whose,))

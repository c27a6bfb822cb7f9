"""Masks of a secure sum: pseudorandom vectors that two parties add and subtract.

X25519 (RFC 7748) agrees on a secret, HKDF-SHA256 (RFC 5869) makes a key of it, AES-256 in counter mode stretches the
key to a vector over the ring of integers modulo 2^32 (int32 here: the same bits). A key is for one mask only, so that
the counter starts at zero. Counter mode allows random access: a shard is unmasked without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from fednet.errors import PrivacyError

Words = np.ndarray[Any, np.dtype[np.uint32]]

KEY = 32
"""Size of every key, public or private, and of every seed."""

_BLOCK = 1 << 18
"""Bytes of a mask at a time, so that they stay in the processor's cache."""

_ZEROS = memoryview(bytes(_BLOCK))


def public_key(private: bytes) -> bytes:
    """The public key of an X25519 private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def shared_secret(private: bytes, public: bytes) -> bytes:
    """X25519 key agreement; the result is only used through `derive_key`.

    Raises:
        PrivacyError: the public key is of small order, so that the result would not be secret.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise PrivacyError("a public key is of small order: expected a random key") from None


def derive_key(secret: bytes, *purpose: bytes) -> bytes:
    """A key for one purpose (HKDF-SHA256)."""
    return HKDF(SHA256(), KEY, salt=None, info=length_prefixed(*purpose)).derive(secret)


def length_prefixed(*parts: bytes) -> bytes:
    """An injective encoding of byte strings: each is preceded by its length."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


class VectorMasking:
    """Adds masks to one vector, slice by slice in order; none is masked twice, as the difference would not be hidden.

    Args:
        name: whose vector it is.
        masks: keys, 32 bytes of one mask only, and whether each mask is added (1) or subtracted (-1).
        offset: position in the masks of the first slice, in elements.
    """

    def __init__(self, name: str, masks: Sequence[tuple[bytes, int]], offset: int = 0) -> None:
        self._name, self._buffer = name, bytearray(_BLOCK + 15)
        first, skipped = divmod(offset, 4)
        self._masks = []
        for key, sign in masks:
            keystream = Cipher(algorithms.AES(key), modes.CTR(first.to_bytes(16, "big"))).encryptor()
            keystream.update(bytes(4 * skipped))
            self._masks.append((keystream, np.add if sign > 0 else np.subtract))

    def next(self, vector: Tensor) -> Tensor:
        """The next slice of the vector, int32 (n,), with its masks, modulo 2^32: new, and uniform to all others.

        Raises:
            PrivacyError: it is no int32 vector.
        """
        masked = require_vector(vector, self._name).clone(memory_format=torch.contiguous_format)
        words = _words(masked)
        for start in range(0, len(words), _BLOCK // 4):
            part = words[start : start + _BLOCK // 4]
            for keystream, combine in self._masks:
                keystream.update_into(_ZEROS[: 4 * len(part)], self._buffer)
                combine(part, np.frombuffer(self._buffer, np.uint32, len(part)), out=part)
        return masked


def sum_masked(vectors: Mapping[str, Tensor]) -> Tensor:
    """The sum of masked vectors modulo 2^32.

    Args:
        vectors: int32 (n,) by party, at least one.

    Returns:
        int32 (n,), new.

    Raises:
        PrivacyError: no vectors, or one of another length or type; names the party.
    """
    if not vectors:
        raise PrivacyError("no masked vectors: expected at least one")
    ordered = sorted(vectors.items())
    total = torch.zeros_like(require_vector(ordered[0][1], ordered[0][0]), memory_format=torch.contiguous_format)
    for name, vector in ordered:
        if len(require_vector(vector, name)) != len(total):
            raise PrivacyError(
                f"{name!r} sent {len(vector)} masked values, {ordered[0][0]!r} {len(total)}: use the same model",
                (name,),
            )
        words = _words(total)
        np.add(words, _words(vector.contiguous()), out=words)
    return total


def require_vector(vector: Tensor, whose: str) -> Tensor:
    """Checks that a vector is int32 (n,) with n >= 1 on the CPU, and returns it.

    Raises:
        PrivacyError: it is not; names the party.
    """
    if vector.dtype is not torch.int32 or vector.dim() != 1 or not len(vector) or vector.device.type != "cpu":
        raise PrivacyError(
            f"the vector of {whose!r} is {vector.dtype} {tuple(vector.shape)} on {vector.device}: "
            "expected int32 (n,) on the cpu, see `Quantiser.encode`",
            (whose,),
        )
    return vector


def _words(vector: Tensor) -> Words:
    """The same memory as unsigned numbers, whose overflow is defined."""
    words: Words = vector.detach().numpy().view(np.uint32)
    return words

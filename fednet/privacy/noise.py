"""Random numbers that nobody can guess, for privacy noise and for secret samples; and their seeded twin for tests.

Numbers come from ChaCha20's key stream under a key that the operating system has drawn for this source alone and that
is kept nowhere else. A seeded source has a key that everybody can compute: what is made with it is NOT PRIVATE, and
it says so. Noise must be secret and so must be which examples are in a step: amplification by sampling holds only
against somebody who does not know the sample, so neither ever comes from the run's seed.

A Gaussian number is half the sum of four by Box and Muller from 53-bit uniforms: one alone can be told from its
neighbours by the low bits of a float (Mironov 2012), four cannot at any cost that is known (Holohan and Braghin 2021,
arXiv 2107.10138, which Opacus' secure mode follows too). That is a defence against known attacks, not a proof for
floats as a discrete Gaussian has one.
"""

from __future__ import annotations

import math

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from torch import Tensor

from fednet.privacy.entropy import SYSTEM, Random, SeededRandom, is_private

TERMS = 4
"""Gaussian numbers in one."""
STRETCH = 1 << 36
"""Bytes of one key stream before the next begins; ChaCha20's counter reaches four times as far."""


class NoiseSource:
    """A stream of secret random numbers; not for several threads.

    Args:
        random: where its key comes from.

    Attributes:
        private: whether the numbers are secret.
    """

    def __init__(self, random: Random = SYSTEM) -> None:
        self.private = is_private(random)
        self._key, self._stretch = random(32), 0
        self._begin()

    @classmethod
    def seeded(cls, seed: int, *purpose: str | int) -> NoiseSource:
        """A source whose numbers anybody can repeat who knows the seed: for tests. NOT PRIVATE."""
        return cls(SeededRandom(seed, "noise", *purpose))

    def uniform(self, count: int) -> Tensor:
        """Uniform numbers in [0, 1), multiples of 2^-53: float64 (count,)."""
        raw = torch.frombuffer(bytearray(self._bytes(8 * max(count, 1))), dtype=torch.int64)[:count]
        return ((raw >> 11) & ((1 << 53) - 1)).to(torch.float64) * 2.0**-53

    def gaussian(self, count: int) -> Tensor:
        """Independent standard normal numbers: float64 (count,)."""
        pairs = (count + 1) // 2
        first, second = self.uniform(2 * TERMS * pairs).view(2, TERMS, pairs)
        radius = (-2.0 * torch.log1p(-first)).sqrt()
        angle = 2.0 * math.pi * second
        total = torch.cat([(radius * angle.cos()).sum(0), (radius * angle.sin()).sum(0)])
        return total[:count] / math.sqrt(TERMS)

    def poisson(self, count: int, rate: float) -> Tensor:
        """A secret sample: each of `count` positions independently with probability `rate`, int64, ascending."""
        return (self.uniform(count) < rate).nonzero().flatten()

    def __repr__(self) -> str:
        """Says what it is, and nothing of its key."""
        return "NoiseSource(secret)" if self.private else "NoiseSource(seeded: NOT PRIVATE)"

    def __reduce__(self) -> str:
        """Is never copied or stored: two copies would give the same noise twice."""
        raise TypeError("a source of secret noise is not copied or stored: make a new one")

    def _begin(self) -> None:
        nonce = self._stretch.to_bytes(8, "little")
        self._stream = Cipher(algorithms.ChaCha20(self._key, bytes(8) + nonce), mode=None).encryptor()
        self._left = STRETCH

    def _bytes(self, count: int) -> bytes:
        if count > self._left:
            self._stretch += 1
            self._begin()
        self._left -= count
        return self._stream.update(bytes(count))

"""Where secrets come from: the operating system's generator, or a seed that makes everything NOT PRIVATE.

The seeded one is for tests and for replaying a run; who uses it must say so wherever its results are shown. Refuses to
know what the bytes are for.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fednet.seeds import derive

Random = Callable[[int], bytes]
"""Gives as many fresh random bytes as are asked for."""

SYSTEM: Random = os.urandom
"""The operating system's generator."""


def is_private(random: Random) -> bool:
    """Whether what is drawn from it is a secret."""
    return random is SYSTEM


class SeededRandom:
    """Bytes that follow from a seed and a purpose. NOT PRIVATE: whoever knows the seed knows every secret."""

    def __init__(self, seed: int, *purpose: str | int) -> None:
        key = b"".join(derive(seed, "NOT PRIVATE", *purpose, part).to_bytes(8, "big") for part in range(4))
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __call__(self, count: int) -> bytes:
        """The next `count` bytes of the stream."""
        return self._stream.update(bytes(count))

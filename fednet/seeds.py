"""Seeds by purpose: one seed per run, from which every random choice derives a generator of its own.

For reproducible numbers only. Secrets (keys, masks, privacy noise) never come from here.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Derives an independent 63-bit seed for a purpose, e.g. `derive(0, "train", "a1", 3)`.

    A hash of the written-out purpose: independent of PYTHONHASHSEED and of the platform.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for a purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))

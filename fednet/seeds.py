"""Seeds by purpose: one seed per run, from which every random choice derives a generator of its own.

For reproducible numbers only. Secrets (keys, masks, privacy noise) never come from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")


def derive(seed: int, *purpose: str | int) -> int:
    """Derives an independent 63-bit seed for a purpose, e.g. `derive(0, "train", "a1", 3)`.

    A hash of the written-out purpose: independent of PYTHONHASHSEED and of the platform.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for a purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Has torch's global generators draw from a seed, such as a network's first weights; they are then as before.

    `torch.manual_seed` does more: without a GPU it formats the stack for every kind of GPU there might be, which takes
    several times as long as a small network, and with one it leaves the GPUs' generators changed.

    Args:
        seed: such as `derive` gives.
        device: whose generator it is, beside the CPU's.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        (torch.manual_seed if on_gpu else torch.default_generator.manual_seed)(seed)
        yield

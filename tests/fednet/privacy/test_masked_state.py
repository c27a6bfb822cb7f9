"""Masking and unmasking piece by piece give the bits of whole vectors, on the disk as in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.federated.state import digest
from fednet.federated.state_storage import DiskStorage, WritableStorage
from fednet.privacy import masked_state as module
from fednet.privacy.masked_state import MASKED_TENSOR, masked_layout, masked_state, unmasked_state
from fednet.privacy.quantise import Quantiser, apply_change, difference

CLIP = 2.0
BASE: dict[str, Any] = {
    "w": torch.arange(10, dtype=torch.float32).reshape(2, 5) / 7,
    "norm.running_var": torch.full((3,), 0.5),
    "norm.num_batches_tracked": torch.tensor(7),
    "c": torch.complex(torch.ones(3), -torch.ones(3)),
    "h": torch.linspace(-1, 1, 4).half(),
    "b": torch.tensor([True, False]),
    "none": torch.empty(0),
}


def update() -> dict[str, Any]:
    return {
        "w": BASE["w"] + torch.linspace(-3, 3, 10).reshape(2, 5),
        "norm.running_var": BASE["norm.running_var"] * 9,
        "norm.num_batches_tracked": torch.tensor(114),
        "c": BASE["c"] * 1.25,
        "h": BASE["h"] * 2,
        "b": ~BASE["b"],
        "none": torch.empty(0),
    }


@pytest.mark.parametrize("piece", [1, 3, 4, 1000])
@pytest.mark.parametrize("on_disk", [True, False])
def test_pieces_give_the_bits_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, piece: int, *, on_disk: bool
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    quantiser = Quantiser(CLIP, 3)

    def allocate(size: int) -> WritableStorage:
        return DiskStorage(size, tmp_path) if on_disk else WritableStorage(size)

    encoded = masked_state(update(), BASE, CLIP, quantiser.encode, allocate)
    whole = quantiser.encode(difference(update(), BASE, CLIP))
    assert torch.equal(encoded.state[MASKED_TENSOR], whole)
    assert encoded.layout == masked_layout(BASE)
    assert encoded.tree.root == digest({MASKED_TENSOR: whole})

    offsets: list[int] = []

    def mean(total: torch.Tensor, offset: int) -> torch.Tensor:
        offsets.append(offset)
        assert torch.equal(total, whole[offset : offset + len(total)])
        return quantiser.mean(total, [1.0, 0.5])

    new = unmasked_state(whole, BASE, CLIP, mean, allocate)
    expected = apply_change(BASE, quantiser.mean(whole, [1.0, 0.5]), CLIP)
    assert new.tree.root == digest(expected)
    assert all(torch.equal(new.state[name], value) for name, value in expected.items())
    assert offsets == sorted(set(offsets))

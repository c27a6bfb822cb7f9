"""Masking and unmasking piece by piece give the bits of whole vectors, on the disk as in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.federated.packed_state import PackedState
from fednet.federated.state import digest
from fednet.federated.state_storage import DiskStorage, WritableStorage
from fednet.privacy import masked_state as module
from fednet.privacy.masked_state import MASKED_TENSOR, masked_layout, masked_state, unmasked_state
from fednet.privacy.quantise import Quantiser

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


@pytest.mark.parametrize("piece", [1, 3, 4])
@pytest.mark.parametrize("on_disk", [True, False])
def test_pieces_give_the_bits_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, piece: int, *, on_disk: bool
) -> None:
    quantiser = Quantiser(CLIP, 3)

    def allocate(size: int) -> WritableStorage:
        return DiskStorage(size, tmp_path) if on_disk else WritableStorage(size)

    def mean(total: torch.Tensor) -> torch.Tensor:
        return quantiser.mean(total, [1.0, 0.5])

    def both() -> tuple[PackedState, PackedState]:
        encoded = masked_state(update(), BASE, CLIP, quantiser.encode, allocate)
        return encoded, unmasked_state(encoded.state[MASKED_TENSOR], BASE, CLIP, mean, allocate)

    whole = both()
    assert whole[0].layout == masked_layout(BASE)
    monkeypatch.setattr(module, "PIECE", piece)
    assert [packed.tree.root for packed in both()] == [packed.tree.root for packed in whole]
    assert all(packed.tree.root == digest(packed.state) for packed in whole)
    assert {name: tensor.dtype for name, tensor in whole[1].state.items()} == {
        name: tensor.dtype for name, tensor in BASE.items()
    }

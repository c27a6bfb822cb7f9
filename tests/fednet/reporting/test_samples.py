"""A batch of samples is an immutable value, and its file gives it back."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fednet.errors import DataError
from fednet.reporting.samples import SampleBatch, read_samples, write_samples


def test_a_batch_of_samples_is_immutable() -> None:
    batch = SampleBatch(torch.zeros(2, 1, 4, 4), None, ("a1 was late",))
    assert (batch.labels, batch.notes) == (None, ("a1 was late",))
    with pytest.raises(FrozenInstanceError):
        batch.notes = ()  # type: ignore[misc]


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 0])])
def test_a_file_gives_samples_back(tmp_path: Path, labels: torch.Tensor | None) -> None:
    images = torch.rand(2, 3, 4, 4).transpose(2, 3)  # not contiguous
    write_samples(
        tmp_path / "s.safetensors", SampleBatch(images, labels, ("a note",), ("cat", "dog")), log_p=images[:, 0]
    )
    read = read_samples(tmp_path / "s.safetensors")
    assert torch.equal(read.images, images)
    assert (read.labels is None) == (labels is None)
    assert read.labels is None or labels is None or torch.equal(read.labels, labels)
    assert read.classes == ("cat", "dog")
    assert torch.equal(load_file(tmp_path / "s.safetensors")["log_p"], images[:, 0])


def test_what_holds_no_samples_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    for content in ({"weights": torch.zeros(1)}, {"images": torch.zeros(4)}, {"images": torch.zeros(1, 1, 2, 2).int()}):
        save_file(content, path)
        with pytest.raises(DataError, match=r"s\.safetensors holds no samples"):
            read_samples(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"s\.safetensors holds no samples"):
        read_samples(path)

"""Tensors of a question are returned as they are, or refused with what was expected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.methods.common.inputs import MAX_ROWS, described, images_input, labels_input, vectors_input

SHAPE = (1, 2, 2)


def test_what_fits_is_returned() -> None:
    images, vectors, labels = torch.zeros(3, *SHAPE), 5 * torch.ones(3, 4), torch.tensor([0, 2, 1])
    assert images_input(images, SHAPE) is images
    assert vectors_input(vectors, (4,), "noise", 3) is vectors
    assert labels_input(labels, 3, 3) is labels


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (None, r"images must be float32 \(n, 1, 2, 2\), got nothing"),
        (torch.zeros(3, 1, 2, 3), r"got torch.float32 \(3, 1, 2, 3\)"),
        (torch.zeros(1, 2, 2), "images must be float32"),
        (torch.zeros(3, *SHAPE, dtype=torch.float64), "float64"),
        (torch.zeros(0, *SHAPE), "1 to 20000 rows, got 0"),
        (torch.zeros(1, *SHAPE).expand(MAX_ROWS + 1, -1, -1, -1), "got 20001"),
        (torch.full((3, *SHAPE), torch.nan), "NaN"),
        (torch.full((3, *SHAPE), 2.0), r"\[-1, 1\]"),
    ],
)
def test_other_images_are_refused(images: Tensor | None, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        images_input(images, SHAPE)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (None, r"noise must be float32 \(2, 4\), got nothing"),
        (torch.zeros(3, 4), r"noise must be float32 \(2, 4\), got torch.float32 \(3, 4\)"),
        (torch.zeros(2, 5), "noise must be float32"),
        (torch.full((2, 4), torch.inf), "not finite"),
    ],
)
def test_other_vectors_are_refused(vectors: Tensor | None, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        vectors_input(vectors, (4,), "noise", 2)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, r"labels must be int64 \(2,\), got nothing"),
        (torch.zeros(2), "float32"),
        (torch.tensor([0]), r"\(1,\)"),
        (torch.tensor([0, 3]), r"labels must lie in 0\.\.2, got 0\.\.3"),
        (torch.tensor([-1, 0]), r"got -1\.\.0"),
    ],
)
def test_other_labels_are_refused(labels: Tensor | None, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        labels_input(labels, 3, 2)


def test_a_tensor_is_described_by_dtype_and_shape() -> None:
    assert described(torch.zeros(2, 3)) == "torch.float32 (2, 3)"
    assert described(None) == "nothing"

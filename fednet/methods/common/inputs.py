"""Reads the tensors of a question: pictures, vectors and labels, checked for shape, dtype, count, range and finiteness.

Knows no method; what does not fit is a MethodError that says what would.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.images import require_pictures

MAX_ROWS = 20_000
"""Pictures, vectors or labels in one question."""


def images_input(images: Tensor | None, shape: tuple[int, ...], name: str = "images") -> Tensor:
    """Pictures float32 (n, *shape) in [-1, 1], 1 <= n <= MAX_ROWS.

    Raises:
        MethodError: they are missing, of another dtype or shape, too many, not finite or out of range.
    """
    rows = _rows(images, shape, name, None)
    require_pictures(rows, name)
    return rows


def vectors_input(
    vectors: Tensor | None, shape: tuple[int, ...], name: str, count: int | None = None, most: int = MAX_ROWS
) -> Tensor:
    """Finite float32 (n, *shape): n is `count`, or 1 <= n <= `most` where that is None.

    Raises:
        MethodError: they are missing, of another dtype, shape or count, or not finite.
    """
    rows = _rows(vectors, shape, name, count, most)
    if not bool(rows.isfinite().all()):
        raise MethodError(f"{name} holds numbers that are not finite")
    return rows


def labels_input(labels: Tensor | None, classes: int, count: int | None = None, name: str = "labels") -> Tensor:
    """Labels int64 (n,) in 0..classes - 1: n is `count`, or 1 <= n <= MAX_ROWS where that is None.

    Raises:
        MethodError: they are missing, of another dtype, shape or count, or out of range.
    """
    if labels is None or labels.dtype != torch.int64 or labels.ndim != 1 or count not in (None, len(labels)):
        raise MethodError(f"{name} must be int64 ({'n' if count is None else count},), got {described(labels)}")
    _require_count(labels, name)
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise MethodError(f"{name} must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    return labels


def described(tensor: Tensor | None) -> str:
    """The dtype and shape of a tensor, for a message."""
    return "nothing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"


def _rows(tensor: Tensor | None, shape: tuple[int, ...], name: str, count: int | None, most: int = MAX_ROWS) -> Tensor:
    wanted = f"float32 ({', '.join(map(str, ('n' if count is None else count, *shape)))})"
    if (
        tensor is None
        or tensor.dtype != torch.float32
        or tensor.ndim != len(shape) + 1
        or tuple(tensor.shape[1:]) != shape
        or count not in (None, len(tensor))
    ):
        raise MethodError(f"{name} must be {wanted}, got {described(tensor)}")
    _require_count(tensor, name, most)
    return tensor


def _require_count(tensor: Tensor, name: str, most: int = MAX_ROWS) -> None:
    if not 1 <= len(tensor) <= most:
        raise MethodError(f"{name} must have 1 to {most} rows, got {len(tensor)}: ask in parts")

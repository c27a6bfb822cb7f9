"""Rotations and reflections of images: those in a public set, and one that is held out.

An orientation is a matrix from coordinates of the new image to those of the old one. A family of orientations without
one of its members makes a public set whose models have never seen that one, although it lies between others that they
have. The held-out one is the transposition, the reflection about the main diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from fednet.data.datasets import ImageSet


@dataclass(frozen=True)
class Orientation:
    """One way in which a picture can lie.

    Attributes:
        name: one word, for example "turned-30".
        matrix: orthogonal, row by row (x to x, y to x, x to y, y to y); x goes right, y goes down.
    """

    name: str
    matrix: tuple[float, float, float, float]


def rotation(degrees: int) -> Orientation:
    """Turned about the centre; 0 leaves the picture as it is."""
    angle = math.radians(degrees)
    return Orientation(f"turned-{degrees}", (math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)))


def reflection(degrees: int) -> Orientation:
    """Mirrored about the axis through the centre that falls by so many degrees to the right."""
    angle = 2 * math.radians(degrees)
    return Orientation(f"mirrored-{degrees}", (math.cos(angle), math.sin(angle), math.sin(angle), -math.cos(angle)))


UPRIGHT = rotation(0)
HIDDEN = reflection(45)
"""The transposition."""
SHOWN = (UPRIGHT, rotation(90), rotation(-90), reflection(35), reflection(55))
"""What a public set shows; the one left out lies between two that are 20 degrees off, to the left and to the right."""


def matrices(orientations: tuple[Orientation, ...]) -> Tensor:
    """Their matrices, float32 (k, 2, 2)."""
    return torch.tensor([orientation.matrix for orientation in orientations]).view(-1, 2, 2)


def transformed(images: Tensor, places: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Pictures under orientations of their own; what comes in from outside is black, that is -1.

    Args:
        images: float (n, c, h, w) in [-1, 1].
        places: (n, 2, 2), the matrices; one of another size zooms.
        shifts: (n, 2), in halves of a side; None for none.

    Returns:
        The same shape, in [-1, 1], interpolated between pixels.
    """
    moved = torch.zeros(len(images), 2) if shifts is None else shifts
    grid = affine_grid(torch.cat([places, moved[:, :, None]], 2), list(images.shape), align_corners=False)
    return (grid_sample(images + 1, grid, align_corners=False) - 1).clamp(-1, 1)


def transposed(pictures: ImageSet) -> ImageSet:
    """Square pictures with rows and columns changed over: exactly `HIDDEN`, pixel by pixel."""
    return ImageSet(pictures.images.transpose(2, 3).contiguous(), pictures.labels, pictures.classes)

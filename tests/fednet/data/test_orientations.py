"""Orientations by identities: a turn is undone by a turn, a mirror by itself, and the hidden one is a transposition."""

from __future__ import annotations

import pytest
import torch

from fednet.data.datasets import ImageSet
from fednet.data.orientations import HIDDEN, SHOWN, UPRIGHT, matrices, reflection, rotation, transformed, transposed


def pictures(count: int = 5) -> torch.Tensor:
    return 2 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1


def under(orientation: object, images: torch.Tensor) -> torch.Tensor:
    return transformed(images, matrices((orientation,)).expand(len(images), 2, 2))  # type: ignore[arg-type]


def test_the_hidden_orientation_is_the_transposition() -> None:
    images = pictures()
    assert torch.allclose(under(HIDDEN, images), images.transpose(2, 3), atol=1e-5)
    flat = ImageSet(images, torch.arange(5), tuple("abcde"))
    assert torch.equal(transposed(flat).images, images.transpose(2, 3))


def test_upright_changes_nothing() -> None:
    assert torch.allclose(under(UPRIGHT, pictures()), pictures(), atol=1e-5)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turn_moves_pixels(degrees: int) -> None:
    assert torch.allclose(
        under(rotation(degrees), pictures()), torch.rot90(pictures(), degrees // 90, (2, 3)), atol=1e-5
    )


@pytest.mark.parametrize(("degrees", "axis"), [(0, 2), (90, 3)])
def test_a_mirror_flips(degrees: int, axis: int) -> None:
    assert torch.allclose(under(reflection(degrees), pictures()), pictures().flip(axis), atol=1e-5)


def test_matrices_are_orthogonal_and_say_whether_they_mirror() -> None:
    found = matrices((*SHOWN, HIDDEN))
    assert torch.allclose(found @ found.transpose(1, 2), torch.eye(2).expand(len(found), 2, 2), atol=1e-6)
    signs = [1.0 if one.name.startswith("turned") else -1.0 for one in (*SHOWN, HIDDEN)]
    assert torch.allclose(torch.linalg.det(found), torch.tensor(signs))


def test_nothing_shown_is_near_the_hidden_one() -> None:
    hidden, shown = matrices((HIDDEN,)), matrices(SHOWN)
    nearest = (shown - hidden).flatten(1).norm(dim=1).min()
    turn = (matrices((rotation(20),)) - matrices((UPRIGHT,))).norm()
    assert float(nearest) == pytest.approx(float(turn), rel=1e-5)


def test_shifts_and_zooms_stay_in_range() -> None:
    moved = transformed(pictures(), 1.1 * matrices((UPRIGHT,)).expand(5, 2, 2), torch.full((5, 2), 0.2))
    assert moved.min() >= -1
    assert moved.max() <= 1

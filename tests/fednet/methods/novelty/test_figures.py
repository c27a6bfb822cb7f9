"""Figures: that they are drawn, and from the right pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fednet.methods.novelty import figures
from fednet.methods.novelty.findings import DetectorScores
from fednet.methods.novelty.inference import ClassPrediction, NoveltyInference, Reconstructions

KNOWN = torch.tensor([[True, False], [False, True]]).repeat(4, 4)


def redrawn(level: float = 0.5, count: int = 6) -> Reconstructions:
    return Reconstructions(torch.full((count, 1, 8, 8), level), torch.stack([KNOWN] * count))


def test_a_picture_stands_beside_its_parts() -> None:
    image = torch.full((1, 8, 8), -1.0)
    redrawings = {
        "detector": {"a1": redrawn(), "a2": redrawn()},
        "own-detector": {"a1": redrawn(0.0), "a2": redrawn(-0.5)},
    }
    inference = NoveltyInference(image, ("a",), {}, ClassPrediction(0, 1.0), {}, {}, redrawings)
    pixels = figures.reconstruction_grid(inference)
    side = 64 + 1
    assert pixels.shape == (3 * side + 1, 7 * side + 1, 3)  # what the sites share draws the same, once
    tile = [pixels[1:side, 1 + k * side : side + k * side] for k in range(7)]
    assert tile[0].max() == 0
    assert sorted(np.unique(tile[1])) == [0, 128]
    assert {int(value) for k in (2, 3, 4, 5) for value in np.unique(tile[k])} == {191}
    assert np.unique(tile[6]).tolist() == [255]


def test_figures_are_written(tmp_path: Path) -> None:
    scores = {
        "one": DetectorScores((0.1, 0.2, 0.3), (0.25, 2.0), 1.0),
        "two": DetectorScores((0.0, 0.2), (0.2, 0.9), None),
    }
    figures.write_histograms(tmp_path / "a" / "scores.png", scores)
    figures.write_roc_curves(tmp_path / "roc.png", scores)
    parts = Reconstructions(torch.zeros(2, 1, 8, 8), torch.stack([KNOWN] * 2))
    rows = [("a label", torch.zeros(1, 8, 8), parts)] * 2
    figures.write_reconstructions(tmp_path / "pictures.png", rows)
    for file in ("a/scores.png", "roc.png", "pictures.png"):
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")

"""The figures of a run: scores, ROC curves, and pictures beside their reconstructions. Knows no site and no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray
from torch import Tensor

from fednet.images import Pixels, grid
from fednet.methods.novelty.findings import DetectorScores
from fednet.methods.novelty.inference import NoveltyInference, Reconstructions

DPI = 144
MAX_RECONSTRUCTIONS = 4
"""Reconstructions of a picture that are shown."""
RATIO_TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8)
"""Of scores in thresholds."""
INSIDE_COLOUR, OUTSIDE_COLOUR, THRESHOLD_COLOUR = "#2a6fbb", "#d1592a", "#444444"
"""Colours of what belongs, of what does not, and of a threshold."""


def write_histograms(path: Path, scores: Mapping[str, DetectorScores]) -> None:
    """For each detector the scores of what belongs and of what does not, on a logarithmic axis, and its threshold."""
    plot = Plot(figsize=(3.4 * len(scores), 3.2), layout="constrained")
    every = plot.subplots(1, len(scores), squeeze=False)[0]
    for axes, (name, one) in zip(every, scores.items(), strict=True):
        inside, outside, limit = one.inside, one.outside, one.threshold
        both = torch.tensor([*inside, *outside]).clamp(min=1e-6)
        edges = torch.logspace(float(both.log10().min()) - 0.02, float(both.log10().max()) + 0.02, 25).tolist()
        axes.hist(inside, edges, alpha=0.7, color=INSIDE_COLOUR, label="belongs")
        axes.hist(outside, edges, alpha=0.6, color=OUTSIDE_COLOUR, label="does not")
        if limit is not None:
            axes.axvline(limit, color=THRESHOLD_COLOUR, linewidth=1.2, linestyle="--", label="threshold")
        axes.set(xscale="log", xlabel="score in thresholds", title=name)
        axes.xaxis.set_major_locator(FixedLocator(RATIO_TICKS))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.title.set_fontsize(10)
    every[0].set_ylabel("pictures")
    _save_plot(plot, every[0], path)


def write_roc_curves(path: Path, scores: Mapping[str, DetectorScores]) -> None:
    """True-positive over false-positive rate of "novel", with the thresholds as dots."""
    plot = Plot(figsize=(5.2, 4.6), layout="constrained")
    axes = plot.subplots()
    for name, one in scores.items():
        low, high, limit = torch.tensor(one.inside), torch.tensor(one.outside), one.threshold
        cuts = torch.unique(torch.cat([low, high])).flip(0)
        false = [0.0, *[float((low >= cut).double().mean()) for cut in cuts]]
        true = [0.0, *[float((high >= cut).double().mean()) for cut in cuts]]
        (line,) = axes.plot(false, true, label=name, linewidth=1.5)
        if limit is not None:
            at = float((low > limit).double().mean()), float((high > limit).double().mean())
            axes.plot(*at, marker="o", color=line.get_color(), markersize=6)
    axes.plot([0, 1], [0, 1], color=THRESHOLD_COLOUR, linewidth=0.8, linestyle=":")
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _save_plot(plot, axes, path, below=True)


def write_reconstructions(path: Path, rows: Sequence[tuple[str, Tensor, Reconstructions]]) -> None:
    """A row a picture: original, masked, some reconstructions, and where it differs from them.

    Args:
        path: of the file.
        rows: a label, the picture (c, h, w), and its reconstructions.
    """
    heads = ["original", "masked", *[f"drawn {k + 1}" for k in range(_count(rows[0][2]))], "difference"]
    plot = Plot(figsize=(1.0 * len(heads) + 2.4, 1.08 * len(rows) + 0.3), layout="constrained")
    every = plot.subplots(len(rows), len(heads), squeeze=False)
    for line, (text, image, drawn) in zip(every, rows, strict=True):
        for axes, tile in zip(line, _tiles(image, drawn), strict=True):
            axes.imshow(_visible(tile), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8, labelpad=6)
    for axes, head in zip(every[0], heads, strict=True):
        axes.set_title(head, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=DPI)


def reconstruction_grid(inference: NoveltyInference) -> Pixels:
    """One picture beside its reconstructions, a row a detector of a site, as uint8 (height, width, 3).

    Columns: original, masked, reconstructions, difference. The shared detector reconstructs alike at all
    sites, which is one row.
    """
    rows: list[Reconstructions] = []
    for drawn in (drawn for sites in inference.reconstructions.values() for drawn in sites.values()):
        if not any(torch.equal(drawn.pictures, row.pictures) for row in rows):
            rows.append(drawn)
    tiles = [tile for drawn in rows for tile in _tiles(inference.image, drawn)]
    return grid(torch.stack(tiles), _count(rows[0]) + 3, scale=max(1, 64 // max(inference.image.shape[1:])))


def _tiles(image: Tensor, drawn: Reconstructions) -> list[Tensor]:
    """Original, masked (grey where unknown), reconstructions, mean difference (white: 1); each (c, h, w) in [-1, 1]."""
    masked = torch.where(drawn.known[0], image, torch.zeros(()))
    difference = (drawn.pictures - image).abs().mean(0)
    return [image, masked, *drawn.pictures[: _count(drawn)], (2 * difference - 1).clamp(-1, 1)]


def _count(drawn: Reconstructions) -> int:
    return min(MAX_RECONSTRUCTIONS, len(drawn.pictures))


def _visible(tile: Tensor) -> NDArray[np.float32]:
    """(c, h, w) in [-1, 1] as matplotlib shows it: (h, w) or (h, w, 3) in [0, 1]."""
    shown = ((tile + 1) / 2).clamp(0, 1).numpy()
    return shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, 2)


def _save_plot(plot: Plot, axes: Axes, path: Path, *, below: bool = False) -> None:
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower right" if below else "best")
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=DPI)

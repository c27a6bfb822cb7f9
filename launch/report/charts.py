"""Line charts and lanes as SVG text, so that a report needs no script, no font and no second file. Pure.

Knows numbers and colours; nothing of runs. Colours: Okabe and Ito, "Color Universal Design" (2008), told apart by
colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#666666")

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 12, 44
_MAX_POINTS = 160
_SMALLEST = 1e-100

ChartPoint = tuple[float, float]


def colour(number: int) -> str:
    """The colour of the n-th series; they repeat after eight."""
    return PALETTE[number % len(PALETTE)]


def line_chart(series: Mapping[str, Sequence[ChartPoint]], across: str, title: str) -> str:
    """A chart of one line for each series over a common horizontal axis.

    Args:
        series: points (x, y) by name, in order of x; those that are not finite are left out.
        across: what the horizontal axis shows.
        title: read out to those who cannot see.
    """
    clean = {name: downsample([p for p in points if all(map(math.isfinite, p))]) for name, points in series.items()}
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        return ""
    xs, ys = zip(*(point for points in clean.values() for point in points), strict=True)
    x_ticks, y_ticks = ticks(min(xs), max(xs), 6), ticks(min(ys), max(ys), 5)
    if all(x == int(x) for x in xs):
        x_ticks = [tick for tick in x_ticks if tick == int(tick)]  # rounds and steps have no halves
    x_range, y_range = (min(xs), max(xs)), (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))

    def place(x: float, y: float) -> str:
        across_part = _share(x, x_range) * (_WIDTH - _LEFT - _RIGHT)
        return f"{_LEFT + across_part:.1f},{_TOP + (1 - _share(y, y_range)) * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    marks = [_y_mark(tick, place(x_range[0], tick)) for tick in y_ticks]
    marks += [_x_mark(tick, place(tick, y_range[0])) for tick in x_ticks if x_range[0] <= tick <= x_range[1]]
    drawn = [
        f'<polyline points="{" ".join(place(x, y) for x, y in points)}" fill="none" stroke="{colour(number)}"'
        f' stroke-width="1.8" stroke-linejoin="round"><title>{escape(name)}</title></polyline>'
        for number, (name, points) in enumerate(clean.items())
    ]
    axis = f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">{escape(across)}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(marks)}{axis}{''.join(drawn)}</svg>"
    )


def downsample(points: Sequence[ChartPoint], most: int = _MAX_POINTS) -> list[ChartPoint]:
    """At most `most` points, each the mean of its neighbours where there were more."""
    if len(points) <= most:
        return list(points)
    edges = [round(part * len(points) / most) for part in range(most + 1)]
    groups = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that cover low to high: multiples of 1, 2 or 5 times a power of ten, about `most` of them."""
    size = max(abs(low), abs(high))
    span = next((width for width in (high - low, size) if width > max(1e-9 * size, _SMALLEST)), 1.0)
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _share(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / ((span[1] - span[0]) or 1.0)


def _y_mark(tick: float, place: str) -> str:
    _, y = place.split(",")
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{float(y) + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'


def _x_mark(tick: float, place: str) -> str:
    x, y = place.split(",")
    return f'<text x="{x}" y="{float(y) + 18:.1f}" text-anchor="middle">{tick:.4g}</text>'

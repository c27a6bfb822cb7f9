"""The command `fednet sample`: asks a live cluster of score inference for samples, and writes them as one image.

Knows the method's request and the terminal; what can be drawn, the method decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from launch.by_hand import Place
from launch.visit import to_write, visit

METHOD = "score-inference"


def draw(place: Place, labels: tuple[int, ...] | None, output: Path, console: Console, **wish: Any) -> None:
    """Asks a cluster for samples, as a guest, and writes them as one image.

    Args:
        place: where the guest stands, and whom it joins through.
        labels: which labels, or None.
        output: the image to write.
        console: hears of the progress and of who contributed.
        wish: the rest of the method's `Request`: count, rule, sampler, guidance, seed.

    Raises:
        ConfigError: the address is not loopback, or the image's folder does not exist.
        NodeError: nobody answers, or the cluster runs another method.
        MethodError: the cluster cannot draw what was asked for.
        RunError: it was interrupted.
    """
    written = to_write(output, "--output")
    from fednet.images import save_png  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.score_inference.request import Request, sample  # noqa: PLC0415

    request = Request(labels, **wish)
    drawing = visit(place, METHOD, lambda network, watch: sample(network, request, watch), console)
    save_png(written, drawing.picture)
    for note in drawing.notes:
        console.print(note, style="dim", highlight=False)
    console.print(f"wrote {written}", markup=False, highlight=False, soft_wrap=True)

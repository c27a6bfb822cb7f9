"""The command `fednet sample`: asks a live cluster, or a checkpoint, for samples, and writes them as files.

What can be drawn and how, each method decides; which method a cluster runs, its cards say. Knows the methods that can
draw, the terminal, and where pictures go: one grid where a picture is named, or a file each in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from launch.commands.node import EndpointOptions
from launch.commands.visit import require_writable, run_as_guest
from launch.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from fednet.api import Network, Progress
    from fednet.reporting.samples import SampleBatch

GRID_SUFFIXES = {".png"}
"""Endings of a path that ask for one picture; any other path is a folder."""


def sample_cluster(place: EndpointOptions, output: Path, console: Console, **wish: Any) -> None:
    """Asks a cluster for samples, as a guest, and writes them.

    Args:
        place: where the guest stands, and whom it joins through.
        output: the picture or the folder to write.
        console: hears of the progress and of who contributed.
        wish: what is wished for: labels, count, seed; for score inference also rule, sampler and guidance. What is
            None is left to the method.

    Raises:
        ConfigError: the address is not loopback, the output cannot be written, or the method has no such wish.
        NodeError: nobody answers, or the cluster runs a method that draws nothing.
        MethodError: the cluster cannot draw what was asked for.
        RunError: it was interrupted.
    """
    written = _require_writable(output)
    from nodes.errors import MethodMismatch  # noqa: PLC0415 - imports torch

    given = {name: value for name, value in wish.items() if value is not None}
    usual, *others = REQUEST_MAKERS
    try:
        drawn = run_as_guest(place, usual, REQUEST_MAKERS[usual](given), console)
    except MethodMismatch as error:
        runs = set(error.methods.values())
        known = [method for method in others if {method} == runs]
        if not known:
            raise
        drawn = run_as_guest(place, known[0], REQUEST_MAKERS[known[0]](given), console)
    _write(drawn, written, console)


def sample_checkpoint(checkpoint: Path, output: Path, console: Console, **wish: Any) -> None:
    """Draws from a checkpoint, without a cluster, and writes the samples.

    Raises:
        ConfigError: the checkpoint is no file, the output cannot be written, or a checkpoint has no such wish.
        MethodError: it is no checkpoint that can draw, or it cannot draw what was asked for.
    """
    if not checkpoint.is_file():
        raise ConfigError(ConfigProblem(f"--checkpoint {checkpoint}", "an existing file"))
    written = _require_writable(output)
    given = _require_plain_request({name: value for name, value in wish.items() if value is not None}, "A checkpoint")
    from fednet.methods.fedbagan.sampling import FedBaganSampleRequest, sample_from  # noqa: PLC0415 - imports torch

    _write(sample_from(checkpoint, FedBaganSampleRequest(**given)), written, console)


def _score_request(wish: Mapping[str, Any]) -> Callable[[Network, Progress], SampleBatch]:
    from fednet.methods.score_inference.sampling import ScoreSampleRequest, sample  # noqa: PLC0415 - imports torch

    request = ScoreSampleRequest(**wish)
    return lambda network, progress: sample(network, request, progress)


def _balancing_request(wish: Mapping[str, Any]) -> Callable[[Network, Progress], SampleBatch]:
    given = _require_plain_request(wish, "The method fedbagan")
    from fednet.methods.fedbagan.sampling import FedBaganSampleRequest, sample  # noqa: PLC0415 - imports torch

    request = FedBaganSampleRequest(**given)
    return lambda network, progress: sample(network, request, progress)


REQUEST_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Callable[[Network, Progress], SampleBatch]]] = {
    "score-inference": _score_request,
    "fedbagan": _balancing_request,
}
"""By method, what turns a wish into a visitor's job; the first is asked for first."""


def _require_plain_request(wish: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """A wish that names nothing but labels, count and seed.

    Raises:
        ConfigError: it names something that only score inference has.
    """
    if odd := sorted(set(wish) - {"labels", "count", "seed"}):
        hint = f"{whose} draws in one step and has no {', '.join(odd)}: leave it out."
        raise ConfigError(ConfigProblem(f"--{odd[0]}", hint=hint))
    return dict(wish)


def _require_writable(output: Path) -> Path:
    """A picture in a folder that exists, or a folder that is new or empty.

    Raises:
        ConfigError: it is neither.
    """
    if output.suffix.lower() in GRID_SUFFIXES:
        return require_writable(output, "--output")
    if not output.parent.is_dir() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise ConfigError(
            ConfigProblem(f"--output {output}", "a .png, or a folder that is new or empty in one that exists")
        )
    return output


def _write(drawn: SampleBatch, output: Path, console: Console) -> None:
    """One grid; or a file each, in a folder a label where there are labels, as `fednet fid` reads them."""
    from fednet.images import by_label, pixels, save_png  # noqa: PLC0415 - imports torch

    for note in drawn.notes:
        console.print(note, style="dim", highlight=False)
    if output.suffix.lower() in GRID_SUFFIXES:
        save_png(output, by_label(drawn.images, drawn.labels))
    else:
        labels = [""] * len(drawn.images) if drawn.labels is None else [str(label) for label in drawn.labels.tolist()]
        for index, (image, label) in enumerate(zip(drawn.images, labels, strict=True)):
            save_png(output / label / f"{index:05d}.png", pixels(image))
    console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)

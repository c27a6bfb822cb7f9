"""The command `fednet sample`: asks a live cluster, or a checkpoint, for samples and writes them as images.

Which method a cluster runs, its capabilities say; how samples are drawn, the method's `drawer` knows. Here is where
they go: one grid where a .png is named, else a folder with a file each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.commands.methods import find_method
from launch.commands.options import LOOPBACK, GuestKeyOption, InsecureOption, ListenOption
from launch.errors import ConfigError, ConfigProblem
from launch.output import open_console

if TYPE_CHECKING:
    from rich.console import Console

    from fednet.api import Progress
    from fednet.methods.contract import Drawer
    from fednet.methods.sample_request import SampleRequest
    from fednet.reporting.samples import SampleBatch
    from launch.run.endpoint import EndpointOptions
    from nodes.driver import BlockingNetwork

GRID_SUFFIXES = {".png"}
OTHER_SUFFIXES = {
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".npy",
    ".npz",
    ".pdf",
    ".pt",
    ".safetensors",
    ".svg",
    ".tif",
    ".tiff",
    ".txt",
    ".webp",
}
"""No names of folders, whatever else they were meant to be."""
"""Endings of a path that ask for one image of all samples; any other path is a folder."""


def sample(
    *,
    join: Annotated[
        list[str] | None,
        typer.Option("--join", metavar="ADDRESS", help="A client of a live cluster; with keys NAME@ADDRESS."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Instead: a generator that a run has left.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Classes, e.g. cat,dog or 0-9; default: all, if there are any.")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Samples of each label; without labels, in all.")] = 10,
    seed: Annotated[int, typer.Option(help="The seed of the noise.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, e.g. rule=mean.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The method; default: what the cluster or the checkpoint names."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .png for one grid, or a folder.")] = Path(
        "grid.png"
    ),
    listen: ListenOption = LOOPBACK,
    key: GuestKeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Draws samples from a live cluster or from a checkpoint, and writes them as images."""
    if (join is None) == (checkpoint is None):
        given = "neither" if join is None else "both"
        raise ConfigError(ConfigProblem("fednet sample", "either --join ADDRESS or --checkpoint FILE", given))
    from fednet.data.label_ranges import parse_label_ranges  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.endpoint import EndpointOptions  # noqa: PLC0415

    values = {"labels": None if labels is None else parse_label_ranges(labels), "count": count, "seed": seed}
    if checkpoint is not None:
        sample_checkpoint(checkpoint, output, open_console(), values, settings=settings or (), method=method)
    else:
        endpoint = EndpointOptions(listen, join=tuple(join or ()), key=key, insecure=insecure)
        sample_cluster(endpoint, output, open_console(), values, settings=settings or (), method=method)


def sample_cluster(
    endpoint: EndpointOptions,
    output: Path,
    console: Console,
    values: dict[str, Any],
    *,
    settings: Sequence[str] = (),
    method: str | None = None,
) -> None:
    """Asks a cluster for samples, as a guest, and writes them.

    Args:
        endpoint: this guest's addresses and keys.
        output: the image or the folder to write.
        console: shows the progress and who contributed.
        values: labels, count and seed.
        settings: the method's own, `KEY=VALUE`.
        method: the method that the cluster must run; None for any that is registered here.

    Raises:
        ConfigError: an address, the output or a setting cannot be used, or the method cannot draw.
        NodeError: no client answers, or the cluster runs another method.
        MethodError: the cluster cannot draw this.
        StopSignal: it was interrupted.
    """
    written = _require_writable(output)
    from launch.run.guest import run_as_guest  # noqa: PLC0415 - help texts need not wait for it

    def job(network: BlockingNetwork, progress: Progress) -> SampleBatch:
        drawer = _drawer(method or _cluster_method(network.methods))
        return drawer.draw(network, _request(drawer, values, settings), progress)

    _write(run_as_guest(endpoint, method or "", job, console), written, console)


def sample_checkpoint(
    checkpoint: Path,
    output: Path,
    console: Console,
    values: dict[str, Any],
    *,
    settings: Sequence[str] = (),
    method: str | None = None,
) -> None:
    """Draws from a checkpoint, without a cluster, and writes the samples.

    Raises:
        ConfigError: the checkpoint, the output or a setting cannot be used, or the method cannot draw from a file.
        MethodError: it cannot draw this.
    """
    if not checkpoint.is_file():
        raise ConfigError(ConfigProblem(f"--checkpoint {checkpoint}", "an existing file"))
    written = _require_writable(output)
    name = method or _checkpoint_method(checkpoint)
    drawer = _drawer(name)
    if drawer.from_checkpoint is None:
        raise ConfigError(
            ConfigProblem(f"--checkpoint {checkpoint}", hint=f"The method {name} draws from clusters only.")
        )
    _write(drawer.from_checkpoint(checkpoint, _request(drawer, values, settings)), written, console)


def _cluster_method(methods: Mapping[str, str]) -> str:
    """The one method that all clients run; a module is imported only where the operator names it.

    Raises:
        ConfigError: they run several, or one that is not registered here.
    """
    from fednet.methods import registry  # noqa: PLC0415 - help texts need not wait for it

    names = sorted(set(methods.values()))
    if len(names) == 1 and names[0] in registry.names():
        return names[0]
    running = "; ".join(f"{client} runs {name or 'none that it names'}" for client, name in sorted(methods.items()))
    raise ConfigError(ConfigProblem("--method", "the method's module, since it is not registered here", running))


def _checkpoint_method(path: Path) -> str:
    """The registered method that a checkpoint's metadata names.

    Raises:
        ConfigError: it names none.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - help texts need not wait for these

    from fednet.methods import registry  # noqa: PLC0415

    try:
        with safe_open(path, framework="np") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ConfigError(ConfigProblem(f"--checkpoint {path}", "a safetensors file", str(error))) from error
    drawers = {name: registry.find(name).drawer for name in registry.names()}
    drawing = [name for name, drawer in drawers.items() if drawer and drawer.from_checkpoint]
    known = sorted(set(metadata) & set(drawing))
    if len(known) != 1:
        expected = f"a checkpoint of one of the methods {', '.join(drawing)}, or --method with its method"
        raise ConfigError(ConfigProblem(f"--checkpoint {path}", expected, _content(metadata, drawers)))
    return known[0]


def _content(metadata: Mapping[str, str], methods: Iterable[str]) -> str:
    """What a safetensors file from which nothing can be drawn is instead, as its metadata say."""
    if owners := sorted(set(metadata) & set(methods)):
        return f"a file of the method {owners[0]}"
    return "samples, which `fednet fid` compares" if "classes" in metadata else "a file that names no method"


def _drawer(name: str) -> Drawer:
    drawer = find_method(name).drawer
    if drawer is None:
        raise ConfigError(ConfigProblem("fednet sample", hint=f"The method {name} has no samples to draw."))
    return drawer


def _request(drawer: Drawer, values: dict[str, Any], settings: Sequence[str]) -> SampleRequest:
    """A request of the method's own type.

    Raises:
        ConfigError: a setting is unknown or malformed.
    """
    from launch.config.document import YamlDocument, apply_override  # noqa: PLC0415 - help texts need not wait for them
    from launch.config.validation import validate_model  # noqa: PLC0415

    document = YamlDocument("fednet sample", values, {})
    for setting in settings:
        document = apply_override(document, setting)
    request, problems = validate_model(drawer.request, document.values, document)
    if request is None:
        raise ConfigError(*problems)
    return request


def _require_writable(output: Path) -> Path:
    """An image in a folder that exists, or a folder that is new or empty.

    Raises:
        UsageError, ConfigError: it is neither.
    """
    from fednet.files import require_writable  # noqa: PLC0415 - help texts need not wait for it

    if output.suffix.lower() in GRID_SUFFIXES:
        return require_writable(output, "--output")
    other_file = output.suffix.lower() in OTHER_SUFFIXES and not output.is_dir()
    if other_file or not output.parent.is_dir() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        expected = "a .png, or a folder that is new or empty in one that exists"
        raise ConfigError(ConfigProblem(f"--output {output}", expected))
    return output


def _write(samples: SampleBatch, output: Path, console: Console) -> None:
    """One grid; or a file each, in a folder for each label if there are labels. Beside them the tensors."""
    from fednet.images import by_label, pixels, save_png  # noqa: PLC0415 - imports torch
    from fednet.reporting.samples import SAMPLES_FILE, write_samples  # noqa: PLC0415

    for note in samples.notes:
        console.print(note, style="dim", highlight=False)
    if output.suffix.lower() in GRID_SUFFIXES:
        save_png(output, by_label(samples.images, samples.labels))
        tensors = output.with_suffix(".safetensors")
    else:
        tensors = output / SAMPLES_FILE
        for index, (image, folder) in enumerate(zip(samples.images, _folders(samples), strict=True)):
            save_png(output / folder / f"{index:05d}.png", pixels(image))
    write_samples(tensors, samples)
    console.print(f"wrote {output} and {tensors}", markup=False, highlight=False, soft_wrap=True)


def _folders(samples: SampleBatch) -> list[str]:
    """The folder of each sample: called by its class, by a number where that has no name; none without labels."""
    from fednet.data.classes import folder_names  # noqa: PLC0415 - help texts need not wait for it

    if samples.labels is None:
        return [""] * len(samples.images)
    names = folder_names(samples.classes)
    return [names[label] if names else str(label) for label in samples.labels.tolist()]

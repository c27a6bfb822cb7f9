"""The command `fednet fid`: two folders of images, compared in the feature space of a data set's judge.

Reads arguments and prints; `fednet.metrics` computes the Frechet distance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.errors import ConfigError, ConfigProblem
from launch.output import open_console, open_table

if TYPE_CHECKING:
    from rich.console import Console


def fid(
    a: Annotated[
        Path,
        typer.Argument(help="A folder of images, flat or a folder per class, or samples.safetensors."),
    ],
    b: Annotated[Path, typer.Argument(help="The folder to compare it with.")],
    data: Annotated[str, typer.Option(help="The data set whose judge gives the feature space.")] = "digits",
    root: Annotated[Path | None, typer.Option(help="The folder that holds it; digits need none.")] = None,
    seed: Annotated[int, typer.Option(help="The judge's seed.")] = 0,
) -> None:
    """Compares two folders of images by Frechet distance, overall and per class."""
    compare_folders(a, b, data, root, seed=seed, console=open_console())


def compare_folders(a: Path, b: Path, data: str, root: Path | None, *, seed: int, console: Console) -> None:
    """Trains the judge and prints the distances, overall and per class.

    Raises:
        ConfigError: the data set is unknown, or a folder does not exist.
        MethodError: the images cannot be compared.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - help texts need not wait for these

    from fednet.data.config import DataConfig  # noqa: PLC0415
    from fednet.data.datasets import load  # noqa: PLC0415 - imports torch, as the next
    from fednet.metrics import folders, judge  # noqa: PLC0415

    for folder in (a, b):
        if not folder.is_dir() and not (folder.suffix == ".safetensors" and folder.is_file()):
            raise ConfigError(ConfigProblem(str(folder), "a folder of images, or a samples.safetensors"))
    try:
        config = DataConfig.model_validate({"name": data, "root": root})
    except ValidationError as error:
        hint = "; ".join(detail["msg"] for detail in error.errors(include_url=False))
        raise ConfigError(ConfigProblem("--data", hint=hint)) from error
    with console.status(f"training the judge of {data}"):
        trained = judge.train_judge(load(config).judge, seed=seed)
        comparison = folders.compare(a, b, trained)
    table = open_table("class", "Frechet distance")
    table.add_row("all", f"{comparison.frechet:.3f}", style="bold")
    for name, distance in sorted(comparison.by_class.items()):
        table.add_row(name, f"{distance:.3f}")
    for name, reason in sorted(comparison.left_out.items()):
        table.add_row(name, f"– ({reason})", style="dim")
    console.print(f"{comparison.counts[0]} images in {a}, {comparison.counts[1]} in {b}", highlight=False)
    console.print(table)

"""The command `fednet fid`: two folders of images, compared in the feature space of a data set's judge.

Reads arguments and prints; what a Frechet distance is, `fednet.metrics` knows.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from launch.errors import ConfigError, ConfigProblem


def compare_folders(a: Path, b: Path, data: str, root: Path | None, *, seed: int, console: Console) -> None:
    """Trains the judge and prints the distances, overall and per class.

    Raises:
        ConfigError: the data set is not one of those there are, or a folder does not exist.
        MethodError: the images cannot be compared.
    """
    from fednet.data.config import DataConfig  # noqa: PLC0415 - imports torch, as the next two
    from fednet.data.datasets import load  # noqa: PLC0415
    from fednet.metrics import folders, judge  # noqa: PLC0415

    for folder in (a, b):
        if not folder.is_dir():
            raise ConfigError(ConfigProblem(str(folder), "a folder of images"))
    try:
        config = DataConfig.model_validate({"name": data, "root": root})
    except ValidationError as error:
        said = "; ".join(detail["msg"] for detail in error.errors(include_url=False))
        raise ConfigError(ConfigProblem("--data", hint=said)) from error
    with console.status(f"training the judge of {data}"):
        trained = judge.train_judge(load(config).judge, seed=seed)
        found = folders.compare(a, b, trained)
    table = Table("class", "Frechet distance", box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_row("all", f"{found.frechet:.3f}", style="bold")
    for name, distance in sorted(found.by_class.items()):
        table.add_row(name, f"{distance:.3f}")
    for name, reason in sorted(found.left_out.items()):
        table.add_row(name, f"– ({reason})", style="dim")
    console.print(f"{found.counts[0]} images in {a}, {found.counts[1]} in {b}", highlight=False)
    console.print(table)

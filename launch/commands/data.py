"""The command `fednet data`: what a folder of images or another data set holds, and how it would be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.errors import ConfigError
from launch.output import open_console

if TYPE_CHECKING:
    from rich.console import Console

    from fednet.data.config import DataConfig
    from fednet.data.survey import ListedImages

COLUMNS = 10
"""Images of a class in the grid."""
MAX_CLASSES = 40
"""Rows of the grid; of more classes the first ones."""


def data(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder of images, one folder per class, or what name=... says."),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A key of `data`, e.g. size=32 or fit=pad.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a .png with images of each class.")
    ] = None,
) -> None:
    """Reads every image of a folder, and prints classes, formats, sizes, conversions and what is refused."""
    inspect_folder(folder, settings or (), output, open_console())


def inspect_folder(folder: Path, settings: Sequence[str], output: Path | None, console: Console) -> None:
    """Prints what a folder holds, and writes a grid of it.

    Raises:
        ConfigError: a setting is unknown or malformed.
        UsageError: the grid cannot be written.
        DataError: the folder is missing or holds no images, or files of it cannot be read.
    """
    from fednet.data.survey import survey  # noqa: PLC0415 - help texts need not wait for these
    from fednet.errors import DataError  # noqa: PLC0415
    from fednet.files import require_writable  # noqa: PLC0415
    from launch.report import data_survey  # noqa: PLC0415

    config = _config(folder, settings)
    if output is not None:
        require_writable(output, "--output", ".png")
    with console.status(f"reading {folder}"):
        found = survey(config)
    data_survey.show(console, config, found)
    if output is not None and found.files is not None and found.total:
        _write_grid(found.files, config, output)
        console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    if reason := data_survey.refused(config, found):
        raise DataError(reason)


def _config(folder: Path, settings: Sequence[str]) -> DataConfig:
    """The folder as a data set.

    Raises:
        ConfigError: a setting is unknown or malformed.
    """
    from fednet.data.config import DataConfig  # noqa: PLC0415 - help texts need not wait for these
    from launch.config.document import YamlDocument, apply_override  # noqa: PLC0415
    from launch.config.validation import validate_model  # noqa: PLC0415

    document = YamlDocument("fednet data", {"name": "folder", "root": str(folder)}, {})
    for setting in settings:
        document = apply_override(document, setting)
    config, problems = validate_model(DataConfig, document.values, document)
    if config is None:
        raise ConfigError(*problems)
    return config


def _write_grid(files: ListedImages, config: DataConfig, output: Path) -> None:
    from fednet.data.first_images import first_images  # noqa: PLC0415 - help texts need not wait for these
    from fednet.images import grid, save_png  # noqa: PLC0415

    save_png(output, grid(first_images(files, config, MAX_CLASSES, COLUMNS), COLUMNS))

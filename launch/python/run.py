"""The results that a run has left in its folder, as Python values; each is read when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.reporting.summary import Cell, Summary, SummarySection, read_summary
from launch.config.document import parse
from launch.errors import ConfigError, ConfigProblem, did_you_mean
from launch.run.events import LauncherEvent, read_events
from launch.run.folder import CONFIG, EVENTS, REPORT

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


class Run:
    """The results of a run.

    Args:
        folder: the run's folder, `runs/<name>`; the run may still be going on.

    Raises:
        ConfigError: it is not the folder of a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / CONFIG).is_file():
            hint = "`fednet launch` and `fednet.launch` leave one below `out`, under the run's name."
            raise ConfigError(ConfigProblem(str(folder), f"the folder of a run, with a {CONFIG}", hint=hint))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, every default written out."""
        path = self.folder / CONFIG
        return parse(path.read_text("utf-8"), str(path)).values

    @property
    def summary(self) -> Summary:
        """The tables, notes, figures and charts of the report; an empty one before there are results."""
        return read_summary(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """The method's own numbers; empty before there are results."""
        path = self.folder / "metrics.json"
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}

    @property
    def events(self) -> list[LauncherEvent]:
        """What happened to the nodes, in order."""
        return list(read_events(self.folder / EVENTS))

    @property
    def report(self) -> Path:
        """The report's file, one HTML page."""
        return self.folder / REPORT

    @property
    def sections(self) -> tuple[str, ...]:
        """The titles of the summary's sections that have a table."""
        return tuple(section.title for section in self._tables())

    def rows(self, section: str | None = None) -> list[dict[str, Cell]]:
        """The table of a section as one mapping a row, for example for `pandas.DataFrame(run.rows())`.

        Args:
            section: its title; the first one that has a table if none is given.

        Raises:
            ConfigError: there is no table of this title.
        """
        tables = {section.title: section.table for section in self._tables()}
        title = next(iter(tables), "") if section is None else section
        table = tables.get(title)
        if table is None:
            raise self._missing("section", title, list(tables))
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]

    @property
    def arms(self) -> tuple[str, ...]:
        """What there are samples of, in alphabetical order: arms, or other names that the method gives."""
        return tuple(self._sample_files())

    def samples(self, arm: str | None = None) -> Tensor:
        """The images of an arm: float32 (n, channels, height, width) in [-1, 1].

        Args:
            arm: its name; may be left out where there is only one.

        Raises:
            ConfigError: there are no samples of it.
        """
        return self.sample_tensors(arm)["images"]

    def sample_tensors(self, arm: str | None = None) -> dict[str, Tensor]:
        """Everything that was kept of an arm's samples: `images`, and where the method knows them `labels` and more.

        Raises:
            ConfigError: there are no samples of it.
        """
        files = self._sample_files()
        name = next(iter(files)) if arm is None and len(files) == 1 else arm or ""
        if name not in files:
            raise self._missing("arm", name, list(files))
        return _load(files[name])

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The checkpoint files by name: the path below `checkpoints/` without its suffix."""
        folder = self.folder / "checkpoints"
        return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob(f"*{SUFFIX}"))}

    def checkpoint(self, name: str) -> dict[str, Tensor]:
        """The state in a checkpoint, by parameter name, on the CPU.

        Raises:
            ConfigError: there is no checkpoint of this name.
        """
        checkpoints = self.checkpoints
        if name not in checkpoints:
            raise self._missing("checkpoint", name, list(checkpoints))
        return _load(checkpoints[name])

    def _tables(self) -> Iterator[SummarySection]:
        return (section for section in self.summary.sections if section.table is not None)

    def _sample_files(self) -> dict[str, Path]:
        folder = self.folder / "samples"
        files = {path.parent.name: path for path in folder.glob(f"*/samples{SUFFIX}")}
        files |= {path.stem: path for path in folder.glob(f"*{SUFFIX}")}
        return dict(sorted(files.items()))

    def _missing(self, what: str, name: str, known: list[str]) -> ConfigError:
        expected = f"one of {', '.join(known)}" if known else f"a run that has left a {what}"
        return ConfigError(
            ConfigProblem(str(self.folder), expected, f"{what} {name!r}", hint=did_you_mean(name, known))
        )


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch, which summaries need not wait for

    return dict(load_file(path))

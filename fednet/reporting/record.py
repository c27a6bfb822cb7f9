"""A node's scalars, images and tables, for TensorBoard and as JSON lines and CSV.

They are in <run>/tensorboard/<node>/: TensorBoard's event files, the same scalars as JSON lines in scalars.jsonl, and
one CSV file per table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from fednet.errors import MeasureError
from fednet.files import LineFile, write_whole
from fednet.images import Pixels
from fednet.reporting.json_text import to_json

Cell = float | int | bool | str | None
"""Type of a cell of a table."""


def write_json(path: Path, value: object) -> None:
    """Writes a value as indented JSON (`fednet.reporting.json_text`), atomically; creates missing folders.

    Raises:
        MeasureError: it holds a type that JSON does not support.
    """
    try:
        text = to_json(value, indent=2)
    except TypeError as error:
        raise MeasureError(f"cannot write {path} as JSON: {error}") from error
    write_whole(path, (text + "\n").encode(), shared=True)


class RunRecord:
    """A node's scalars, images and tables: `with RunRecord(run_folder, node_name) as record: ...`.

    A second record of the same node adds to the first, as TensorBoard does. Not for several threads.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / "tensorboard" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - of the extras, not of the core

        self._events = SummaryWriter(str(self.folder))
        self._lines = LineFile(self.folder / "scalars.jsonl", shared=True)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Records one number, which may not be finite."""
        self._events.add_scalar(tag, value, step)
        self._lines.append(to_json({"tag": tag, "step": step, "value": value}))

    def image(self, tag: str, pixels: Pixels, step: int = 0) -> None:
        """Records one uint8 (h, w, 3) image."""
        self._events.add_image(tag, pixels, step, dataformats="HWC")

    def table(self, name: str, rows: Sequence[Mapping[str, Cell]]) -> None:
        """Writes rows as <name>.csv, atomically; columns in order of first appearance. Of no rows it writes nothing."""
        if not rows:
            return
        columns = list(dict.fromkeys(column for row in rows for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.folder / f"{name}.csv", text.getvalue().encode(), shared=True)

    def close(self) -> None:
        """Flushes and closes the files; may be called twice."""
        self._events.close()
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

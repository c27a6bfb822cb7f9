"""What a node writes down while it works: numbers, pictures and tables, for TensorBoard and for plain eyes.

Everything of one node lies in <run>/tensorboard/<node>/: TensorBoard's event files, the same numbers as one JSON
object a line in scalars.jsonl, and a CSV file per table. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from fednet.errors import MeasureError
from fednet.files import write_whole
from fednet.images import Pixels

Cell = float | int | bool | str | None
"""What a cell of a table may be."""


def write_json(path: Path, value: object) -> None:
    """Writes a value as indented JSON, whole or not at all; makes the folders above it.

    Raises:
        MeasureError: it holds NaN or infinity, which JSON does not know, or something else that JSON does not know.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError) as error:
        raise MeasureError(f"cannot write {path} as JSON: {error}") from error
    write_whole(path, (text + "\n").encode())


class RunRecord:
    """A node's numbers, pictures and tables: `with RunRecord(run_folder, node_name) as record: ...`.

    A second record of the same node adds to the first, as TensorBoard does. Not for several threads.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / "tensorboard" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - of the extras, not of the core

        self._events = SummaryWriter(str(self.folder))
        self._lines = (self.folder / "scalars.jsonl").open("a", encoding="utf-8", buffering=1)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Notes one number; NaN and infinity stand as texts in scalars.jsonl, since JSON does not know them."""
        self._events.add_scalar(tag, value, step)
        written = value if math.isfinite(value) else str(value)
        self._lines.write(json.dumps({"tag": tag, "step": step, "value": written}) + "\n")

    def image(self, tag: str, pixels: Pixels, step: int = 0) -> None:
        """Notes one uint8 (h, w, 3) picture."""
        self._events.add_image(tag, pixels, step, dataformats="HWC")

    def table(self, name: str, rows: Sequence[Mapping[str, Cell]]) -> None:
        """Writes rows as <name>.csv, whole or not at all; columns in the order in which they first appear.

        Raises:
            MeasureError: there are no rows.
        """
        if not rows:
            raise MeasureError(f"table '{name}' has no rows")
        columns = list(dict.fromkeys(column for row in rows for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.folder / f"{name}.csv", text.getvalue().encode())

    def close(self) -> None:
        """Writes out what is still held back; may be called twice."""
        self._events.close()
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

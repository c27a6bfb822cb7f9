"""Lists the images that a table names: CSV or JSON lines with a path and, where there are, a label and a split.

Paths are relative to the folder of the data set and do not lead out of it, through links neither. Rows without a label
are images without a class, as those beside the folders of classes are. Reads no image.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fednet.data.config import DataConfig
from fednet.data.image_folder import root_of
from fednet.data.listing import ImageListing, ImageRef, class_name, split_listings
from fednet.errors import DataError
from fednet.text import plain_text

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON_LINES)
DELIMITERS = (",", ";", "\t")
IMAGE_COLUMNS = ("path", "file_name")
"""Where the path is looked for, if no column is named; `file_name` is that of Hugging Face's image folders."""
MAX_TABLE_BYTES = 1 << 28
"""Of a table, which is read whole: some millions of rows."""
Row = tuple[int, Mapping[str, Any]]
"""A line's number, from 1, and what it says."""


def table_listings(config: DataConfig) -> dict[str, ImageListing]:
    """The images of a table: `train` and `test` where the split column names both, else `all`.

    Raises:
        DataError: there is no such table, it is malformed, or a path leads out of the folder.
    """
    root = root_of(config)
    table = _table_file(root, config.file)
    rows = _rows(table)
    names = _columns(config, rows, table)
    parts = dict[str, list[tuple[ImageRef, str]]]()
    places = dict[Path, int]()
    inside = _inside(root)
    for number, row in rows:
        where = f"{table}, line {number}"
        path = inside(row.get(names["image"]), where)
        if places.setdefault(path, number) != number:
            raise DataError(f"{where}: {path} stands in line {places[path]} already: keep one of the two")
        split = _text(row.get(names["split"]), where).lower()
        parts.setdefault(split, []).append((path, class_name(_text(row.get(names["label"]), where))))
    return split_listings(parts, str(table))


def _table_file(root: Path, name: str | None) -> Path:
    """The table: the one that is named, or the only one of the folder."""
    if name is not None:
        return _inside(root)(name, "data.file")
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(tables) != 1:
        found = f"holds {', '.join(path.name for path in tables[:10])}" if tables else "holds none"
        raise DataError(
            f"data.file: expected one table ({', '.join(SUFFIXES)}) in {root}, which {found}: name the file"
        )
    return tables[0]


def _rows(table: Path) -> list[Row]:
    """Raises DataError: it cannot be read, is malformed, or holds no row."""
    try:
        if (size := table.stat().st_size) > MAX_TABLE_BYTES:
            raise ValueError(f"it has {size} bytes, more than {MAX_TABLE_BYTES}: part it into tables of their own")
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_json_rows(file) if table.suffix.lower() in JSON_LINES else _csv_rows(file))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        kind = "JSON lines, an object each" if table.suffix.lower() in JSON_LINES else "CSV with a line of column names"
        raise DataError(f"data.file: {table} cannot be read ({plain_text(str(error))}); expected {kind}") from error
    if not rows:
        raise DataError(f"data.file: {table} holds no row")
    return rows


def _csv_rows(file: Iterable[str]) -> Iterator[Row]:
    lines = iter(file)
    header = next(lines, "")
    delimiter = max(DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    if len(set(names)) != len(names):
        raise ValueError("two columns have the same name")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    for row in reader:
        if row and len(row) != len(names):
            raise ValueError(f"line {reader.line_num + 1} has {len(row)} values for {len(names)} columns")
        if row:
            yield reader.line_num + 1, dict(zip(names, row, strict=True))


def _json_rows(file: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
        yield number, row


def _columns(config: DataConfig, rows: list[Row], table: Path) -> dict[str, str]:
    """The names of the columns; a column that is named must be there, and that of the paths in any case."""
    there = set().union(*(row for _, row in rows))
    image = next((name for name in IMAGE_COLUMNS if name in there), IMAGE_COLUMNS[0])
    named = config.columns.model_dump(exclude_none=True)
    for key, name in {"image": image, **named}.items():
        if name not in there:
            found = ", ".join(sorted(map(plain_text, there))[:10])
            raise DataError(f"data.columns.{key}: {table} has no column {name!r}; it has {found}")
    return {"image": image, "label": "label", "split": "split", **named}


def _inside(root: Path) -> Callable[[object, str], Path]:
    """What gives the file of a path as it is written, and refuses one that does not lie below a folder."""
    real = root.resolve()

    def inside(text: object, where: str) -> Path:
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise DataError(f"{where}: expected a path below {root}, got {text!r}")
        try:
            within = (root / text).resolve().is_relative_to(real)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{where}: {text!r} cannot be looked at: {error}") from error
        if not within or Path(text).is_absolute() or ".." in Path(text).parts:
            raise DataError(f"{where}: {text!r} leads out of {root}: paths are relative to data.root and stay below it")
        return root / text

    return inside


def _text(value: object, where: str) -> str:
    """A label or a split as text; "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {value!r} is no label and no split: expected a text or a whole number")
    return str(value).strip()

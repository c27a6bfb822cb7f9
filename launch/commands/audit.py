"""The command `fednet audit`: verifies a site's trail and prints it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.output import open_console, open_table

if TYPE_CHECKING:
    from protocol.trail import TrailEntry

MAX_BYTES = 1 << 30


def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A site's trail: trail/NAME.jsonl in a run's folder.")],
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="NAME.pub", help="The site's public key, which signed it."),
    ] = None,
) -> None:
    """Verifies a site's trail and prints what it was ordered and asked, what it gave away, and at what epsilon."""
    from fednet.files import read_bounded  # noqa: PLC0415 - help texts need not wait for it, as the next
    from launch.errors import ConfigError, ConfigProblem  # noqa: PLC0415
    from protocol.errors import ProtocolError  # noqa: PLC0415
    from protocol.security.keys import MAX_KEY_TEXT_BYTES, read_public  # noqa: PLC0415
    from protocol.trail import read_trail  # noqa: PLC0415

    lines = read_bounded(file, MAX_BYTES).decode("utf-8", "replace").splitlines()
    try:
        verifier = None
        if key is not None:
            verifier = read_public(read_bounded(key, MAX_KEY_TEXT_BYTES)).verifier
        entries = list(read_trail(lines, verifier))
    except ProtocolError as error:
        raise ConfigError(ConfigProblem(str(file), "a site's trail that is whole", str(error))) from error
    console, table = open_console(), open_table("", "time (UTC)", "what", "")
    for entry in entries:
        when = datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(entry.number), when, entry.kind, shown(entry), style="red" if entry.kind == "warning" else "")
    console.print(table)
    signed = "signed by that key" if key else "signatures not checked: name the site's key with --key"
    head = entries[-1].hash if entries else "none"
    console.print(f"{len(entries)} entries, each follows the one before; {signed}; last hash {head}", soft_wrap=True)


def shown(entry: TrailEntry) -> str:
    """The details of an entry in one line."""
    from fednet.text import plain_json  # noqa: PLC0415 - as above

    parts = []
    for name, value in plain_json(entry.data).items():
        if name == "ledgers":
            value = {file: digest[:12] for file, digest in value.items()}  # noqa: PLW2901 - shorter
        elif name == "digest":
            value = str(value)[:12]  # noqa: PLW2901 - as above
        if value not in ({}, [], ""):
            parts.append(f"{name} {value}")
    return ", ".join(parts)

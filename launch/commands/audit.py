"""The command `fednet audit`: verifies a site's trail, prints it, and compares the site's ledgers with it."""

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
    ledgers: Annotated[
        Path | None,
        typer.Option("--ledgers", metavar="FOLDER", help="The site's ledgers; default: privacy/ in the run's folder."),
    ] = None,
) -> None:
    """Verifies a site's trail and prints what it was ordered and asked, what it gave away, and at what epsilon."""
    from fednet.files import read_bounded  # noqa: PLC0415 - help texts need not wait for it, as the next
    from launch.errors import ConfigError, ConfigProblem  # noqa: PLC0415
    from protocol.errors import ProtocolError  # noqa: PLC0415
    from protocol.security.keys import MAX_KEY_TEXT_BYTES, read_public  # noqa: PLC0415
    from protocol.trail import TRAIL_FOLDER, ledger_remarks, read_trail  # noqa: PLC0415

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
    in_run = file.absolute().parent.name == TRAIL_FOLDER  # else nobody knows where the sums are that were revealed
    if ledgers is None and not in_run:
        console.print("its ledgers are not looked at: this is no run's folder; name theirs with --ledgers")
    elif entries:
        noted = (
            {name: value for name, value in entry.ledgers.items() if in_run or "/" not in name} for entry in entries
        )
        remarks = ledger_remarks(noted, present_ledgers(entries[-1].node, file, ledgers))
        problems = [ConfigProblem(str(file), "the ledgers as the trail has them", remark) for remark in remarks]
        if problems:
            raise ConfigError(*problems)


def present_ledgers(site: str, trail: Path, ledgers: Path | None) -> dict[str, str]:
    """The hashes of a site's ledgers as they are now.

    Args:
        site: the site's name.
        trail: its trail, in the run's folder.
        ledgers: the folder of what it counts; None: that of the run.
    """
    from fednet.privacy.disclosures import LEDGER_FOLDER  # noqa: PLC0415 - as above
    from nodes.client import CLOSED_ROUNDS  # noqa: PLC0415
    from nodes.trail import REVEALED, ledger_hashes  # noqa: PLC0415

    run = trail.absolute().parent.parent
    revealed = (run / CLOSED_ROUNDS).glob(f"{site}-rounds-*/{REVEALED}")
    return ledger_hashes(site, ledgers or run / LEDGER_FOLDER, revealed)


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

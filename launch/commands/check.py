"""The commands that look before a run: `fednet check` at a configuration, `fednet doctor` at the machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from launch.commands.options import ConfigArgument, InsecureOption, OutOption, OverridesOption
from launch.output import open_console


def check(config: ConfigArgument, overrides: OverridesOption = None, insecure: InsecureOption = False) -> None:
    """Checks a configuration against this machine and prints what would be started."""
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for it

    loaded = load_config(config, overrides or ())
    from launch.run.devices import free_ports, read_inventory  # noqa: PLC0415 - nor a mistake in the file for these
    from launch.run.plan import make_plan  # noqa: PLC0415
    from launch.run.session import check_data  # noqa: PLC0415

    check_data(loaded)
    folder, sockets = Path("runs") / loaded.cluster.name, Path("sockets")
    planned = make_plan(loaded, read_inventory(), free_ports(), folder, sockets, insecure=insecure)
    table = Table("node", "role", "device", "threads", "listens on", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for spec in planned.nodes:
        table.add_row(spec.name, spec.role, spec.device, str(spec.threads), spec.listen)
    console = open_console()
    console.print(f"{config} is fine: method {loaded.cluster.method}, seed {loaded.cluster.seed}", highlight=False)
    console.print(table)


def doctor(
    config: ConfigArgument,
    overrides: OverridesOption = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The private key of the one node that runs here; default: all do."),
    ] = None,
    out: OutOption = Path("runs"),
    insecure: InsecureOption = False,
) -> None:
    """Examines keys, versions, clocks, devices, data, disk and the other machines before a run."""
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.doctor import run_doctor  # noqa: PLC0415

    run_doctor(load_config(config, overrides or ()), out, open_console(), key=key, insecure=insecure)

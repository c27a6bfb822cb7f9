"""The command `fednet launch`: a cluster on this machine, from a configuration to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fednet
from launch.commands.options import ConfigArgument, InsecureOption, OutOption, OverridesOption
from launch.output import open_console


def launch(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    out: OutOption = Path("runs"),
    serve: Annotated[bool, typer.Option("--serve", help="Keep the cluster up after the run's job.")] = False,
    insecure: InsecureOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Only resume a run that was interrupted.")] = False,
) -> None:
    """Starts a cluster on this machine, shows its progress, and leaves results and a report."""
    console = open_console()
    console.print(f"fednet {fednet.__version__}", style="dim", highlight=False)
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for these
    from launch.run import session  # noqa: PLC0415

    session.launch(load_config(config, overrides or ()), out, console, serve=serve, insecure=insecure, resume=resume)

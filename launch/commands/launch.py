"""The command `fednet launch`: a cluster, from a configuration to a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

import fednet
from launch.commands.options import ConfigArgument, InsecureOption, OutOption, OverridesOption
from launch.output import open_console
from launch.run.background import go_on_in_background

if TYPE_CHECKING:
    from rich.console import Console

RUNS: Final = Path("runs")


def launch(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    out: OutOption = RUNS,
    serve: Annotated[bool, typer.Option("--serve", help="Keep the cluster up after the run's job.")] = False,
    insecure: InsecureOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Only resume a run that was interrupted.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background once it is started; see ls, attach, stop.")
    ] = False,
) -> None:
    """Starts a cluster, shows its progress, and leaves results and a report.

    A run of the same name that had another configuration is replaced: `--set name=...` keeps both.
    """
    leave = go_on_in_background() if detach else None
    console = open_console(plain=detach)
    console.print(f"fednet {fednet.__version__}", style="dim", highlight=False)
    from launch.config.schema import load_launchable  # noqa: PLC0415 - help texts need not wait for these
    from launch.run import session  # noqa: PLC0415
    from launch.run.folder import LOGS  # noqa: PLC0415

    def locked(folder: Path) -> None:
        if leave is not None:
            _say_where(folder, out, console)
            leave(folder / LOGS)

    loaded = load_launchable(config, overrides or ())
    session.launch(loaded, out, console, serve=serve, insecure=insecure, resume=resume, locked=locked)


def _say_where(folder: Path, out: Path, console: Console) -> None:
    """Says how a run in the background is reached."""
    where = [] if out == RUNS else ["--out", str(out)]
    attach, end = (shlex.join(["fednet", command, folder.name, *where]) for command in ("attach", "stop"))
    line = f"{folder.name} goes on in the background: `{attach}` shows it, `{end}` ends it"
    console.print(line, markup=False, highlight=False, soft_wrap=True)

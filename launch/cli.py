"""The command `fednet`: its commands, and one message and an exit code for each error.

Nothing that is imported here, or at the top of a module of commands, is slow: no torch, no pydantic, no ZeroMQ. A
command imports what it needs when it is called, and a method when its group of commands is used.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

import fednet
from launch.commands import check, examples, fid, init, keys, node, sample
from launch.commands import launch as launch_command
from launch.commands.methods import RootGroup
from launch.errors import EXIT_OK, EXPLAINED, exit_code

DEBUG = "FEDNET_DEBUG"

app = typer.Typer(
    name="fednet",
    cls=RootGroup,
    help="A peer-to-peer message bus for federated generative models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    launch_command.launch,
    node.node,
    check.check,
    check.doctor,
    init.init,
    examples.examples,
    fid.fid,
    sample.sample,
):
    app.command()(command)
app.add_typer(keys.app, name="keys")


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code of an error's family, see `launch.errors`; typer itself exits where there is none.
    """
    try:
        app()
    except EXPLAINED as error:
        if os.environ.get(DEBUG):
            raise
        Console(stderr=True).print(f"fednet: {error}", markup=False, highlight=False, soft_wrap=True, style="red")
        return exit_code(error)
    return EXIT_OK


def _print_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"fednet {fednet.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks of errors (or set {DEBUG}=1).")] = False,
) -> None:
    """A peer-to-peer message bus for federated generative models."""
    if debug:
        os.environ[DEBUG] = "1"

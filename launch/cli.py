"""The command `fednet`: reads arguments, calls what does the work, and turns errors into one message and a code.

Thin on purpose, and quick to start: nothing that is imported here imports torch; the commands that need it do so when
they are called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

import fednet
from launch.commands import guests, keys
from launch.commands.fid import compare_folders
from launch.commands.node import EndpointOptions, run_monitor, run_node, run_relay
from launch.config.examples import example_summaries, example_text
from launch.config.schema import load_config
from launch.errors import EXIT_OK, EXPLAINED, ConfigError, ConfigProblem, exit_code
from launch.run import session
from launch.run.devices import free_ports, read_inventory
from launch.run.plan import make_plan

DEBUG = "FEDNET_DEBUG"

app = typer.Typer(
    name="fednet",
    help="A peer-to-peer message bus for federated generative models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A cluster.yaml, or the name of a built-in example.")
]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replaces a key, e.g. train.epochs=10.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the runs' folders lie.")]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Allow addresses beyond loopback, without keys.")]
JoinOption = Annotated[
    list[str] | None,
    typer.Option("--join", metavar="ADDRESS", help="A peer to join through; with keys NAME@ADDRESS."),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Its private file, if not that of `security.keys`.")
]


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
        console.print(f"fednet {fednet.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks of errors (or set {DEBUG}=1).")] = False,
) -> None:
    """A peer-to-peer message bus for federated generative models."""
    if debug:
        os.environ[DEBUG] = "1"


@app.command()
def launch(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    out: OutOption = Path("runs"),
    serve: Annotated[bool, typer.Option("--serve", help="Keep the cluster up when the run is done.")] = False,
    insecure: InsecureOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped, only.")] = False,
) -> None:
    """Starts a cluster on this machine, watches it, and leaves results and a report."""
    console.print(f"fednet {fednet.__version__}", style="dim", highlight=False)
    session.launch(load_config(config, overrides or ()), out, console, serve=serve, insecure=insecure, resume=resume)


@app.command()
def node(
    *,
    role: Annotated[Literal["client", "guest", "monitor", "relay"], typer.Option(help="What this node is.")],
    config: Annotated[str | None, typer.Option("--config", help="The cluster.yaml of a client or guest.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; that of a client stands in the configuration.")] = None,
    listen: Annotated[str, typer.Option(help="The address it binds; port 0 picks a free one.")] = "tcp://127.0.0.1:0",
    advertise: Annotated[str | None, typer.Option(help="The address others reach it at, if another.")] = None,
    through: Annotated[str | None, typer.Option(help="A relay, if nobody can connect to it.")] = None,
    join: JoinOption = None,
    overrides: OverridesOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    out: OutOption = Path("runs"),
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Runs one node by hand; the configuration names the clients that belong together."""
    place = EndpointOptions(listen, advertise, tuple(join or ()), device, key, insecure, through)
    if role == "monitor":
        run_monitor(name, place, console)
    elif role == "relay":
        run_relay(place, console)
    elif config is None:
        raise ConfigError(ConfigProblem("--config", "a cluster.yaml or an example's name", "nothing"))
    else:
        run_node(load_config(config, overrides or ()), role, name, place, out=out, console=console)


@app.command()
def check(config: ConfigArgument, overrides: OverridesOption = None, insecure: InsecureOption = False) -> None:
    """Checks a configuration against this machine and says what would be started."""
    loaded = load_config(config, overrides or ())
    session.check_data(loaded)
    folder, sockets = Path("runs") / loaded.cluster.name, Path("sockets")
    planned = make_plan(loaded, read_inventory(), free_ports(), folder, sockets, insecure=insecure)
    table = Table("node", "role", "device", "threads", "listens on", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for spec in planned.nodes:
        table.add_row(spec.name, spec.role, spec.device, str(spec.threads), spec.listen)
    console.print(f"{config} is fine: method {loaded.cluster.method}, seed {loaded.cluster.seed}", highlight=False)
    console.print(table)


@app.command()
def doctor(
    config: ConfigArgument,
    overrides: OverridesOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="Of the node here, where others run elsewhere; without, all run here."
        ),
    ] = None,
    out: OutOption = Path("runs"),
    insecure: InsecureOption = False,
) -> None:
    """Looks, before a run, at keys, versions, clocks, devices, data, disk and whether the other machines are heard."""
    from launch.run.doctor import run_doctor  # noqa: PLC0415 - imports torch, which other commands need not wait for

    run_doctor(load_config(config, overrides or ()), out, console, key=key, insecure=insecure)


@app.command()
def examples(
    name: Annotated[str | None, typer.Argument(help="The example to print.")] = None,
) -> None:
    """Lists the built-in examples, or prints one of them."""
    if name is not None:
        sys.stdout.write(example_text(name))
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for known, about in example_summaries().items():
        table.add_row(f"[bold]{known}[/]", about)
    console.print(table)


@app.command()
def fid(
    a: Annotated[Path, typer.Argument(help="A folder of png or jpg files, flat or with a folder per class.")],
    b: Annotated[Path, typer.Argument(help="The folder to compare it with.")],
    data: Annotated[str, typer.Option(help="The data set whose judge gives the feature space.")] = "digits",
    root: Annotated[Path | None, typer.Option(help="The folder that holds it; digits need none.")] = None,
    seed: Annotated[int, typer.Option(help="The judge's seed.")] = 0,
) -> None:
    """Compares two folders of images by Frechet distance, overall and per class."""
    compare_folders(a, b, data, root, seed=seed, console=console)


guests.register(app)
app.add_typer(keys.app, name="keys")

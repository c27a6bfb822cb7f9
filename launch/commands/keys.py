"""The commands about keys: they read arguments and call `launch.run.keys`. Thin on purpose, and nothing imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from launch.run import keys
from launch.run.keys import KEYS_FOLDER, PRIVATE, PUBLIC

app = typer.Typer(help="Makes keys and says whose are trusted.", no_args_is_help=True)
console = Console()

FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the keys lie.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node whose keys they are.")],
    folder: FolderOption = KEYS_FOLDER,
    relay: Annotated[
        bool, typer.Option("--relay", help="A relay's, which passes messages on and takes no part.")
    ] = False,
) -> None:
    """Makes a key pair: NAME.key stays here, NAME.pub is for the others."""
    public = keys.create_keys(name, folder, relay=relay)
    _print_line(f"{folder / (name + PRIVATE)}  private: it never leaves this machine")
    _print_line(f"{folder / (name + PUBLIC)}  public: hand it to the others, who `fednet keys trust` it")
    _print_line(f"fingerprint {public.fingerprint}")


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The public file that somebody handed over.")],
    folder: FolderOption = KEYS_FOLDER,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of other keys of that name.")] = False,
) -> None:
    """Trusts a peer from now on: nodes that start with keys of this folder let it in and believe what it signs."""
    public = keys.trust_keys(file, folder, replace=replace)
    _print_line(f"{public.name} is trusted, fingerprint {public.fingerprint}")
    _print_line(f"Ask {public.name} whether that is what `fednet keys fingerprint {public.name}` says there.")


@app.command(name="list")
def listed(folder: FolderOption = KEYS_FOLDER) -> None:
    """Lists the keys of a folder: the operator's own, and whose are trusted."""
    table = Table("name", "", "fingerprint", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for about, found in (("own", keys.own_keys(folder)), ("trusted", keys.trusted_keys(folder))):
        for public in found:
            table.add_row(public.name, f"{about}, relay" if public.relay else about, public.fingerprint)
    console.print(table)


@app.command()
def fingerprint(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose.")], folder: FolderOption = KEYS_FOLDER
) -> None:
    """Prints the fingerprint of keys in a folder, to compare it with what others see."""
    _print_line(keys.find_keys(name, folder).fingerprint)


def _print_line(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)

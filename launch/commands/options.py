"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

LOOPBACK: Final = "tcp://127.0.0.1:0"
"""The default of `--listen`: loopback, on a free port."""

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A cluster.yaml, or the name of a built-in example.")
]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=10.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the runs' folders.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Allow addresses beyond loopback without keys.")]
ListenOption = Annotated[str, typer.Option(help="The address to bind; port 0 picks a free one.")]
OwnListenOption = Annotated[
    str | None, typer.Option(help="The address to bind; port 0 picks a free one. Default: that of --spec, or loopback.")
]
GuestJoinOption = Annotated[
    list[str],
    typer.Option("--join", metavar="ADDRESS", help="A client of a live cluster; with keys NAME@ADDRESS."),
]
GuestKeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="This guest's private key, made by `fednet keys new`.")
]

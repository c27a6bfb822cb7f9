"""The command `fednet node`: one node in this process, started by hand, so that addresses alone make a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from launch.commands.options import LOOPBACK, InsecureOption, OutOption, OverridesOption, OwnListenOption
from launch.errors import ConfigError, ConfigProblem
from launch.output import open_console


def node(
    *,
    role: Annotated[
        Literal["client", "guest", "monitor", "relay"] | None, typer.Option(help="The node's role, without --spec.")
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option("--spec", metavar="FILE", help="A node file, as engines write it; - for standard input."),
    ] = None,
    config: Annotated[str | None, typer.Option("--config", help="The cluster.yaml of a client or guest.")] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; a client's is in the configuration.")] = None,
    listen: OwnListenOption = None,
    advertise: Annotated[str | None, typer.Option(help="The address for others; default: that of --listen.")] = None,
    through: Annotated[str | None, typer.Option(help="A relay, if others cannot connect to this node.")] = None,
    join: Annotated[
        list[str] | None,
        typer.Option("--join", metavar="ADDRESS", help="A peer to join through; with keys NAME@ADDRESS."),
    ] = None,
    overrides: OverridesOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    out: OutOption = Path("runs"),
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The private key; default: the name's in `security.keys`."),
    ] = None,
    insecure: InsecureOption = False,
) -> None:
    """Runs one node: by hand, where the configuration names the clients of the run, or that of a node file."""
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.endpoint import EndpointOptions  # noqa: PLC0415
    from launch.run.node import run_monitor, run_node, run_relay  # noqa: PLC0415

    if spec is not None:
        _require_alone({"--role": role, "--config": config, "--name": name, "--join": join, "--key": key})
        from launch.run.placed import run_placed  # noqa: PLC0415

        run_placed(spec, listen)
    console = open_console()
    endpoint = EndpointOptions(listen or LOOPBACK, advertise, tuple(join or ()), device, key, insecure, through)
    if role is None:
        raise ConfigError(ConfigProblem("--role", "client, guest, monitor or relay", "nothing"))
    if role == "monitor":
        run_monitor(name, endpoint, console)
    elif role == "relay":
        run_relay(endpoint, console)
    elif config is None:
        raise ConfigError(ConfigProblem("--config", "a cluster.yaml or an example's name", "nothing"))
    else:
        run_node(load_config(config, overrides or ()), role, name, endpoint, out=out, console=console)


def _require_alone(given: Mapping[str, object]) -> None:
    """Refuses what the node file says already."""
    if also := [option for option, value in given.items() if value]:
        raise ConfigError(ConfigProblem("--spec", "a node file alone, which says who the node is", ", ".join(also)))

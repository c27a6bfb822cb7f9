"""The commands that look before a run: `fednet check` at a configuration, `fednet doctor` at the machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.commands.options import ConfigArgument, InsecureOption, JsonOption, OutOption, OverridesOption
from launch.errors import ConfigError, ConfigProblem
from launch.output import open_console, open_table, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from launch.config.schema import LoadedConfig
    from nodes.spec import NodeSpec


def check(
    config: ConfigArgument,
    overrides: OverridesOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Checks a configuration against this machine and prints what would be started."""
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for it

    loaded, console = load_config(config, overrides or ()), open_console(quiet=as_json)
    from launch.run.devices import read_inventory  # noqa: PLC0415 - nor a mistake in the file for these
    from launch.run.local_data import check_data, nodes_here  # noqa: PLC0415
    from launch.run.plan import specs_here  # noqa: PLC0415

    here = nodes_here(loaded)
    problems = list(_show_data(loaded, here, console))
    if problems:
        raise ConfigError(*problems)
    split = _show_split(loaded, here, console)
    check_data(loaded, here)  # what sites cannot do with each other is said before what needs torch
    specs = specs_here(loaded, here, read_inventory(), insecure=insecure)
    console.print(f"{config} is fine: method {loaded.cluster.method}, seed {loaded.cluster.seed}", highlight=False)
    nodes = [*map(_node_values, specs), *_elsewhere(loaded, here)]
    console.print(_node_table(nodes))
    if as_json:
        cluster = loaded.cluster
        print_json({
            "name": cluster.name, "method": cluster.method, "seed": cluster.seed, "nodes": nodes, "images": split,
        })  # fmt: skip


def _node_values(spec: NodeSpec) -> dict[str, Any]:
    """What would be started; a port of 0 is picked then."""
    return {
        "name": spec.name, "role": spec.role, "here": True, "device": spec.device, "threads": spec.threads,
        "listen": spec.listen.removesuffix(":0"),
    }  # fmt: skip


def _elsewhere(loaded: LoadedConfig, here: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The nodes of other machines."""
    for name, entry in loaded.cluster.entries.items():
        if name not in here:
            yield {
                "name": name,
                "role": "client",
                "here": False,
                "device": None,
                "threads": None,
                "listen": entry.listen,
            }


def _node_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    table = open_table("node", "role", "device", "threads", "listens on")
    for node in nodes:
        device, threads = (node["device"], str(node["threads"])) if node["here"] else ("elsewhere", "–")
        table.add_row(node["name"], node["role"], device, threads, node["listen"], style="" if node["here"] else "dim")
    return table


def _show_data(loaded: LoadedConfig, names: Sequence[str], console: Console) -> Iterator[ConfigProblem]:
    """Prints what the data sets of nodes hold, and gives what is wrong with them."""
    from fednet.errors import MethodError  # noqa: PLC0415 - as above
    from launch.run.local_data import data_config, data_problem, data_uses  # noqa: PLC0415

    for use in data_uses(loaded, names):
        try:
            if (data := data_config(loaded, use)) is None:
                continue
            from fednet.data.survey import survey  # noqa: PLC0415 - what other methods need not wait for
            from launch.report import data_survey  # noqa: PLC0415

            with console.status(f"reading {data.root or data.name}"):
                found = survey(data)
        except MethodError as error:
            yield data_problem(loaded, use, str(error))
            continue
        console.print(f"data of {', '.join(use.owners)}", style="dim", markup=False, highlight=False)
        data_survey.show(console, data, found)
        if reason := data_survey.refused(data, found):
            yield data_problem(loaded, use, reason)


def _show_split(loaded: LoadedConfig, here: Sequence[str], console: Console) -> dict[str, Any] | None:
    """Prints how many pictures will be used for what, and gives it; None if the method's sites have no pictures."""
    from fednet.methods.common.config import ImageConfig  # noqa: PLC0415 - as above

    if not isinstance(loaded.method, ImageConfig):
        return None
    from launch.report import data_survey  # noqa: PLC0415 - as above
    from launch.run.data_split import data_split  # noqa: PLC0415

    split = data_split(loaded, loaded.method, here)
    console.print(data_survey.split_table(split))
    if split.note:
        console.print(split.note, markup=False, highlight=False, soft_wrap=True)
    return {"sites": dict(split.sites), "measuring": dict(split.measuring), "note": split.note}


def doctor(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The private key of the one node that runs here; default: all do."),
    ] = None,
    out: OutOption = Path("runs"),
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Examines keys, versions, clocks, devices, data, disk and the other machines before a run."""
    from launch.config.schema import load_config  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.doctor import run_doctor  # noqa: PLC0415

    run_doctor(load_config(config, overrides or ()), out, open_console(), key=key, insecure=insecure, as_json=as_json)

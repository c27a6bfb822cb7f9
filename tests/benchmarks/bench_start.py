"""How long ten nodes take to start, beside one: `make bench`.

Real clients with a tiny model and next to nothing to train are started as a launch starts them, through a fork server
that is cold when the time begins, and once more afresh, each by a `fednet node` of its own. The time ends when a
monitor is linked with all of them; beside it stands the time until all are ready to answer. One and ten take turns in
one run, so that a noisy machine disturbs both alike. Only the ratios mean anything on another machine.

    python tests/benchmarks/bench_start.py [--nodes 10] [--rounds 3] [--no-afresh]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from launch.config.schema import LoadedConfig, load_config
from launch.engines.local import NODE_TARGET
from launch.engines.node_file import NodeFile
from launch.run.devices import read_inventory
from launch.run.events import Event
from launch.run.fork_server import PRELOAD, node_process, start_fork_server, stop_fork_server
from launch.run.plan import LaunchPlan, make_plan
from nodes.monitor import Monitor

TARGET = 1.5
PATIENCE = 300.0
SETTINGS = (
    "bus.transport=ipc",
    "devices.threads=1",
    "data={name: digits, limit: 100}",
    "model={channels: [8], groups: 4, attention: false}",
    "train={steps: 1}",
)

Stop = Callable[[], None]


@dataclass(frozen=True)
class Taken:
    """Seconds from the start until a monitor was linked with all nodes, and until all were ready."""

    linked: float
    ready: float


def forked(planning: LaunchPlan, folder: Path) -> Stop:
    """Starts the clients through the fork server, as a launch does."""
    start_fork_server((*PRELOAD, "fednet.methods.score_inference.job"))
    processes = []
    for spec in planning.clients:
        NodeFile.of(spec).write(folder / f"{spec.name}.json")
        processes.append(node_process(NODE_TARGET, folder / f"{spec.name}.json", folder / f"{spec.name}.log"))
    for process in processes:
        process.start()

    def stop() -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        stop_fork_server()

    return stop


def afresh(planning: LaunchPlan, folder: Path) -> Stop:
    """Starts every client from nothing, with the command that a user has for it."""
    fednet, processes = Path(sys.executable).with_name("fednet"), []
    for spec in planning.clients:
        joins = [part for address in spec.join for part in ("--join", address)]
        command: list[str | Path] = [
            fednet,
            "node",
            "--role",
            "client",
            "--config",
            folder / "cluster.yaml",
            "--name",
            spec.name,
        ]
        command += ["--name", spec.name, "--listen", spec.listen, "--out", folder, *joins]
        with (folder / f"{spec.name}.log").open("a") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def stop() -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    return stop


async def measure(start: Callable[[LaunchPlan, Path], Stop], planning: LaunchPlan, folder: Path) -> Taken:
    """Starts the clients of a plan once."""
    names = {spec.name for spec in planning.clients}
    seen: dict[str, dict[str, float]] = {"joined": {}, "ready": {}}
    complete = asyncio.Event()

    def tell(happening: Event) -> None:
        if happening.kind in seen and happening.node in names:
            seen[happening.kind][happening.node] = time.perf_counter()
        if all(len(times) == len(names) for times in seen.values()):
            complete.set()

    begun = time.perf_counter()
    stop = await asyncio.to_thread(start, planning, folder)
    try:
        async with asyncio.timeout(PATIENCE), Monitor(planning.monitor, tell):
            await complete.wait()
    finally:
        await asyncio.to_thread(stop)
    return Taken(max(seen["joined"].values()) - begun, max(seen["ready"].values()) - begun)


def once(start: Callable[[LaunchPlan, Path], Stop], count: int) -> Taken:
    """Starts `count` clients in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="start-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        loaded: LoadedConfig = load_config("score-inference", (*SETTINGS, f"nodes={count}"))
        (folder / "cluster.yaml").write_text(loaded.dump())
        planning = make_plan(loaded, read_inventory(), folder / loaded.cluster.name, folder / "s")
        first, *rest = planning.clients
        joining = (first, *(replace(spec, join=(first.listen,)) for spec in rest))
        monitor = replace(planning.monitor, join=(first.listen,))
        return asyncio.run(measure(start, replace(planning, clients=joining, monitor=monitor), folder))


def apart(start: Callable[[LaunchPlan, Path], Stop], count: int) -> Taken:
    """The same within a process of its own: a process has one fork server only."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as one:
        return one.submit(once, start, count).result()


def middle(taken: Sequence[Taken]) -> Taken:
    """The medians."""
    return Taken(statistics.median(t.linked for t in taken), statistics.median(t.ready for t in taken))


def show(found: dict[str, dict[int, Taken]]) -> None:
    """Prints the table."""
    table = Table("start", "nodes", "linked s", "ready s", "linked, ratio to one", "ready, ratio to one", "target")
    for kind, by_count in found.items():
        one = by_count[1]
        for count, taken in by_count.items():
            target = f"<= {TARGET}" if kind == "fork server" and count > 1 else "-"
            ratios = (f"{taken.linked / one.linked:.2f}", f"{taken.ready / one.ready:.2f}")
            table.add_row(kind, str(count), f"{taken.linked:.2f}", f"{taken.ready:.2f}", *ratios, target)
    Console().print(table)


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--afresh", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    counts = (1, arguments.nodes)
    apart(forked, 1)  # from here on everything that is imported lies in the page cache
    rounds = [{count: apart(forked, count) for count in counts} for _ in range(arguments.rounds)]
    found = {"fork server": {count: middle([taken[count] for taken in rounds]) for count in counts}}
    if arguments.afresh:
        found["afresh"] = {count: apart(afresh, count) for count in counts}
    show(found)
    if arguments.json:
        kept = {kind: {count: vars(taken) for count, taken in rows.items()} for kind, rows in found.items()}
        arguments.json.write_text(json.dumps(kept, indent=2))


if __name__ == "__main__":
    main()

"""How long each engine takes from submission to ready, and from the SIGKILL of a site to its return.

Runs `regression` with three sites on this machine under each engine that can be had here: ssh by an asyncssh server on
loopback, Slurm by a controller and two daemons of this user, Ray by a head and two nodes. Ready is when the monitor has
heard that of all sites; returned when the site that was killed has taken part in a round again. Medians, with the least
and the most, and the load average of the five minutes before: most of what is measured is Python importing torch.

    python tests/benchmarks/bench_engines.py [--engines local ssh slurm ray] [--repetitions 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "launch" / "engines"))


def local(folder: Path, measure: Callable[[Any], Any]) -> Any:
    return measure({"kind": "local", "restart": 1})


def ssh(folder: Path, measure: Callable[[Any], Any]) -> Any:
    async def serve() -> Any:
        async with import_module("ssh_hosts").listening(folder, "h1", "h2") as there:
            hosts = {
                name: {"address": "127.0.0.1", "port": port, "python": sys.executable, "folder": str(folder / name)}
                for name, port in there.ports.items()
            }
            keys = {"identity": str(there.identity), "known_hosts": str(there.known_hosts)}
            return await asyncio.to_thread(measure, {"kind": "ssh", "restart": 1, "hosts": hosts, **keys})

    return asyncio.run(serve())


def slurm(folder: Path, measure: Callable[[Any], Any]) -> Any:
    cluster = import_module("slurm_cluster")
    if lacking := cluster.missing():
        raise SystemExit(lacking)
    with cluster.running(folder) as conf:
        os.environ |= {"SLURM_CONF": str(conf), "PATH": cluster.search()}
        return measure({"kind": "slurm", "restart": 1, "address": "127.0.0.1", "interface": "lo"})


def ray(folder: Path, measure: Callable[[Any], Any]) -> Any:
    made = import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(2):
            made.add_node(num_cpus=2)
        return measure({"kind": "ray", "restart": 1, "address": made.address})
    finally:
        made.shutdown()


ENGINES = {"local": local, "ssh": ssh, "slurm": slurm, "ray": ray}


COLUMNS = ("submission to ready", "SIGKILL to joined", "SIGKILL to a round with it")


def taken(run: Any, submitted: float) -> tuple[float, ...]:
    """Seconds from the submission to ready, and from the end of the first life of a2 to its second, then in a round."""
    stories = import_module("stories")
    events = run.events
    ready = max(stories.nth(events, name, "ready", 1).time for name in ("a1", "a2", "a3"))
    killed = json.loads((run.folder / "killed.json").read_text())["time"]
    again = stories.nth(events, "a2", "joined", 2).time
    back = next(e.time for e in events if e.time > again and stories.all_take_part([e]))
    return ready - submitted, again - killed, back - killed


def measured(folder: Path, repetitions: int, engine: Any) -> list[tuple[float, ...]]:
    """Runs with an engine, one after the other."""
    found = []
    for number in range(repetitions):
        submitted = time.time()
        run = import_module("stories").loses_a_site_and_goes_on(folder / f"runs{number}", engine)
        found.append(taken(run, submitted))
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="*", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, ...]]] = {}
    table = Table("engine", *(f"{column}, s" for column in COLUMNS), "load average")
    for name in arguments.engines:
        with tempfile.TemporaryDirectory(prefix="e-", ignore_cleanup_errors=True) as folder:
            out = Path(folder)
            found[name] = ENGINES[name](out, partial(measured, out, arguments.repetitions))
        spans = (
            f"{median(column):.1f} ({min(column):.1f}-{max(column):.1f})" for column in zip(*found[name], strict=True)
        )
        table.add_row(name, *spans, f"{os.getloadavg()[1]:.1f}")
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

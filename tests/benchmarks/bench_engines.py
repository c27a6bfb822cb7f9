"""How long each engine takes from submission to ready, and from the SIGKILL of a site to its return.

Runs `regression` with three sites on this machine under each engine that can be had here: ssh by an asyncssh server on
loopback, Slurm by a controller and two daemons of this user, Ray by a head and two nodes. Ready is when the monitor has
heard that of all sites; returned when the site that was killed has taken part in a round again.

    python tests/benchmarks/bench_engines.py [--engines local ssh slurm ray] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
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


def taken(run: Any) -> dict[str, float]:
    """Seconds from the begin to ready, and from the end of the first life of a2 to its second in a round."""
    stories = import_module("stories")
    events = run.events
    ready = max(next(e.time for e in events if (e.node, e.kind) == (name, "ready")) for name in ("a1", "a2", "a3"))
    killed = json.loads((run.folder / "killed.json").read_text())
    again = stories.nth(events, "a2", "joined", 2).time
    notes = [e for e in events if (e.node, e.kind) == ("driver", "progress") and e.time > again]
    back = next(e.time for e in notes if e.data["note"] == "a1 a2 a3")
    return {"ready": ready - events[0].time, "joined": again - killed, "in a round": back - killed}


def measured(folder: Path, engine: Any) -> dict[str, float]:
    """One run with an engine."""
    return taken(import_module("stories").loses_a_site_and_goes_on(folder / "runs", engine))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="*", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    table = Table("engine", "submission to ready s", "SIGKILL to joined s", "SIGKILL to a round with it s")
    for name in arguments.engines:
        with tempfile.TemporaryDirectory(prefix="e-", ignore_cleanup_errors=True) as folder:
            out = Path(folder)
            found[name] = ENGINES[name](out, partial(measured, out))
        table.add_row(name, *(f"{seconds:.1f}" for seconds in found[name].values()))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

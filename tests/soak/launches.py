"""Short launches in a row: whether all sites take part in all rounds and end with one model.

    python tests/soak/launches.py [--launches 200] [--nodes 3] [--rounds 2]

Each is a launch of `regression` in a folder of its own, with nodes and sockets of its own; they share what costs most
of a command's time, this process and a fork server that has imported what nodes need. Counts the launches that end
with another code than 0, whose sites do not predict the same in the end, or whose rounds lack a site; ends with 1
where there is any.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from typing import Any

from rich.console import Console

import fednet
from launch.errors import RunError
from launch.run.fork_server import start_fork_server, stop_fork_server


def faults(settings: dict[str, Any]) -> list[str]:
    """Launches once, and returns what is wrong with the run that has ended."""
    with tempfile.TemporaryDirectory(prefix="launches-") as out:
        try:
            run = fednet.launch("regression", out=out, **settings)
        except RunError as error:
            return [f"code {error.code}: {error}"]
        wrong = [] if len(set(run.metrics["federated"].values())) == 1 else ["sites predict different values"]
        for account in run.summary.accounts.values():
            contributed = [node.contributed for node in account.nodes.values()]
            if len(contributed) != settings["nodes"] or set(contributed) != {account.steps}:
                wrong.append(f"contributions {account.nodes}")
        return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    console, seen, began = Console(), Counter[str](), time.monotonic()
    settings = {"nodes": given.nodes, "rounds": given.rounds, "devices": {"threads": 1}}
    start_fork_server()  # and keep it
    for number in range(1, given.launches + 1):
        for fault in faults(settings):
            seen[fault] += 1
            console.print(f"launch {number}: {fault}", markup=False)
    stop_fork_server()
    took = (time.monotonic() - began) / given.launches
    console.print(f"{given.launches} launches of {took:.1f} s, {sum(seen.values())} faults {dict(seen) or ''}")
    raise SystemExit(1 if seen else 0)


if __name__ == "__main__":
    main()

"""Short launches in a row: whether all sites take part in all rounds and end with one model.

    python tests/soak/launches.py [--launches 200] [--nodes 3] [--rounds 2] [--log runs/launches.jsonl]

Each is a launch of `regression` in a folder of its own, with nodes and sockets of its own; they share what costs most
of a command's time, this process and a fork server that has imported what nodes need. Counts the launches that end
with another code than 0, whose sites do not predict the same in the end, or whose rounds lack a site; ends with 1
where there is any. Each launch that has ended is a line of the log: who starts the script again goes on after the last.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
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


def ended(log: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The launches that stand in the log; the script ends where they are of other settings."""
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    launches = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may have been cut off
    if any(launch["settings"] != settings for launch in launches):
        raise SystemExit(f"{log} has launches of other settings: give another file with --log, or remove it")
    return launches


def launched(settings: dict[str, Any]) -> dict[str, Any]:
    """One launch, as a line of the log."""
    began, load = time.monotonic(), os.getloadavg()[0]
    found = faults(settings)
    return {"settings": settings, "faults": found, "seconds": round(time.monotonic() - began, 2), "load": load}


def report(launches: list[dict[str, Any]]) -> str:
    """How many there were, how long they took, at which load, and what was wrong with how many."""
    seen = Counter(fault for launch in launches for fault in launch["faults"])
    bad = sum(bool(launch["faults"]) for launch in launches)
    seconds, loads = ([launch[key] for launch in launches] for key in ("seconds", "load"))
    lines = [
        f"{len(launches)} launches, {bad} with faults, at a load of {min(loads):.1f} to {max(loads):.1f}",
        f"{median(seconds):.1f} s at the median, {max(seconds):.1f} s at worst",
        *(f"{count} times: {fault}" for fault, count in seen.most_common()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path("runs/launches.jsonl"))
    given = parser.parse_args()
    console = Console()
    settings = {"nodes": given.nodes, "rounds": given.rounds, "devices": {"threads": 1}}
    launches = ended(given.log, settings)
    given.log.parent.mkdir(parents=True, exist_ok=True)
    given.log.write_text("".join(f"{json.dumps(launch)}\n" for launch in launches), "utf-8")
    start_fork_server()  # and keep it
    for number in range(len(launches) + 1, given.launches + 1):
        launches.append(launched(settings))
        with given.log.open("a", encoding="utf-8") as log:
            log.write(f"{json.dumps(launches[-1])}\n")
        for fault in launches[-1]["faults"]:
            console.print(f"launch {number}: {fault}", markup=False)
    stop_fork_server()
    console.print(report(launches), markup=False)
    raise SystemExit(any(launch["faults"] for launch in launches))


if __name__ == "__main__":
    main()

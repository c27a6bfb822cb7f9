"""Short launches in a row: whether all sites take part in all rounds and end with one model.

    python tests/soak/launches.py [--launches 200] [--nodes 3] [--rounds 2] [--set KEY=VALUE]

Each is `fednet launch regression` in a folder of its own. Counts the launches that end with another code than 0, whose
sites do not predict the same in the end, or whose rounds lack a site; ends with 1 where there is any.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console


def faults(folder: Path, code: int, sites: int) -> list[str]:
    """What is wrong with a run that has ended."""
    if code:
        return [f"code {code}"]
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    accounts = json.loads((folder / "summary.json").read_text())["accounts"].values()
    wrong = [] if len(set(metrics["federated"].values())) == 1 else ["sites predict different values"]
    for account in accounts:
        contributed = [node["contributed"] for node in account["nodes"].values()]
        if len(contributed) != sites or set(contributed) != {account["steps"]}:
            wrong.append(f"contributions {account['nodes']}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a setting of the launch")
    given = parser.parse_args()
    console, seen = Console(), Counter[str]()
    settings = [f"nodes={given.nodes}", f"rounds={given.rounds}", "devices.threads=1", *given.set]
    options = [part for setting in settings for part in ("--set", setting)]
    for number in range(1, given.launches + 1):
        with tempfile.TemporaryDirectory(prefix="launches-") as out:
            command = ["fednet", "launch", "regression", "--out", out, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wrong = faults(Path(out) / "regression", done.returncode, given.nodes)
        for fault in wrong:
            seen[fault] += 1
            console.print(f"launch {number}: {fault} {done.stderr.strip()[-300:]}", markup=False)
    console.print(f"{given.launches} launches, {sum(seen.values())} faults {dict(seen) or ''}")
    raise SystemExit(1 if seen else 0)


if __name__ == "__main__":
    main()

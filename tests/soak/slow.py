"""A member that is stopped (SIGSTOP) while the others are asked: they go on, memory stays bounded, and it comes back.

    python tests/soak/slow.py [--seconds 10] [--megabytes 0 16] [--members 5]

Once it is lost nothing may slow down, however large the questions: what waits for it is left behind, and the others are
told one by one. It is lost later the second time, since the first has shown that it can be silent for long.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time

import psutil
import torch
from cluster import Cluster, cluster
from rich.console import Console
from rich.table import Table

from fednet.api import Question

MB = 1 << 20


async def ask(members: Cluster, megabytes: int) -> frozenset[str]:
    """One question, answered by everybody who is there."""
    if not megabytes:
        return frozenset((await members.ask()).by_node)
    x = torch.rand(megabytes * MB // 4)
    replies = await members.query_client.ask(Question("first", {"x": x}))
    if any(not torch.equal(outputs["y"], x[:1]) for outputs in replies.by_node.values()):
        raise SystemExit("an answer is wrong")
    return frozenset(replies.by_node)


async def stopped(members: Cluster, name: str, seconds: float, megabytes: int) -> dict[str, float]:
    """One member is stopped for so long; what happens meanwhile and afterwards."""
    process, everybody = psutil.Process(), frozenset(members.specs)
    for _ in range(10):
        await ask(members, megabytes)
    before = peak = process.memory_info().rss
    began = members.signal(name, signal.SIGSTOP)
    without, longest, asked, last = 0.0, 0.0, 0, began
    while time.monotonic() - began < seconds:
        there = await ask(members, megabytes)
        now = time.monotonic()
        asked, longest, last = asked + 1, max(longest, now - last), now
        without = without or (now - began if name not in there else 0.0)
        peak = max(peak, process.memory_info().rss)
        if name not in there and not everybody - {name} <= there:
            raise SystemExit(f"more than {name} is missing: {there}")
    awake = members.signal(name, signal.SIGCONT)
    while await ask(members, megabytes) != everybody:
        peak = max(peak, process.memory_info().rss)
    return {
        "MB": megabytes,
        "first answer without it s": without,
        "longest pause s": longest,
        "questions meanwhile": asked,
        "back s": time.monotonic() - awake,
        "memory grew MB": (peak - before) / MB,
    }


async def run(count: int, seconds: float, sizes: list[int]) -> list[dict[str, float]]:
    """All sizes, one after another, on one cluster."""
    async with cluster(count) as members:
        await asyncio.sleep(8)  # until everybody knows everybody's heartbeats
        return [await stopped(members, f"a{count}", seconds, size) for size in sizes]


def main() -> None:
    """Stops and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[0, 16])
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = asyncio.run(run(arguments.members, arguments.seconds, arguments.megabytes))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

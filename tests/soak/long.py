"""Half an hour of rounds and questions: resident memory and open descriptors of every process, and their slopes.

    python tests/soak/long.py [--minutes 30] [--members 5]

The slope is that of a straight line through the second half of the samples, one every few seconds: by then the buffers
for repair are full. Flat means at most 1 MB in ten minutes, and no descriptor more. Nobody is killed: how many
rounds and questions went without somebody is counted all the same, since on a busy machine a member can look dead.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter

import numpy as np
import psutil
import torch
from cluster import Cluster, cluster
from rich.console import Console
from rich.table import Table

EVERY = 5.0
MOST_MB_IN_TEN_MINUTES = 1.0


async def rounds(members: Cluster, done: Counter[str]) -> None:
    """One plan of ten rounds after another."""
    while True:
        for record in await members.run_rounds(f"r{done['rounds']}", 10):
            done["rounds"] += 1
            done["rounds without somebody"] += set(record.weights) != set(members.specs)


async def questions(members: Cluster, done: Counter[str]) -> None:
    """One question after another."""
    while True:
        replies = await members.ask()
        done["questions"] += 1
        done["questions without somebody"] += set(replies.by_node) != set(members.specs)


async def run(minutes: float, count: int) -> bool:
    """Measures; whether all is flat."""
    taken: dict[str, list[tuple[float, float, int]]] = {}
    async with cluster(count) as members:
        done: Counter[str] = Counter()
        while set((await members.run_rounds(f"begin {time.monotonic()}", 1))[0].weights) != set(members.specs):
            await asyncio.sleep(0.5)  # the lead may not be linked with everybody yet
        work = [asyncio.create_task(rounds(members, done)), asyncio.create_task(questions(members, done))]
        processes = {"guest": psutil.Process()}
        processes |= {name: psutil.Process(process.pid) for name, process in members.processes.items()}
        began = time.monotonic()
        while (now := time.monotonic() - began) < 60 * minutes:
            for name, process in processes.items():
                sample = now, process.memory_info().rss / 2**20, process.num_fds()
                taken.setdefault(name, []).append(sample)
            ended, _ = await asyncio.wait(work, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                await task
        for task in work:
            task.cancel()
    told = ", ".join(f"{number:,} {what}" for what, number in sorted(done.items()))
    Console().print(f"{minutes:g} minutes of {count} members: {told}", highlight=False)
    return show(taken)


def show(taken: dict[str, list[tuple[float, float, int]]]) -> bool:
    """Prints a row a process; whether all is flat."""
    table = Table("process", "MB at the middle", "MB at the end", "MB in ten minutes", "descriptors", "at the end")
    fine = True
    for name, samples in taken.items():
        half = samples[len(samples) // 2 :]
        slope = 600 * float(np.polyfit([now for now, _, _ in half], [mb for _, mb, _ in half], 1)[0])
        fine &= slope <= MOST_MB_IN_TEN_MINUTES and half[-1][2] <= half[0][2]
        table.add_row(
            name, f"{half[0][1]:.1f}", f"{half[-1][1]:.1f}", f"{slope:+.2f}", str(half[0][2]), str(half[-1][2])
        )
    Console().print(table)
    return fine


def main() -> None:
    """Soaks, prints, and ends with 1 where something grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    raise SystemExit(not asyncio.run(run(arguments.minutes, arguments.members)))


if __name__ == "__main__":
    main()

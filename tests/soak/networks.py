"""Hosts in network namespaces: a link that is cut for five seconds, and a network that delays and loses.

    python tests/soak/networks.py [--members 5] [--cut 5] [--delay 0.05] [--loss 0.03] [--seed 0]    # root, iproute2

Every member and the guest have a namespace of their own, joined by a bridge, so that a cut looks to both ends as it
does on a machine whose cable is out: nothing breaks, nothing comes. The others must go on, and the member must come
back. Then `switch.py` takes the bridge's place, first without trouble: 10 rounds and 100 questions on each network.
Everybody lives and TCP repairs losses, so that whoever is missing was called lost in vain.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from cluster import Cluster, Host, cluster
from rich.console import Console
from rich.table import Table

BRIDGE, SWITCH = "fednet-bridge", Path(__file__).with_name("switch.py")
ROUNDS, QUESTIONS, SETTLE = 10, 100, 30.0  # seconds until all the heartbeats that are remembered are of this network
CONSOLE = Console(highlight=False, width=120)


def ip(*words: str) -> None:
    """Runs `ip`; ends with what it says where it cannot do it."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def network(names: tuple[str, ...]) -> Iterator[Mapping[str, Host]]:
    """A namespace for each name and one for the bridge between them."""
    spaces = {name: f"fednet-{name}" for name in names}
    ip("netns", "add", BRIDGE)  # refused while another run has it: then nothing of it is touched
    try:
        ip("-n", BRIDGE, "link", "add", "bridge", "up", "type", "bridge")
        for number, (name, space) in enumerate(spaces.items(), 1):
            ip("netns", "add", space)
            ip("-n", space, "link", "add", "eth", "type", "veth", "peer", "name", name, "netns", BRIDGE)
            ip("-n", BRIDGE, "link", "set", name, "master", "bridge", "up")
            ip("-n", space, "addr", "add", f"10.77.0.{number}/24", "dev", "eth")
            ip("-n", space, "link", "set", "eth", "up", "gso_max_segs", "1")  # frames as on a cable, see switch.py
            ip("-n", space, "link", "set", "lo", "up")
        yield {name: Host(f"10.77.0.{number}", spaces[name]) for number, name in enumerate(names, 1)}
    finally:
        for space in (BRIDGE, *spaces.values()):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


@contextmanager
def switched(names: tuple[str, ...], delay: float, loss: float, seed: int) -> Iterator[None]:
    """The switch instead of the bridge; at its end it says what it has done."""
    how = ("--delay", str(delay), "--loss", str(loss), "--seed", str(seed))
    process = subprocess.Popen(
        ["ip", "netns", "exec", BRIDGE, sys.executable, str(SWITCH), *names, *how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit("the switch did not start")
        for name in names:  # for a moment both carry: TCP forgets what comes twice, while an outage is noticed by all
            ip("-n", BRIDGE, "link", "set", name, "nomaster")
        yield
        for name in names:
            ip("-n", BRIDGE, "link", "set", name, "master", "bridge")
    finally:
        CONSOLE.print(f"the switch, {delay:g} s and {loss:.0%}: {process.communicate()[0].strip()}")


@contextmanager
def overheard() -> Iterator[Callable[[], int]]:
    """Counts how often anybody has called anybody lost, by what everybody says to stderr, which is shown at the end."""
    ours = os.dup(2)
    with tempfile.NamedTemporaryFile("a+", prefix="fednet-soak-") as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield lambda: len(re.findall(r"^\S+ lost: ", Path(heard.name).read_text(), re.MULTILINE))
        finally:
            os.dup2(ours, 2)
            sys.stderr.write(Path(heard.name).read_text())


async def answered(members: Cluster, name: str, *, present: bool) -> float:
    """Asks until an answer of a member is there, or is missing; returns when."""
    while (name in (await members.ask()).by_node) is not present:
        await asyncio.sleep(0.02)
    return time.monotonic()


async def cut(members: Cluster, name: str, seconds: float) -> str:
    """Cuts a member's link for so long, asking and holding rounds all the while."""
    (before,) = await members.run_rounds("before", 1)
    ip("-n", BRIDGE, "link", "set", name, "down")
    began = time.monotonic()
    without = await answered(members, name, present=False) - began
    (during,) = await members.run_rounds("during", 1)
    round_took = time.monotonic() - began
    await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
    ip("-n", BRIDGE, "link", "set", name, "up")
    healed = time.monotonic()
    back = await answered(members, name, present=True) - healed
    for number in count():
        (after,) = await members.run_rounds(f"after-{number}", 1)
        if name in after.weights:  # the lead may hear of it a moment later than the guest
            break
    if name not in before.weights or name in during.weights:
        raise SystemExit(f"{name} had a part in the wrong rounds: {before}, {during}")
    return (
        f"{name}'s link cut for {seconds:g} s: first answer without it after {without:.2f} s, first round after "
        f"{round_took:.2f} s; its first answer {back:.2f} s after the cut has healed, its first round "
        f"{time.monotonic() - healed:.2f} s"
    )


async def measure(members: Cluster, key: str, alarms: Callable[[], int]) -> dict[str, str]:
    """Rounds and questions on the network as it is now; a column of the table."""
    before = alarms()
    await asyncio.sleep(SETTLE)
    settled, began = alarms(), time.monotonic()
    records = await members.run_rounds(key, ROUNDS)
    held, took, replies = time.monotonic() - began, [], []
    for _ in range(QUESTIONS):
        asked = time.monotonic()
        replies.append(await members.ask())
        took.append(time.monotonic() - asked)
    return {
        "seconds of a round": f"{held / ROUNDS:.2f}",
        "... from opening to close, worst": f"{max(record.seconds for record in records):.2f}",
        "called lost in rounds": missed(record.lost for record in records),
        "seconds of a question": f"{statistics.median(took):.3f}, worst {max(took):.3f}",
        "answered by everybody": f"{sum(len(reply.by_node) == len(members.specs) for reply in replies)} of {QUESTIONS}",
        "called lost in answers": missed(reply.lost for reply in replies),
        "losses that anybody noted, at first": f"{settled - before} in {SETTLE:g} s",
        "... while measured": f"{alarms() - settled} in {time.monotonic() - began:.0f} s",
    }


def missed(lost: Iterable[Mapping[str, str]]) -> str:
    """Who was called lost, and in how many results."""
    times = Counter(name for names in lost for name in names)
    return ", ".join(f"{name} {number} times" for name, number in sorted(times.items())) or "nobody"


async def run(arguments: argparse.Namespace) -> None:
    """The bridge, the cut, the switch, and the switch that makes trouble."""
    names = (*(f"a{place}" for place in range(1, arguments.members + 1)), "guest")
    columns: dict[str, dict[str, str]] = {}
    with network(names) as hosts, overheard() as alarms:
        async with cluster(arguments.members, hosts) as members:
            columns["bridge"] = await measure(members, "bridge", alarms)
            CONSOLE.print(await cut(members, names[-2], arguments.cut))
            with switched(names, 0.0, 0.0, arguments.seed):
                columns["switch"] = await measure(members, "switch", alarms)
            with switched(names, arguments.delay, arguments.loss, arguments.seed):
                columns["switch, trouble"] = await measure(members, "trouble", alarms)
    table = Table("", *columns)
    for what in columns["bridge"]:
        table.add_row(what, *(column[what] for column in columns.values()))
    CONSOLE.print(table)


def main() -> None:
    """Cuts, troubles and prints; says why not where namespaces are not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--cut", type=float, default=5.0, help="seconds")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds, one way")
    parser.add_argument("--loss", type=float, default=0.03, help="the share of the frames")
    parser.add_argument("--seed", type=int, default=0, help="of the losses")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # both leave nothing behind
    try:
        ip("netns", "add", "fednet-probe")
        ip("netns", "del", "fednet-probe")
    except (OSError, SystemExit) as error:
        CONSOLE.print(f"skipped: network namespaces are not allowed here ({error})")
        return
    asyncio.run(run(arguments))


if __name__ == "__main__":
    main()

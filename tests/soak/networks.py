"""Hosts in network namespaces: a link is cut for five seconds; loss and delay on every link where the kernel can.

    python tests/soak/networks.py [--members 5] [--cut 5]         # needs root and iproute2

Every member and the guest have a namespace of their own, joined by a bridge, so that a cut looks to both ends as it
does on a machine whose cable is out: nothing breaks, nothing comes. The others must go on, and the member must come
back.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count

import torch
from cluster import Cluster, Host, cluster
from rich.console import Console

TROUBLE = ("delay", "50ms", "loss", "3%")


def ip(*words: str) -> None:
    """Runs `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def network(names: tuple[str, ...]) -> Iterator[Mapping[str, Host]]:
    """A namespace for each name and one for the bridge between them."""
    spaces = {name: f"fednet-{name}" for name in names}
    try:
        ip("netns", "add", "fednet-bridge")
        ip("-n", "fednet-bridge", "link", "add", "bridge", "up", "type", "bridge")
        for number, (name, space) in enumerate(spaces.items(), 1):
            ip("netns", "add", space)
            ip("-n", space, "link", "add", "eth", "type", "veth", "peer", "name", name, "netns", "fednet-bridge")
            ip("-n", "fednet-bridge", "link", "set", name, "master", "bridge", "up")
            ip("-n", space, "addr", "add", f"10.77.0.{number}/24", "dev", "eth")
            ip("-n", space, "link", "set", "eth", "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield {name: Host(f"10.77.0.{number}", spaces[name]) for number, name in enumerate(names, 1)}
    finally:
        for space in ("fednet-bridge", *spaces.values()):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def disturb(names: tuple[str, ...]) -> str:
    """Delays and loses on every link; returns why it cannot be done, or nothing."""
    for name in names:
        words = ["ip", "netns", "exec", "fednet-bridge", "tc", "qdisc", "add", "dev", name, "root", "netem", *TROUBLE]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip()
    return ""


async def answered(members: Cluster, name: str, *, present: bool) -> float:
    """Asks until an answer of a member is there, or is missing; returns when."""
    while (name in (await members.ask()).by_node) is not present:
        await asyncio.sleep(0.02)
    return time.monotonic()


async def cut(members: Cluster, name: str, seconds: float) -> str:
    """Cuts a member's link for so long, asking and holding rounds all the while."""
    (before,) = await members.convene("before", 1)
    ip("-n", "fednet-bridge", "link", "set", name, "down")
    began = time.monotonic()
    without = await answered(members, name, present=False) - began
    (during,) = await members.convene("during", 1)
    round_took = time.monotonic() - began
    await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
    ip("-n", "fednet-bridge", "link", "set", name, "up")
    healed = time.monotonic()
    back = await answered(members, name, present=True) - healed
    for number in count():
        (after,) = await members.convene(f"after-{number}", 1)
        if name in after.weights:  # the lead may hear of it a moment later than the guest
            break
    if name not in before.weights or name in during.weights:
        raise SystemExit(f"{name} had a part in the wrong rounds: {before}, {during}")
    return (
        f"{name}'s link cut for {seconds:g} s: first answer without it after {without:.2f} s, first round after "
        f"{round_took:.2f} s; its first answer {back:.2f} s after the cut has healed, its first round "
        f"{time.monotonic() - healed:.2f} s"
    )


async def run(size: int, seconds: float) -> None:
    """The cut, and then loss and delay."""
    names = tuple(f"a{place}" for place in range(1, size + 1))
    show = Console().print
    with network((*names, "guest")) as hosts:
        async with cluster(size, hosts) as members:
            await asyncio.sleep(8)  # until everybody knows everybody's heartbeats
            show(await cut(members, names[-1], seconds), highlight=False)
            if why := disturb((*names, "guest")):
                show(f"loss and delay skipped: {why}", highlight=False)
                return
            await asyncio.sleep(8)
            began = time.monotonic()
            records = await members.convene("troubled", 10)
            lost = {name for record in records for name in record.lost}
            took = (time.monotonic() - began) / len(records)
            what = f"{' '.join(TROUBLE)}: {len(records)} rounds, {took:.2f} s each"
            show(f"{what}, lost: {lost or 'nobody'}", highlight=False)


def main() -> None:
    """Cuts and prints; says why not where namespaces are not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--cut", type=float, default=5.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        ip("netns", "add", "fednet-probe")
        ip("netns", "del", "fednet-probe")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        Console().print(f"skipped: network namespaces are not allowed here ({reason})", highlight=False)
        return
    asyncio.run(run(arguments.members, arguments.cut))


if __name__ == "__main__":
    main()

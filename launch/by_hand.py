"""One node in this very process, started by hand from a shell, so that addresses alone make a cluster.

Knows how a single node is planned and what is said on the terminal; what the node does is `nodes.run`'s.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from launch import report, results
from launch.config import MONITOR, SAMPLER, Loaded, load
from launch.devices import inventory
from launch.display import Board
from launch.errors import INTERRUPTED, ConfigError, Problem, RunError
from launch.plan import check_loopback, single
from launch.runfolder import joined
from launch.screen import shown
from nodes.spec import NodeSpec


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        listen: the address that it binds.
        advertise: the address that others reach it at, if it is another.
        join: peers to join through.
        device: overrides the configuration's.
        insecure: allow addresses beyond loopback without keys.
    """

    listen: str
    advertise: str | None = None
    join: tuple[str, ...] = ()
    device: str | None = None
    insecure: bool = False


def work(
    loaded: Loaded, role: Literal["client", "guest"], name: str | None, place: Place, *, out: Path, console: Console
) -> None:
    """Runs a client until it is told to stop, or a guest until its work is done; the guest's results are printed.

    Raises:
        ConfigError: the node does not fit the configuration or this machine.
        NodeError: it cannot listen, or its peers do not come.
        MethodError: what it should compute cannot be computed.
        RunError: a guest was interrupted.
    """
    if role == "client" and name is None:
        known = ", ".join(loaded.cluster.entries)
        raise ConfigError(Problem("--name", f"a client of the configuration ({known})", "nothing"))
    from nodes.run import run  # noqa: PLC0415 - imports torch, which other commands need not wait for

    spec = single(
        loaded,
        name or SAMPLER,
        role,
        inventory(),
        out / loaded.cluster.name,
        listen=place.listen,
        join=place.join,
        advertise=place.advertise,
        device=place.device,
        insecure=place.insecure,
    )
    folder = joined(spec.folder, loaded.dump())
    try:
        run(spec)
    except KeyboardInterrupt:
        raise RunError("interrupted", INTERRUPTED) from None
    if role == "guest":
        found = results.read(folder)
        console.print(results.table(found, console.width))
        console.print(f"report: {report.write(folder)}", highlight=False, soft_wrap=True)


def watch(run: str, name: str | None, place: Place, console: Console) -> None:
    """Shows what happens in a run, until Ctrl-C.

    Raises:
        ConfigError: there is no peer to join through, or the address is not loopback.
        NodeError: it cannot listen.
    """
    if not place.join:
        raise ConfigError(Problem("--join", "the address of a peer", "nothing"))
    check_loopback(place.listen, place.insecure, Problem("--listen"))
    spec = NodeSpec(
        name=name or MONITOR,
        role="monitor",
        run=run,
        listen=place.listen,
        advertise=place.advertise,
        join=place.join,
        insecure=place.insecure,
    )
    asyncio.run(_watch(spec, console))


async def _watch(spec: NodeSpec, console: Console) -> None:
    from nodes.monitor import Monitor  # noqa: PLC0415 - imports torch, which other commands need not wait for

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    board = Board(spec.run, (), time.time(), open_to_all=True)
    async with Monitor(spec, board.hear), shown(board, console):
        await stop.wait()


def draw(
    place: Place, labels: tuple[int, ...] | None, count: int, *, rule: str, sampler: str, seed: int, output: Path
) -> None:
    """Asks a cluster for samples, as a guest, and writes them as one image.

    Raises:
        ConfigError: the address is not loopback, or the image's folder does not exist.
        NodeError: nobody answers.
        MethodError: the cluster cannot draw what was asked for.
    """
    check_loopback(place.listen, place.insecure, Problem("--listen"))
    if not output.parent.is_dir():
        raise ConfigError(Problem(f"--output {output}", "a file in a folder that exists"))
    from nodes.sample import sample  # noqa: PLC0415 - imports torch, which other commands need not wait for

    sample(
        join=place.join,
        listen=place.listen,
        labels=labels,
        count=count,
        rule=rule,
        sampler=sampler,
        seed=seed,
        output=output,
        insecure=place.insecure,
    )


def numbers(text: str) -> tuple[int, ...]:
    """Label numbers as an operator writes them: `0-9`, `1,3,7` or `0-2,8`.

    Raises:
        ConfigError: that is not what was written.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            raise ConfigError(Problem(f"--labels {text}", "numbers and ranges such as 0-9 or 1,3,7", repr(part)))
        found += range(int(first), int(last) + 1)
    return tuple(found)


def run_of(config: str | None, overrides: Sequence[str], run: str | None) -> str:
    """The name of the run that a monitor watches: said aloud, or that of a configuration.

    Raises:
        ConfigError: neither was given.
    """
    if run is not None:
        return run
    if config is None:
        raise ConfigError(Problem("--run", "the name of the run to watch (or --config)", "nothing"))
    return load(config, overrides).cluster.name

"""One node in this very process, started by hand from a shell, so that addresses alone make a cluster.

Knows how a single node is planned and what is said on the terminal; what the node does is `nodes.run`'s.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.status import Status

from launch import report, results
from launch.config import MONITOR, SAMPLER, Loaded
from launch.devices import inventory
from launch.display import Board
from launch.errors import INTERRUPTED, ConfigError, Problem, RunError
from launch.plan import check_listen, single
from launch.runfolder import joined
from launch.screen import shown
from nodes.spec import NodeSpec, Timing

if TYPE_CHECKING:
    from fednet.conversations import Ask, Watch


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


def watch(name: str | None, place: Place, console: Console) -> None:
    """Shows what happens in a run, until Ctrl-C.

    Raises:
        ConfigError: there is no peer to join through, or the address is not loopback.
        NodeError: it cannot listen.
    """
    if not place.join:
        raise ConfigError(Problem("--join", "the address of a peer", "nothing"))
    check_listen(place.listen, place.insecure, Problem("--listen"))
    spec = NodeSpec(
        name=name or MONITOR,
        role="monitor",
        run="",
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
    board = Board("monitor", (), time.time(), open_to_all=True)
    async with Monitor(spec, board.hear), shown(board, console):
        await stop.wait()


def draw(place: Place, labels: tuple[int, ...] | None, output: Path, console: Console, **wish: Any) -> None:
    """Asks a cluster for samples, as a guest, and writes them as one image.

    Args:
        place: where the guest stands, and whom it joins through.
        labels: which labels, or None.
        output: the image to write.
        console: hears of the progress and of who contributed.
        wish: the rest of the method's `Request`: count, rule, sampler, guidance, seed.

    Raises:
        ConfigError: the address is not loopback, or the image's folder does not exist.
        NodeError: nobody answers.
        MethodError: the cluster cannot draw what was asked for.
        RunError: it was interrupted.
    """
    check_listen(place.listen, place.insecure, Problem("--listen"))
    if not output.parent.is_dir():
        raise ConfigError(Problem(f"--output {output}", "a file in a folder that exists"))
    from fednet.images import save_png  # noqa: PLC0415 - imports torch, as the next two
    from fednet.methods.score_inference.request import Drawing, Request, sample  # noqa: PLC0415
    from nodes.run import run_visit  # noqa: PLC0415

    name = f"guest-{secrets.token_hex(4)}"
    spec = NodeSpec(name, "guest", "", place.listen, join=place.join, timing=PATIENCE, insecure=place.insecure)
    with console.status(f"looking for the cluster at {', '.join(place.join)}") as status:

        def job(ask: Ask, cards: Mapping[str, str], watch: Watch) -> Drawing:
            return sample(ask, cards, Request(labels, **wish), _Shown(watch, status))

        try:
            drawing = run_visit(spec, job)
        except KeyboardInterrupt:
            raise RunError("interrupted", INTERRUPTED) from None
    save_png(output, drawing.picture)
    for note in drawing.notes:
        console.print(note, style="dim", highlight=False)


PATIENCE = Timing(ready=20.0)
"""A visitor does not wait for a cluster that is still training."""


class _Shown:
    """A watch that also says on the terminal how far the samples are."""

    def __init__(self, watch: Watch, status: Status) -> None:
        self._watch, self._status = watch, status

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self._watch.report(phase, done, total, **values)
        self._status.update(f"{phase} {100 * done // max(total, 1)}%, {values.get('answered', 0):.0f} answer")


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

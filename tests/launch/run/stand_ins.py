"""Processes that play nodes, for tests of the supervisor: each does what its name says, told apart by `site`.

Clients write a byte into the run folder's pipe `ready` once they stand, and the test one for each that has died; the
guest reads as many as there are clients and then does its own part. Who dies waits for a byte in `heard` first, which
the listener writes once it has told that everybody is ready. Run as a script, this is a whole launcher, which writes
a byte into `up` for each node whose number is in the file `pids`: `python stand_ins.py FOLDER PART...`.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fednet.errors import DataError
from launch.engines.local import LocalEngine
from launch.run.events import make_event
from launch.run.fork_server import start_fork_server
from launch.run.plan import LaunchPlan
from launch.run.supervisor import Supervisor
from nodes.errors import PeersMissing
from nodes.spec import NodeSpec

TARGET = "stand_ins:play"
WARM = ("launch.run.child", "launch.run.supervisor", "launch.engines.local")
"""What the stand-ins import, once in the fork server and not in each of them."""
LONGEST = 20.0
PATIENCE = 10 * LONGEST
"""Seconds that a launcher of its own waits for who does not end when asked to: longer than any test waits for it."""


def play(spec: NodeSpec) -> None:
    PARTS[spec.site["part"]](spec)


def waits(spec: NodeSpec) -> None:
    """Ends well when it is asked to."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    says_ready(spec)
    signal.sigwait({signal.SIGTERM})


def is_stubborn(spec: NodeSpec) -> None:
    """Does not end when it is asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    says_ready(spec)
    while True:
        signal.pause()


def has_no_data(spec: NodeSpec) -> None:
    is_heard(spec)
    raise DataError("no data at /nowhere")


def is_faulty(spec: NodeSpec) -> None:
    is_heard(spec)
    raise ZeroDivisionError("an oversight")


def fills_the_disk(spec: NodeSpec) -> None:
    is_heard(spec)
    raise ExceptionGroup("work", [OSError(28, "No space left on device", "/full")])


def kills_itself(spec: NodeSpec) -> None:
    is_heard(spec)
    os.write(1, b"I can no longer\n")
    os.kill(os.getpid(), signal.SIGKILL)


def gives_up(spec: NodeSpec) -> None:
    is_heard(spec)


def finishes(spec: NodeSpec) -> None:
    hears_all(spec)


def finds_nobody(spec: NodeSpec) -> None:
    hears_all(spec)
    raise PeersMissing({"a1": "never came"}, 3.0)


def tells_and_waits(spec: NodeSpec) -> None:
    """Tells the test that everybody stands, and works on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    hears_all(spec)
    write(spec.folder / "up")
    signal.sigwait({signal.SIGTERM})


PARTS = {
    part.__name__: part
    for part in (
        waits,
        is_stubborn,
        has_no_data,
        is_faulty,
        fills_the_disk,
        kills_itself,
        gives_up,
        finishes,
        finds_nobody,
        tells_and_waits,
    )
}


def says_ready(spec: NodeSpec) -> None:
    write(spec.folder / "ready")


def is_heard(spec: NodeSpec) -> None:
    read(spec.folder / "heard", 1)


def hears_all(spec: NodeSpec) -> None:
    read(spec.folder / "ready", spec.count)


def write(pipe: Any) -> None:
    descriptor = os.open(pipe, os.O_RDWR)
    os.write(descriptor, b".")
    os.close(descriptor)


def read(pipe: Any, count: Any) -> None:
    """Reads bytes from a named pipe, or fails once it has waited too long for one."""
    descriptor = os.open(pipe, os.O_RDWR)
    for _ in range(count):
        there, _, _ = select.select([descriptor], [], [], LONGEST)
        assert there, f"nobody wrote into {pipe}"
        os.read(descriptor, 1)
    os.close(descriptor)


def plan(folder: Path, *parts: Any) -> Any:
    """A plan of clients that play parts, the guest's being the last."""
    for pipe in ("ready", "heard", "up"):
        if not (folder / pipe).exists():
            os.mkfifo(folder / pipe)
        os.open(folder / pipe, os.O_RDWR)  # a pipe that nobody has open forgets what was written
    *clients, guest = parts

    def spec(name: Any, role: Any, part: Any) -> Any:
        site = {"part": part}
        return NodeSpec(name, role, "test", "ipc://unused", count=len(clients), folder=folder, site=site)

    nodes = [spec(f"a{number}", "client", part) for number, part in enumerate(clients, 1)]
    return LaunchPlan(tuple(nodes), spec("driver", "guest", guest), spec("monitor", "monitor", ""))


@asynccontextmanager
async def listening(spec: NodeSpec, tell: Any) -> Any:
    """A listener that hears at once that all clients are ready."""
    for number in range(1, spec.count + 1):
        tell(make_event(f"a{number}", "ready"))
        write(spec.folder / "heard")
    yield SimpleNamespace(address="ipc://unused")


@asynccontextmanager
async def silent(spec: NodeSpec, tell: Any) -> Any:
    """A listener that hears nothing, and lets who wants to die do so."""
    for _ in range(spec.count):
        write(spec.folder / "heard")
    yield SimpleNamespace(address="ipc://unused")


def supervisor(planned: Any, tell: Any, **options: Any) -> Any:
    start_fork_server(WARM)
    folder, listener = planned.guest.folder, options.pop("listener", listening)
    engine = options.pop("engine", LocalEngine)(folder / "logs", folder / "files", target=TARGET)
    return Supervisor(planned, tell, listener, engine, **options)


def main(folder: Path, *parts: str) -> None:
    pids = (folder / "pids").open("a")

    def tell(event: Any) -> None:
        if event.kind == "started":
            print(event.data["pid"], file=pids, flush=True)
            write(folder / "up")

    outcome = asyncio.run(supervisor(plan(folder, *parts), tell, patience=PATIENCE).run())
    sys.exit(outcome.code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

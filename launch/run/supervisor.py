"""Supervises a plan's processes: starts them, reports their ends, and leaves none behind.

A client's death is reported and the others go on, unless it dies before it was ready: it is not restarted, the driver
would wait for it in vain, and the run ends. The driver's end is that of the run. Ctrl-C, SIGTERM and SIGHUP ask all
nodes to stop, a second one does not wait for them. Clients that are not ready in time end the run and are named. Knows
processes, signals and logs; messages of nodes reach it only through the monitor, without which it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from fednet.errors import DiskFull
from launch.errors import (
    EXIT_CODES,
    EXIT_DISK_FULL,
    EXIT_INTERNAL_ERROR,
    EXIT_OK,
    EXIT_PEER_ERROR,
)
from launch.run import fork_server
from launch.run.child import exit_message
from launch.run.events import RUN_NODE, Event, EventListener, make_event
from launch.run.plan import LaunchPlan
from nodes.errors import PeersMissing
from nodes.signals import StopSignal, told
from nodes.spec import NodeSpec

log = logging.getLogger(__name__)

EventSource = Callable[[NodeSpec, EventListener], AbstractAsyncContextManager[Any]]
"""Makes the listener on the bus that reports events: `nodes.monitor.Monitor`."""

NODE_TARGET = "nodes.run:run"
STOP_TIMEOUT = 5.0
"""Seconds between the request to end and a kill."""


@dataclass(frozen=True)
class NodeExit:
    """The unexpected end of a node's process.

    Attributes:
        node: its name.
        code: its exit code, or minus the signal that killed it.
        message: its last message.
    """

    node: str
    code: int
    message: str

    @property
    def cause(self) -> str:
        """The code as text."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"was killed by signal {-self.code}"

    @property
    def family(self) -> int:
        """The exit code to pass on; 1 for an end that no family of errors explains."""
        explained = {code for _, code in EXIT_CODES}
        return self.code if self.code in explained or self.code > 128 else EXIT_INTERNAL_ERROR

    def __str__(self) -> str:
        return f"{self.node} {self.cause}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        code: the exit code.
        reason: why, where the code is not 0.
        exits: the nodes that failed on the way, in order.
    """

    code: int
    reason: str = ""
    exits: tuple[NodeExit, ...] = ()


class Supervisor:
    """Supervises the processes of one run; use it once."""

    def __init__(
        self,
        plan: LaunchPlan,
        tell: EventListener,
        listener: EventSource,
        *,
        target: str = NODE_TARGET,
        serve: bool = False,
        patience: float = STOP_TIMEOUT,
    ) -> None:
        self._plan = plan
        self._tell = tell
        self._listener = listener
        self._target = target
        self._serve = serve
        self._patience = patience
        self._alive: dict[str, ForkServerProcess] = {}
        self._deaths: list[NodeExit] = []
        self._awaited = {spec.name for spec in plan.clients}  # not known to be ready yet
        self._over: asyncio.Future[tuple[int, str]]
        self._changed: asyncio.Event
        self._stopping = False
        self._hurry = False

    async def run(self) -> RunOutcome:
        """Starts all nodes, waits for the end, and leaves no process behind."""
        self._over = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()
        with told(self.interrupt):
            try:
                async with AsyncExitStack() as stack:
                    overdue = asyncio.get_running_loop().call_later(self._plan.guest.timing.ready, self._not_ready)
                    stack.callback(overdue.cancel)
                    await self._start(self._plan.clients)
                    await self._listen(stack)
                    await self._start((self._plan.guest,))
                    code, reason = await self._over
            finally:
                await self._stop()
        self._tell(make_event(RUN_NODE, "over", code=code, reason=reason))
        return RunOutcome(code, reason, tuple(self._deaths))

    def log_of(self, name: str) -> Path:
        """The log file of a node's process."""
        return self._plan.guest.folder / "logs" / f"{name}.log"

    async def _start(self, specs: Sequence[NodeSpec]) -> None:
        for spec in specs:
            if self._over.done():
                return
            process = fork_server.node_process(self._target, spec, self.log_of(spec.name))
            await asyncio.shield(asyncio.to_thread(process.start))
            self._alive[spec.name] = process
            asyncio.get_running_loop().add_reader(process.sentinel, self._exited, spec.name)
            self._tell(make_event(spec.name, "started", pid=process.pid, device=spec.device, role=spec.role))

    async def _listen(self, stack: AsyncExitStack) -> None:
        """Starts the monitor; a run that cannot be monitored goes on."""
        if self._over.done():
            return
        try:
            await stack.enter_async_context(self._listener(self._plan.monitor, self._record))
        except Exception as error:
            log.exception("the monitor could not start")
            self._awaited.clear()
            self._tell(make_event(self._plan.monitor.name, "unmonitored", reason=str(error)))

    def _record(self, event: Event) -> None:
        if event.kind == "ready":
            self._awaited.discard(event.node)
        self._tell(event)

    def _exited(self, name: str) -> None:
        process = self._alive.pop(name)
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        code = process.exitcode if process.exitcode is not None else EXIT_INTERNAL_ERROR
        process.close()
        self._changed.set()
        if self._stopping:
            self._tell(make_event(name, "stopped", code=code))
            return
        death = NodeExit(name, code, self._message(name, code)) if code != EXIT_OK else None
        if death:
            self._deaths.append(death)
        self._handle_exit(name, death)
        more = {"cause": death.cause, "message": death.message} if death else {}
        self._tell(make_event(name, "died" if death else "ended", code=code, **more))

    def _message(self, name: str, code: int) -> str:
        """The last message of a node; of one that met a full disk its log may have none."""
        if code == EXIT_DISK_FULL:
            return str(DiskFull(str(self._plan.guest.folder)))
        return exit_message(self.log_of(name))

    def _handle_exit(self, name: str, death: NodeExit | None) -> None:
        """Ends the run if the end of this node is the run's, or its disk is full, which is everybody's here."""
        if name == self._plan.guest.name:
            if death:
                self._end(death.family, str(death))
            elif not self._serve:
                self._end(EXIT_OK)
        elif name in self._awaited or (death and death.code == EXIT_DISK_FULL):
            self._end(
                *((death.family, str(death)) if death else (EXIT_PEER_ERROR, f"{name} ended before it was ready"))
            )
        elif not any(spec.name in self._alive for spec in self._plan.clients):
            self._end(*self._all_gone())

    def _all_gone(self) -> tuple[int, str]:
        """The code and the reason when no client is left: those of the first failure, if it has any."""
        if not self._deaths:
            return EXIT_PEER_ERROR, "every client has ended"
        first = self._deaths[0]
        return first.family if first.code > 0 else EXIT_PEER_ERROR, f"no client is left; {first}"

    def fail(self, error: DiskFull) -> None:
        """Ends the run: the launcher itself cannot go on."""
        self._end(EXIT_DISK_FULL, str(error))

    def _not_ready(self) -> None:
        """Ends a run whose clients have not become ready in the time that they have for it."""
        if self._awaited:
            waited = self._plan.guest.timing.ready
            states = {name: "started" if name in self._alive else "not started" for name in self._awaited}
            self._end(EXIT_PEER_ERROR, f"{PeersMissing(states, waited)} (`bus.timing.ready` is the limit)")

    def _end(self, code: int, reason: str = "") -> None:
        if not self._over.done():
            self._over.set_result((code, reason))

    async def _stop(self) -> None:
        """Asks every process to end, and ends those that do not."""
        self._stopping = True
        for process in self._alive.values():
            process.terminate()
        await self._emptied(self._patience)
        self._hurry = False
        for name, process in list(self._alive.items()):
            log.warning("%s did not end within %.0f s and is killed", name, self._patience)
            _kill(process)
        await self._emptied(self._patience)

    async def _emptied(self, patience: float) -> None:
        """Waits until no process is left, a second interrupt, or the timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._alive and not self._hurry:
                    self._changed.clear()
                    await self._changed.wait()

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ends the run as a signal does; a second time does not wait until the nodes have ended."""
        if self._stopping:
            self._hurry = True
            self._changed.set()
        served = self._serve and self._plan.guest.name not in self._alive and not self._deaths
        stop = StopSignal(number)
        self._end(EXIT_OK if served else stop.exit_code, "" if served else str(stop))


def _kill(process: ForkServerProcess) -> None:
    """Kills a process with all that it has started, which is its whole session."""
    assert process.pid is not None  # noqa: S101 - it was started
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it had not left our session yet
        process.kill()

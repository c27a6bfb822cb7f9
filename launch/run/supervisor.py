"""Supervises a plan's nodes: has engines place them, reports their ends, and leaves none behind.

All join through the monitor, which listens in this process, so that its address is the only one that is handed out and
that a node which is started again finds the others. A client's death is reported and the others go on, unless it dies
before it was ready: the driver would wait for it in vain, and the run ends. Where the configuration has restarts it is
placed again, under its name and as its next incarnation. The driver's end is that of the run. Ctrl-C, SIGTERM and
SIGHUP ask all nodes to stop, a second one does not wait for them. Clients that are not ready in time end the run and
are named. Knows handles of engines and signals; messages of nodes reach it only through the monitor.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fednet.errors import DiskFull
from launch.engines.interface import Engine, Handle, Hint, reached_at
from launch.errors import (
    EXIT_CONFIG_ERROR,
    EXIT_DISK_FULL,
    EXIT_INTERNAL_ERROR,
    EXIT_METHOD_ERROR,
    EXIT_OK,
    EXIT_PEER_ERROR,
    ConfigError,
)
from launch.run.child import exit_message
from launch.run.events import RUN_NODE, Event, EventListener, make_event
from launch.run.outcome import NodeExit, RunOutcome
from launch.run.plan import LaunchPlan
from nodes.errors import PeersMissing
from nodes.signals import StopSignal, told
from nodes.spec import NodeSpec

log = logging.getLogger(__name__)


class Listening(Protocol):
    """A listener on the bus that others join through."""

    @property
    def address(self) -> str:
        """Where it listens."""


EventSource = Callable[[NodeSpec, EventListener], AbstractAsyncContextManager[Listening]]
"""Makes the listener on the bus that reports events: `nodes.monitor.Monitor`."""

STOP_TIMEOUT = 5.0
"""Seconds between the request to end and a kill."""

_LASTING = frozenset({EXIT_CONFIG_ERROR, EXIT_METHOD_ERROR, EXIT_DISK_FULL})
"""What a node has ended with that would end it again."""


class Supervisor:
    """Supervises the nodes of one run; use it once.

    Args:
        plan: the nodes.
        tell: hears what happens.
        listener: listens on the bus.
        engine: places the clients.
        home: places the guest; None: the same engine.
        hints: where the configuration wants each client.
        restarts: how many times each client is started again.
        serve: whether the clients stay when the guest has done its job.
        patience: seconds between the request to end and a kill.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        tell: EventListener,
        listener: EventSource,
        engine: Engine,
        *,
        home: Engine | None = None,
        hints: Mapping[str, Hint] | None = None,
        restarts: int = 0,
        serve: bool = False,
        patience: float = STOP_TIMEOUT,
    ) -> None:
        self._plan = plan
        self._tell = tell
        self._listener = listener
        self._engine, self._home = engine, home or engine
        self._hints = hints or {}
        self._serve = serve
        self._patience = patience
        self._placed: dict[str, NodeSpec] = {}
        self._alive: dict[str, Handle] = {}
        self._lives = dict.fromkeys((spec.name for spec in plan.clients), restarts)
        self._restarting: set[str] = set()
        self._works: set[asyncio.Task[None]] = set()
        self._deaths: list[NodeExit] = []
        self._awaited = {spec.name for spec in plan.clients}  # not known to be ready yet
        self._heard = False  # whether the monitor has heard anybody: a network may not let it
        self._over: asyncio.Future[tuple[int, str]]
        self._changed: asyncio.Event
        self._stopping = False
        self._hurry = False

    async def run(self) -> RunOutcome:
        """Starts all nodes, waits for the end, and leaves no process behind.

        Raises:
            ConfigError: the nodes cannot be placed.
            NodeError: the monitor cannot listen.
        """
        self._over = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()
        with told(self.interrupt):
            async with AsyncExitStack() as engines:
                try:
                    async with AsyncExitStack() as listening:
                        code, reason = await self._until_over(self._start(engines, listening))
                finally:
                    await self._stop()
        self._tell(make_event(RUN_NODE, "over", code=code, reason=reason))
        return RunOutcome(code, reason, tuple(self._deaths))

    def log_of(self, name: str) -> Path:
        """The log file of a node's process."""
        return self._plan.guest.folder / "logs" / f"{name}.log"

    async def _until_over(self, start: Coroutine[None, None, None]) -> tuple[int, str]:
        """Starts everything and waits for the end, which may come first."""
        starting = asyncio.ensure_future(start)
        try:
            await asyncio.wait((starting, self._over), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            return await self._over
        finally:
            starting.cancel()
            await asyncio.wait((starting,))

    async def _start(self, engines: AsyncExitStack, listening: AsyncExitStack) -> None:
        """Connects the engines, listens, and places all nodes."""
        engine = await engines.enter_async_context(self._engine)
        home = engine if self._home is self._engine else await engines.enter_async_context(self._home)
        clients = [(spec, self._hints.get(spec.name, Hint())) for spec in self._plan.clients]
        await engine.reserve(clients)
        if engine.queues:  # the driver alone knows when they have started
            self._lives = {}
        else:
            limit = asyncio.get_running_loop().call_later(self._plan.guest.timing.ready, self._not_ready)
            listening.callback(limit.cancel)
        monitor = reached_at(self._plan.monitor, engine.address)
        seed = (await listening.enter_async_context(self._listener(monitor, self._record))).address
        join = (f"{monitor.name}@{seed}" if monitor.keys else seed,)
        for spec, hint in clients:
            await self._place(engine, replace(spec, join=join), hint)
        await self._place(home, replace(reached_at(self._plan.guest, engine.address), join=join), Hint())

    async def _place(self, engine: Engine, spec: NodeSpec, hint: Hint) -> None:
        if self._over.done():
            return
        handle = await engine.place(spec, hint)
        self._placed[spec.name], self._alive[spec.name] = spec, handle
        self._restarting.discard(spec.name)
        self._spawn(self._watch(spec.name, handle))
        self._tell(make_event(spec.name, "started", role=spec.role, **handle.details))

    async def _watch(self, name: str, handle: Handle) -> None:
        self._exited(name, await handle.wait())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._done)

    def _done(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("this is a fault of fednet", exc_info=error)
            self._end(EXIT_INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _record(self, event: Event) -> None:
        if event.kind == "ready":
            self._awaited.discard(event.node)
        self._tell(event)
        if not self._heard:  # who died before that was not ready, as can be told now
            self._heard = True
            for death in self._deaths:
                if death.node in self._awaited:
                    self._end(death.family, str(death))

    def _exited(self, name: str, code: int) -> None:
        del self._alive[name]
        self._changed.set()
        if self._stopping:
            self._tell(make_event(name, "stopped", code=code))
            return
        death = NodeExit(name, code, self._message(name, code)) if code != EXIT_OK else None
        if death and self._lives.get(name) and code not in _LASTING and not self._over.done():
            self._spawn(self._restart(name, death))
        else:
            self._bury(name, code, death)

    async def _restart(self, name: str, death: NodeExit) -> None:
        """Places a client again, with its place among the others and its name."""
        self._lives[name] -= 1
        self._restarting.add(name)
        about = {"cause": death.cause, "message": death.message, "left": self._lives[name]}
        self._tell(make_event(name, "restarting", code=death.code, **about))
        try:
            await self._place(self._engine, self._placed[name], self._hints.get(name, Hint()))
        except ConfigError as error:
            self._restarting.discard(name)
            self._bury(name, EXIT_CONFIG_ERROR, NodeExit(name, EXIT_CONFIG_ERROR, str(error)))

    def _bury(self, name: str, code: int, death: NodeExit | None) -> None:
        """A node has ended for good."""
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
        elif self._is_awaited(name) or (death and death.code == EXIT_DISK_FULL):
            self._end(
                *((death.family, str(death)) if death else (EXIT_PEER_ERROR, f"{name} ended before it was ready"))
            )
        elif not any(spec.name in {*self._alive, *self._restarting} for spec in self._plan.clients):
            self._end(*self._all_gone())

    def _is_awaited(self, name: str) -> bool:
        """Whether a client was not ready yet, as far as that can be heard here."""
        return name in self._awaited and (self._heard or not self._engine.queues)

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
        for handle in self._alive.values():
            handle.stop()
        await self._emptied(self._patience)
        self._hurry = False
        for name, handle in list(self._alive.items()):
            log.warning("%s did not end within %.0f s and is killed", name, self._patience)
            handle.stop(kill=True)
        await self._emptied(self._patience)
        for work in self._works:
            work.cancel()

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

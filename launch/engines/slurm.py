"""The engine `slurm`: all nodes, the driver too, in one job, whose script needs nobody (`launch.engines.slurm_script`).

The run's folder must be one that this machine and the job's share: node files, logs, results and how each node has
ended lie there. The launcher submits, watches, and cancels. Knows Slurm by its commands.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fednet.files import write_whole
from launch.config.engines import SlurmEngineConfig
from launch.config.schema import DRIVER, LoadedConfig
from launch.engines.interface import Capacity, Hint
from launch.engines.logs import NodeLog
from launch.engines.node_file import NodeFile
from launch.engines.slurm_script import LEASE, SEED, STOP, SlurmTask, render
from launch.errors import EXIT_INTERNAL_ERROR, ConfigError, ConfigProblem
from launch.run.folder import incarnation_file
from nodes.spec import NodeSpec

LOOK, ASK, RENEW = 0.5, 5.0, 3.0
"""Seconds between two looks for ends, two questions about the job, and two renewals of the lease."""

SETTLE = 10.0
"""Seconds for the script to end once all nodes have."""

SCRIPT = "job.sh"

ALIVE = frozenset({"", "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED"})
"""States of a job that is not over; empty where Slurm does not say."""


class SlurmHandle:
    """A node of the job."""

    def __init__(self, engine: SlurmEngine, name: str, log: Path) -> None:
        self.log, self.name = log, name
        self._engine = engine
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def details(self) -> Mapping[str, Any]:
        """That it is Slurm's."""
        return {"host": "slurm", "device": "auto"}

    def poll(self) -> int | None:
        """Its exit code, or minus the signal; None while it runs or waits."""
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        """Waits for its end."""
        return await asyncio.shield(self.ended)

    def stop(self, *, kill: bool = False) -> None:
        """Has the whole job end: a node of it does not end alone."""
        self._engine.cancel(kill=kill)


class SlurmEngine:
    """Submits one job for all nodes of a run.

    Args:
        loaded: the configuration, whose engine is `slurm`.
        folder: the run's folder.
    """

    queues = True

    def __init__(self, loaded: LoadedConfig, folder: Path) -> None:
        config = loaded.cluster.engine
        assert isinstance(config, SlurmEngineConfig)  # noqa: S101 - else this is not its engine
        self._loaded, self._config, self._folder = loaded, config, folder.absolute()
        self._clients: dict[str, SlurmTask] = {}
        self._handles: dict[str, SlurmHandle] = {}
        self._job = ""
        self._cancelled = False
        self._works: list[asyncio.Task[None]] = []
        self.address = config.address or socket.gethostname()

    async def __aenter__(self) -> Self:
        """Looks whether there is Slurm.

        Raises:
            ConfigError: there is not.
        """
        if shutil.which("sbatch") is None:
            raise self._refused("the command sbatch: a launch runs on a machine of the cluster", "none")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels what is left of the job, and removes the private keys."""
        for work in self._works:
            work.cancel()
        if self._job:
            await self._over()
        for file in self._place.glob("*.json"):
            file.unlink()

    async def capacity(self) -> Capacity:
        """The GPUs of the machines of the partition."""
        partition = [f"--partition={self._config.partition}"] if self._config.partition else []
        _, said, _ = await self._command("sinfo", "--noheader", "--Node", "--format=%N %G", *partition)
        return Capacity({name: _gpus(gres) for name, _, gres in (line.partition(" ") for line in said.splitlines())})

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Notes what the job must have; Slurm says at its submission whether it ever can."""
        restarts = self._config.restarts
        self._clients = {spec.name: SlurmTask(spec.name, hint.gpus, hint.host, restarts) for spec, hint in wanted}

    async def place(self, spec: NodeSpec, hint: Hint) -> SlurmHandle:
        """Writes a node's file; the driver, which comes last, completes the job, and it is submitted.

        Raises:
            ConfigError: Slurm refuses the job.
        """
        self.write(spec)
        handle = self._handles[spec.name] = SlurmHandle(self, spec.name, self._folder / "logs" / f"{spec.name}.log")
        if spec.name == DRIVER:
            script = self.render()
            self._renew()
            code, said, wrong = await self._command("sbatch", "--parsable", str(script))
            if code != 0:
                lines = [line.removeprefix("sbatch: error: ") for line in wrong.splitlines() if line.strip()]
                raise self._refused("a job that Slurm accepts", (lines or ["no reason given"])[-1])
            self._job = said.strip().partition(";")[0]
            self._works += [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._keep())]
        return handle

    def write(self, spec: NodeSpec) -> None:
        """Writes the node file of a node into the shared folder, where its owner alone can read it."""
        seed = self._place / SEED
        there = replace(
            spec, folder=self._folder, incarnation_file=incarnation_file(self._folder, spec.name),
            announce=seed if spec.name == DRIVER else None,
            device="cuda:0" if spec.device.startswith("cuda") else spec.device,
        )  # fmt: skip
        NodeFile.of(there, seed=None if spec.name == DRIVER else seed).write(self._place / f"{spec.name}.json")

    def render(self) -> Path:
        """Writes the script, once all node files are written; returns its path."""
        run, tasks = self._loaded.cluster.slug, (SlurmTask(DRIVER), *self._clients.values())
        text = render(run, self._config, tasks, self._folder, sys.executable)
        write_whole(self._place / SCRIPT, text.encode())
        return self._place / SCRIPT

    def cancel(self, *, kill: bool) -> None:
        """Has the job end, in order or at once; does not wait."""
        if self._job and (kill or not self._cancelled):
            self._cancelled = True
            (self._place / STOP).touch()
            how = [] if kill else ["--signal=TERM"]
            self._works.append(asyncio.ensure_future(self._cancel(*how)))

    @property
    def _place(self) -> Path:
        return self._folder / "slurm"

    async def _over(self) -> None:
        """Waits for a job that has nothing left to do, and cancels any other."""
        ended = all(handle.ended.done() for handle in self._handles.values())
        for _ in range(int(SETTLE / LOOK) if ended else 0):
            if await self._state() not in ALIVE:
                return
            await asyncio.sleep(LOOK)
        await self._command("scancel", self._job)

    async def _cancel(self, *how: str) -> None:
        if how and await self._state() == "PENDING":
            how = ()  # it has no steps yet that could be told
        await self._command("scancel", *how, self._job)

    async def _keep(self) -> None:
        """Renews the lease for as long as this process lives."""
        while True:
            await asyncio.sleep(RENEW)
            self._renew()

    def _renew(self) -> None:
        (self._place / LEASE).touch()

    async def _watch(self) -> None:
        """Tells each node's end, and that of the job."""
        asked = asyncio.get_running_loop().time()
        while not all(handle.ended.done() for handle in self._handles.values()):
            await asyncio.sleep(LOOK)
            self._note_ends()
            if asyncio.get_running_loop().time() - asked < ASK:
                continue
            asked = asyncio.get_running_loop().time()
            if (state := await self._state()) not in ALIVE:
                self._note_ends()
                self._bury(state)

    def _note_ends(self) -> None:
        for name, handle in self._handles.items():
            file = self._place / f"{name}.exit"
            if not handle.ended.done() and file.is_file():
                with suppress(ValueError):
                    code = int(file.read_text())
                    handle.ended.set_result(-(code - 128) if code > 128 else code)

    def _bury(self, state: str) -> None:
        """The job is over: so are all nodes of which nobody has said how they ended."""
        for handle in self._handles.values():
            if not handle.ended.done():
                NodeLog(handle.log).end(f"Slurm's job {self._job} is over: {state}")
                handle.ended.set_result(EXIT_INTERNAL_ERROR if state == "FAILED" else -signal.SIGKILL)

    async def _state(self) -> str:
        """The job's state; empty where Slurm does not answer just now."""
        code, said, wrong = await self._command("squeue", "--noheader", "--format=%T", f"--jobs={self._job}")
        if code != 0:
            return "GONE" if "Invalid job id" in wrong else ""
        return said.strip() or "GONE"

    async def _command(self, *command: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def _refused(self, expected: str, given: str) -> ConfigError:
        place = self._loaded.document.place(("engine",))
        return ConfigError(ConfigProblem(place.where, expected, given, place.line, "engine"))


def _gpus(gres: str) -> int:
    """The number of GPUs in a text such as `gpu:a100:4(S:0-1),shard:8`."""
    parts = [part.partition("(")[0].split(":") for part in gres.split(",")]
    return sum(int(part[-1]) for part in parts if part[0] == "gpu" and part[-1].isdigit())

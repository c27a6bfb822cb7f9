"""The engine `slurm`: all nodes, the driver too, in one job, whose script needs nobody (`launch.engines.slurm_script`).

The run's folder must be one that this machine and the job's share: node files, logs, results and how each node has
ended lie there (`launch.engines.slurm_folder`). The launcher submits, watches, and cancels. Knows Slurm by
its commands.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from launch.config.engines import SlurmEngineConfig
from launch.config.schema import DRIVER, LoadedConfig
from launch.engines.interface import Capacity, Engine, Handle, Hint
from launch.engines.logs import NodeLog
from launch.engines.slurm_folder import SlurmFolder
from launch.errors import EXIT_CONFIG_ERROR, EXIT_INTERNAL_ERROR, ConfigError
from nodes.spec import NodeSpec

LOOK, ASK, RENEW = 0.5, 5.0, 2.0
"""Seconds between two looks for ends, two questions about the job, and two renewals of the lease."""

SETTLE = 10.0
"""Seconds for the script to end once all nodes have."""

ALIVE = frozenset({"", "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED"})
"""States of a job that is not over; empty where Slurm does not say."""

HELD = frozenset(
    {
        "AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionConfig", "PartitionNodeLimit",
        "PartitionTimeLimit", "QOSNotAllowed",
    }
)  # fmt: skip
"""Slurm's reasons for a job to wait for good: what it asks for can never be had (squeue(1), JOB REASON CODES)."""


class SlurmHandle(Handle):
    """A node of the job."""

    def __init__(self, engine: SlurmEngine, log: Path) -> None:
        super().__init__(log, {"host": "slurm", "device": "auto"}, asyncio.get_running_loop().create_future())
        self._engine = engine

    def stop(self, *, kill: bool = False) -> None:
        """Has the whole job end: a node of it does not end alone."""
        self._engine.cancel(kill=kill)

    def end(self, code: int) -> None:
        """Notes how it has ended."""
        self._ended.set_result(code)


class SlurmEngine(Engine):
    """Submits one job for all nodes of a run.

    Args:
        loaded: the configuration, whose engine is `slurm`.
        run: the run's folder.
    """

    queues = True

    def __init__(self, loaded: LoadedConfig, run: Path) -> None:
        super().__init__()
        config = loaded.cluster.engine
        assert isinstance(config, SlurmEngineConfig)  # noqa: S101 - else this is not its engine
        self._loaded, self._config, self._logs = loaded, config, run / "logs"
        self._files = SlurmFolder(loaded, run)
        self._nodes: list[tuple[NodeSpec, Hint]] = []
        self._alive: dict[str, SlurmHandle] = {}
        self._job = ""
        self._cancelled = False
        self._works: set[asyncio.Task[None]] = set()
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
            await self._end_job()
        self._files.remove_keys()

    async def capacity(self) -> Capacity:
        """The GPUs of the machines of the partition."""
        partition = [f"--partition={self._config.partition}"] if self._config.partition else []
        _, said, _ = await _command("sinfo", "--noheader", "--Node", "--format=%N %G", *partition)
        return Capacity({name: _gpus(gres) for name, _, gres in (line.partition(" ") for line in said.splitlines())})

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Nothing yet: Slurm says at the job's submission whether there ever can be room."""

    async def place(self, spec: NodeSpec, hint: Hint) -> SlurmHandle:
        """Notes a node; the driver, which comes last, completes the job, and it is submitted.

        Raises:
            ConfigError: Slurm refuses the job.
        """
        self._nodes.append((spec, hint))
        handle = self._alive[spec.name] = SlurmHandle(self, self._logs / f"{spec.name}.log")
        if spec.name == DRIVER:
            await self._submit()
        return handle

    def cancel(self, *, kill: bool) -> None:
        """Has the job end, in order or at once; does not wait. Nodes that were never submitted have ended."""
        if not self._job:
            for handle in self._alive.values():
                handle.end(-signal.SIGTERM)
            self._alive = {}
        elif kill or not self._cancelled:
            self._cancelled = True
            self._files.stop()
            self._spawn(self._signal("KILL" if kill else "TERM"))

    async def _submit(self) -> None:
        script = self._files.write(self._nodes)
        self._files.renew()
        submitting = asyncio.ensure_future(self._sbatch(script))
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with suppress(ConfigError):  # else there would be a job that nobody knows of
                await submitting
            raise
        self._spawn(self._watch())
        self._spawn(self._keep())

    async def _sbatch(self, script: Path) -> None:
        code, said, wrong = await _command("sbatch", "--parsable", str(script))
        if code != 0:
            lines = [line.removeprefix("sbatch: error: ") for line in wrong.splitlines() if line.strip()]
            raise self._refused("a job that Slurm accepts", (lines or ["no reason given"])[-1])
        self._job = said.strip().partition(";")[0]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._works.add(asyncio.ensure_future(work))

    async def _end_job(self) -> None:
        """Waits for a job that has nothing left to do, and cancels any other."""
        for _ in range(0 if self._alive else int(SETTLE / LOOK)):
            state, _ = await self._state()
            if state not in ALIVE:
                return
            if state == "PENDING":
                break
            await asyncio.sleep(LOOK)
        await _command("scancel", self._job)

    async def _signal(self, name: str) -> None:
        """Sends a signal to all nodes; how they end is told by the script, which has little else to do then."""
        pending = (await self._state())[0] == "PENDING"  # then it has no nodes yet that could be told
        await _command("scancel", *([] if pending else [f"--signal={name}"]), self._job)

    async def _keep(self) -> None:
        """Renews the lease for as long as this process lives."""
        while True:
            await asyncio.sleep(RENEW)
            self._files.renew()

    async def _watch(self) -> None:
        """Tells each node's end, and that of the job."""
        asked = asyncio.get_running_loop().time() - ASK
        while self._alive:
            await asyncio.sleep(LOOK)
            self._note_ends()
            if asyncio.get_running_loop().time() - asked < ASK:
                continue
            asked = asyncio.get_running_loop().time()
            state, reason = await self._state()
            if state not in ALIVE:
                self._note_ends()
                self._bury(EXIT_INTERNAL_ERROR if state == "FAILED" else -signal.SIGKILL, f"is over: {state}")
            elif state == "PENDING" and reason in HELD:
                self._bury(EXIT_CONFIG_ERROR, f"can never start: {reason}; it asks for more than Slurm gives")

    def _note_ends(self) -> None:
        for name, code in self._files.ends().items():
            if handle := self._alive.pop(name, None):
                handle.end(code)

    def _bury(self, code: int, why: str) -> None:
        """The job is over: so are all nodes of which nobody has said how they ended, the driver first."""
        for handle in reversed(self._alive.values()):
            NodeLog(handle.log).end(f"Slurm's job {self._job} {why}")
            handle.end(code)
        self._alive = {}

    async def _state(self) -> tuple[str, str]:
        """The job's state, empty where Slurm does not answer just now, and Slurm's reason for it."""
        code, said, wrong = await _command("squeue", "--noheader", "--format=%T %r", f"--jobs={self._job}")
        if code != 0:
            return "GONE" if "Invalid job id" in wrong else "", ""
        state, _, reason = said.strip().partition(" ")
        return state or "GONE", reason

    def _refused(self, expected: str, given: str) -> ConfigError:
        return ConfigError(self._loaded.document.problem(("engine",), expected, given))


async def _command(*command: str) -> tuple[int, str, str]:
    """(exit code, output, errors) of a command."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def _gpus(gres: str) -> int:
    """The number of GPUs in a text such as `gpu:a100:4(S:0-1),shard:8`."""
    parts = [part.partition("(")[0].split(":") for part in gres.split(",")]
    return sum(int(part[-1]) for part in parts if part[0] == "gpu" and part[-1].isdigit())

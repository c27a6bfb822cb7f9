"""The files of a job of Slurm, below the run's folder, which all of its machines share.

The script, a node file for each node, the lease that a launcher renews, and how each node has ended. Knows no command.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fednet.files import write_whole
from launch.config.engines import SlurmEngineConfig
from launch.config.schema import DRIVER, LoadedConfig
from launch.engines.interface import Hint, elsewhere
from launch.engines.node_file import NodeFile
from launch.engines.slurm_script import LEASE, SEED, STOP, SlurmTask, render
from nodes.spec import NodeSpec

SCRIPT = "job.sh"


class SlurmFolder:
    """The files of one job.

    Args:
        loaded: the configuration, whose engine is `slurm`.
        run: the run's folder.
    """

    def __init__(self, loaded: LoadedConfig, run: Path) -> None:
        assert isinstance(loaded.cluster.engine, SlurmEngineConfig)  # noqa: S101 - else there is no such job
        self._slug, self._config, self._run = loaded.cluster.slug, loaded.cluster.engine, run.absolute()

    @property
    def path(self) -> Path:
        """Where they lie."""
        return self._run / "slurm"

    def write(self, nodes: Sequence[tuple[NodeSpec, Hint]]) -> Path:
        """Writes everything that the job needs, as for one that no launcher watches; returns the script's path.

        Args:
            nodes: the clients and, last, the driver. Only their owner can read what is written of them.
        """
        for name in (LEASE, STOP):
            (self.path / name).unlink(missing_ok=True)
        for spec, _ in nodes:
            self._write(spec)
        *clients, (driver, _) = nodes
        tasks = [_task(spec, hint, self._config.restarts) for spec, hint in clients]
        text = render(self._slug, self._config, (_task(driver, Hint(), 0), *tasks), self._run, sys.executable)
        write_whole(self.path / SCRIPT, text.encode())
        return self.path / SCRIPT

    def _write(self, spec: NodeSpec) -> None:
        """Writes a node file; the driver announces itself, and the others join through it."""
        seed, leads = self.path / SEED, spec.name == DRIVER
        there = replace(elsewhere(spec, self._run), announce=seed if leads else None)
        NodeFile.of(there, seed=None if leads else seed).write(self.path / f"{spec.name}.json")

    def renew(self) -> None:
        """Says that the launcher lives."""
        (self.path / LEASE).touch()

    def stop(self) -> None:
        """Says that no node is to be started again."""
        (self.path / STOP).touch()

    def ends(self) -> Mapping[str, int]:
        """How nodes have ended, by name: the exit code, or minus the signal that killed it."""
        found: dict[str, int] = {}
        for file in self.path.glob("*.exit"):
            with suppress(ValueError):
                code = int(file.read_text())
                found[file.stem] = -(code - 128) if code > 128 else code
        return found

    def remove_keys(self) -> None:
        """Removes the node files, with the private keys in them."""
        for file in self.path.glob("*.json"):
            file.unlink()


def _task(spec: NodeSpec, hint: Hint, restarts: int) -> SlurmTask:
    return SlurmTask(spec.name, int(spec.listen.rpartition(":")[2]), hint.gpus, hint.host, restarts)

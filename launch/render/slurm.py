"""A run as a job script for `sbatch` and a node file for each node: what a launch submits, with nobody who watches it.

The folder of the files is the run's, one that the cluster's machines share. Keys are made here, and stay in the node
files. Knows no command of Slurm.
"""

from __future__ import annotations

from pathlib import Path

from launch.config.engines import SlurmEngineConfig
from launch.config.schema import DRIVER, LoadedConfig
from launch.engines.choice import devices_elsewhere, hints
from launch.engines.interface import Hint
from launch.engines.slurm_folder import SlurmFolder
from launch.errors import ConfigError
from launch.run.devices import DeviceInventory, cores
from launch.run.folder import locked_folder
from launch.run.local_data import check_data, data_digest
from launch.run.plan import make_plan
from launch.run.session import launch_keys


def render_slurm(loaded: LoadedConfig, folder: Path) -> Path:
    """Writes a job of all nodes; returns the path of its script.

    Args:
        loaded: the configuration.
        folder: of the run, on a disk that the cluster shares; results of an earlier run there are removed.

    Raises:
        ConfigError: the engine is another, the folder is that of something else, or keys or data cannot be used.
    """
    engine = loaded.cluster.engine
    if not isinstance(engine, SlurmEngineConfig):
        hint = "Say --set engine=slurm, or describe the job as docs/how-to/slurm.md does."
        raise ConfigError(loaded.document.problem(("engine",), "the engine slurm", engine.kind, hint))
    check_data(loaded, (DRIVER,))
    plan = make_plan(
        loaded, DeviceInventory(0, cores()), folder, Path("sockets"), keys=launch_keys(loaded),
        elsewhere=devices_elsewhere(loaded),
    )  # fmt: skip
    wanted = hints(loaded)
    with locked_folder(folder, loaded.dump(), data=data_digest(loaded, (DRIVER,))):
        (folder / "logs").mkdir(exist_ok=True)
        return SlurmFolder(loaded, folder).write([(spec, wanted.get(spec.name, Hint())) for spec in plan.nodes])

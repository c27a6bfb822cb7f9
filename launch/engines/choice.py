"""The engines of a configuration, and where it wants each node.

The clients are the engine's; what asks and what listens stays on this machine, unless the engine takes all nodes. An
engine's library is imported here, when it is wanted, and what is missing is said.
"""

from __future__ import annotations

from pathlib import Path

from launch.config.engines import RayEngineConfig, SlurmEngineConfig, SshEngineConfig
from launch.config.schema import LoadedConfig
from launch.engines.interface import Engine, Hint
from launch.engines.local import LocalEngine
from launch.engines.slurm import SlurmEngine
from launch.errors import ConfigError


def make_engines(loaded: LoadedConfig, logs: Path, files: Path) -> tuple[Engine, Engine]:
    """The engine of the clients, and that of the driver.

    Args:
        loaded: the configuration.
        logs: the folder of the nodes' logs, in the run's folder.
        files: a private folder, which goes with the launch.

    Raises:
        ConfigError: the engine's library is not installed.
    """
    home = LocalEngine(logs, files)
    match loaded.cluster.engine:
        case SshEngineConfig():
            try:
                from launch.engines.ssh import SshEngine  # noqa: PLC0415 - an extra
            except ImportError as error:
                raise _missing(loaded, "ssh", error) from error
            return SshEngine(loaded, logs), home
        case RayEngineConfig():
            try:
                from launch.engines.ray import RayEngine  # noqa: PLC0415 - an extra
            except ImportError as error:
                raise _missing(loaded, "ray", error) from error
            return RayEngine(loaded, logs), home
        case SlurmEngineConfig():
            engine = SlurmEngine(loaded, logs.parent)
            return engine, engine
    return home, home


def hints(loaded: LoadedConfig) -> dict[str, Hint]:
    """Where the configuration wants each client."""
    wanted = devices_elsewhere(loaded) or {}
    gpus = getattr(loaded.cluster.engine, "gpus", 0)

    def needed(device: str) -> int:
        return 0 if device == "cpu" else max(gpus, int(device.startswith("cuda")))

    return {
        name: Hint(entry.host, entry.labels, needed(wanted.get(name, "cpu")))
        for name, entry in loaded.cluster.entries.items()
    }


def devices_elsewhere(loaded: LoadedConfig) -> dict[str, str] | None:
    """The device that each client asks for on another machine; None where all clients are on this one."""
    if loaded.cluster.engine.kind == "local":
        return None
    return {name: entry.device or loaded.cluster.devices.device for name, entry in loaded.cluster.entries.items()}


def _missing(loaded: LoadedConfig, extra: str, error: ImportError) -> ConfigError:
    hint = f"Install it with `pip install 'fednet[{extra}]'`."
    return ConfigError(
        loaded.document.problem(("engine",), f"the package {error.name}, which this engine needs", "", hint)
    )

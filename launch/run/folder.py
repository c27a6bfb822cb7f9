"""The folder of a run: made when a plan stands, held by one launch at a time, emptied of the last run's results.

Checkpoints stay, which is how a second launch of the same configuration skips training. A method's journal, the
samples that were drawn when it was written, what its sites have kept for themselves and the rounds that have closed
tell one story, so that all stay or all go: they go where the configuration has changed in more than how the nodes reach
each other and where they compute. Who wants to resume a run, and nothing else, is refused where they would go. Knows
the names of what lies in a run's folder, not what stands in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from fednet.reporting.summary import SUMMARY
from launch.errors import ConfigError, ConfigProblem

CONFIG = "config.yaml"
EVENTS = "events.jsonl"
REPORT = "report.html"
LOGS = "logs"
JOURNAL = "journal.json"
"""What a method remembers of a run that was stopped; it belongs to one configuration."""
ROUNDS = "checkpoints/*-rounds-*"
"""What the clients remember of closed rounds; see `nodes.client`."""

_RESULTS = (EVENTS, SUMMARY, REPORT, LOGS, "metrics.json", "figures", "tensorboard")
_RESUME_STATE = (JOURNAL, "samples", "sites")
_EXECUTION_KEYS = ("bus", "devices", "security")
"""Keys of a configuration that say how a run is carried out and not what it is."""


@contextmanager
def locked_folder(folder: Path, config: str, *, resume: bool = False) -> Iterator[Path]:
    """Makes a run's folder, or takes over one of an earlier run, and holds it until the body ends.

    Args:
        folder: `runs/<name>`.
        config: the resolved configuration.
        resume: only take over, of a run of this very configuration.

    Raises:
        ConfigError: the folder belongs to something else, is held by another launch, or cannot be written; or there
            is nothing to resume.
    """
    if resume:
        _require_resumable(folder, config)
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
            hint = "Choose another place with --out: nothing here is overwritten."
            raise ConfigError(ConfigProblem(str(folder), "an empty folder or that of an earlier run", hint=hint))
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
    try:
        _clear(folder, same=_run_config(_stored_config(folder)) == _run_config(config))
        (folder / CONFIG).write_text(config, "utf-8")
        yield folder
    finally:
        os.close(lock)


def joined_folder(folder: Path, config: str) -> Path:
    """Makes a run's folder for one node among several that share it, and clears nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).exists():
        (folder / CONFIG).write_text(config, "utf-8")
    return folder


def _require_resumable(folder: Path, config: str) -> None:
    """Refuses what would begin anew where the operator wants to go on."""
    said = _stored_config(folder)
    if said is None:
        hint = "Launch it without --resume."
        raise ConfigError(ConfigProblem(str(folder), "the folder of a run that was started", "none", hint=hint))
    before, now = _run_config(said), _run_config(config)
    if before != now:
        keys = sorted({*before, *now}) if isinstance(before, dict) and isinstance(now, dict) else []
        differ = [key for key in keys if before.get(key, ...) != now.get(key, ...)]  # type: ignore[attr-defined]
        given = f"other values of {', '.join(differ)}" if differ else "another one"
        hint = "Give the same, or launch without --resume to begin anew."
        raise ConfigError(ConfigProblem(str(folder / CONFIG), "the configuration that was started", given, hint=hint))


def _locked(folder: Path) -> int:
    """A descriptor of the folder that holds its lock; the kernel lets go of it however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        hint = "Wait for it, or choose another place with --out or another name with --set name=..."
        raise ConfigError(ConfigProblem(str(folder), "a folder that no other launch is using", hint=hint)) from error
    return descriptor


def _stored_config(folder: Path) -> str | None:
    """The configuration of the folder's earlier run."""
    return (folder / CONFIG).read_text("utf-8") if (folder / CONFIG).is_file() else None


def _run_config(config: str | None) -> object:
    """What a configuration says of the run itself; any text that is none stands for itself."""
    try:
        values = yaml.safe_load(config or "")
    except yaml.YAMLError:
        return config
    return {key: values[key] for key in values if key not in _EXECUTION_KEYS} if isinstance(values, dict) else values


def _clear(folder: Path, *, same: bool) -> None:
    remembered = [] if same else [*(folder / name for name in _RESUME_STATE), *folder.glob(ROUNDS)]
    for path in [*(folder / name for name in _RESULTS), *remembered]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

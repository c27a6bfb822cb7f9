"""The folder of a run: created once the plan is made, locked by one launch at a time, cleared of earlier results.

Checkpoints stay, so that a second launch of the same configuration skips training. The state of a resumable run (the
method's journal and samples, what sites have stored, closed rounds) stays or goes as a whole: it goes if the
configuration has changed in more than how nodes are connected and where they compute, and then `--resume` is refused.
Knows the names of the files of a run's folder, not their contents.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from fednet.files import disk_full, write_whole
from fednet.reporting.summary import SUMMARY
from launch.config.names import slug
from launch.errors import ConfigError, ConfigProblem
from launch.run.lock import LOCK, LockHolder, lock_holder, take_lock

CONFIG = "config.yaml"
DATA = "data.sha256"
"""The digest of the data sets of the run; see `launch.run.local_data.data_digest`."""
EVENTS = "events.jsonl"
REPORT = "report.html"
LOGS = "logs"
JOURNAL = "journal.jsonl"
"""A method's record of a run that can be resumed; it belongs to one configuration."""
ROUNDS = "checkpoints/*-rounds-*"
"""The clients' state of closed rounds; see `nodes.client`."""
INCARNATIONS = "incarnations"
"""The latest incarnation of each node that has started in the folder; no run clears it."""

_RESULTS = (EVENTS, SUMMARY, REPORT, LOGS, "metrics.json", "figures", "tensorboard")
_RESUME_STATE = (JOURNAL, "samples", "sites")
_OF_GUEST = (JOURNAL, "samples", SUMMARY, REPORT, "metrics.json", "figures")
"""What a guest leaves in a folder that it may share with clients that run."""
_EXECUTION_KEYS = ("bus", "devices", "engine", "security")
"""Keys of a configuration that say how a run is executed, not what it computes."""


@contextmanager
def locked_folder(folder: Path, config: str, *, data: str = "", resume: bool = False) -> Iterator[Path]:
    """Creates a run's folder, or takes over that of an earlier run, and locks it while the body runs.

    Args:
        folder: `runs/<name>`.
        config: the resolved configuration.
        data: the digest of the data sets: a run is known by its configuration and its data.
        resume: only take over, of a run of this very configuration and data.

    Raises:
        ConfigError: the folder belongs to something else, is held by another launch, or cannot be written; or there
            is nothing to resume.
        DiskFull: there is no room for it.
    """
    if resume:
        _require_resumable(folder, config, data)
    try:
        if folder.is_dir() and not _may_be_used(folder):
            hint = "Choose another place with --out: nothing here is overwritten."
            raise ConfigError(ConfigProblem(str(folder), "an empty folder or that of an earlier run", hint=hint))
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
    except OSError as error:
        if full := disk_full(error):
            raise full from error
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
    try:
        state = () if not differences(folder, config, data) else (*_RESUME_STATE, ROUNDS)
        _remove(folder, (*_RESULTS, *state))
        write_whole(folder / CONFIG, config.encode(), shared=True)
        write_whole(folder / DATA, data.encode(), shared=True)
        yield folder
    finally:
        os.close(lock)


def incarnation_file(folder: Path, name: str) -> Path:
    """Where a node of a run keeps its latest incarnation."""
    return folder / INCARNATIONS / name


def _may_be_used(folder: Path) -> bool:
    """Whether a folder is that of a run, or empty but for the lock of a launch that got no further."""
    return (folder / CONFIG).is_file() or all(path.name == LOCK for path in folder.iterdir())


def joined_folder(folder: Path, config: str) -> Path:
    """Creates a run's folder for one of several nodes that share it; clears nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).exists():
        write_whole(folder / CONFIG, config.encode(), shared=True)
    return folder


def guest_folder(folder: Path, config: str, data: str) -> tuple[Path, str]:
    """The same for a guest, which takes over only what a guest with this configuration and data has left.

    It cannot see the data of clients on other machines: where a client's were replaced, a new name makes a new run.

    Returns:
        The folder, and how the earlier guest differed whose results are gone; see `differences`.
    """
    joined_folder(folder, config)
    if differ := differences(folder, config, data):
        _remove(folder, _OF_GUEST)
    write_whole(folder / CONFIG, config.encode(), shared=True)
    write_whole(folder / DATA, data.encode(), shared=True)
    return folder, differ


def differences(folder: Path, config: str, data: str) -> str:
    """How a run differs from the earlier one in its folder, which it replaces; empty where it is the same or the first.

    A run of an earlier version has no digest of its data: it is taken for that of the same.

    Raises:
        ConfigError: the folder is that of a run whose name is written otherwise.
    """
    if (stored := _stored_config(folder)) is None:
        return ""
    before, now = _run_config(stored), _run_config(config)
    _require_same_name(folder, before, now)
    if before != now:
        keys = sorted({*before, *now}) if isinstance(before, dict) and isinstance(now, dict) else []
        differ = [key for key in keys if before.get(key, ...) != now.get(key, ...)]  # type: ignore[attr-defined]
        return f"other values of {', '.join(differ)}" if differ else "another configuration"
    path = folder / DATA
    return (
        "other data: files have been added, removed or changed"
        if path.is_file() and (path.read_text("utf-8") != data)
        else ""
    )


def _require_same_name(folder: Path, before: object, now: object) -> None:
    """Refuses a run whose name is another and has the same slug."""
    if isinstance(before, dict) and isinstance(now, dict):
        theirs, ours = str(before.get("name")), str(now.get("name"))
        if theirs != ours and slug(theirs) == slug(ours):
            hint = "Choose another name, or another place with --out."
            raise ConfigError(
                ConfigProblem(str(folder), f"the run {theirs!r}, which has this folder", repr(ours), hint=hint)
            )


def replaces(name: str, differ: str) -> str:
    """What the operator is told where a run takes the place of one that differs."""
    return f"{name}: replaces the results of an earlier run, which had {differ}"


def _require_resumable(folder: Path, config: str, data: str) -> None:
    """Refuses to resume where the run would start anew."""
    stored = _stored_config(folder)
    if stored is None:
        hint = "Launch it without --resume."
        raise ConfigError(ConfigProblem(str(folder), "the folder of a run that was started", "none", hint=hint))
    if given := differences(folder, config, data):
        hint = "Use the same, or launch without --resume to start anew."
        raise ConfigError(ConfigProblem(str(folder / CONFIG), "the configuration that was started", given, hint=hint))


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock; the kernel releases it when the process ends."""
    try:
        return take_lock(folder)
    except BlockingIOError as error:
        elsewhere = "choose another place with --out or another name with --set name=..."
        hint = f"Wait for it, end it (`fednet stop {folder.name}`), or {elsewhere}"
        expected, given = "a folder that no other launch is using", str(lock_holder(folder) or LockHolder())
        raise ConfigError(ConfigProblem(str(folder), expected, given, hint=hint)) from error


def _stored_config(folder: Path) -> str | None:
    """The configuration of the folder's earlier run; None if there was none.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / CONFIG
    try:
        return path.read_text("utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        given = getattr(error, "strerror", None) or str(error)
        raise ConfigError(ConfigProblem(str(path), "the readable configuration of an earlier run", given)) from error


def _run_config(config: str | None) -> object:
    """The keys of a configuration that define the run; a text that is no configuration as it is."""
    try:
        values = yaml.safe_load(config or "")
    except yaml.YAMLError:
        return config
    return {key: values[key] for key in values if key not in _EXECUTION_KEYS} if isinstance(values, dict) else values


def _remove(folder: Path, patterns: Sequence[str]) -> None:
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

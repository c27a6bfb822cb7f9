"""One launch from a configuration to a report: plan, folder, processes, display, results.

Puts the parts together and decides nothing that one of them could decide. The terminal gets the live display, the
table of results and the report's path; everything else lies in the run's folder.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

import fednet
from fednet.errors import DiskFull
from fednet.files import disk_full
from fednet.methods import registry
from fednet.reporting import summary, tables
from launch.config.schema import DRIVER, MONITOR, LoadedConfig
from launch.engines.choice import devices_elsewhere, hints, make_engines
from launch.errors import EXIT_DISK_FULL, EXIT_OK, ConfigError, ConfigProblem, RunError
from launch.report import html
from launch.report.screen import live_display
from launch.report.status import StatusBoard, planned_nodes
from launch.run.data_split import require_fitting_data
from launch.run.devices import available_memory, cores, is_host_here, is_port_free, read_inventory
from launch.run.events import RUN_NODE, Event, EventFile, EventListener, make_event
from launch.run.folder import CONFIG, EVENTS, LOGS, REPORT, differences, locked_folder, replaces
from launch.run.fork_server import PRELOAD, start_fork_server, stop_fork_server, temporary_folder
from launch.run.keys import ensure_keyrings, fresh_keyrings, require_agreement
from launch.run.local_data import check_data, data_digest, tcp_endpoint
from launch.run.outcome import RunOutcome
from launch.run.plan import LaunchPlan, make_plan, require_capacity
from launch.run.supervisor import EventSource, Supervisor
from nodes.log_lines import PlainFormatter
from nodes.signals import raise_swallowed
from protocol.security.key_roles import KeyRole
from protocol.security.keys import Keyring

_LIBRARIES = ("torch", "diffusers", "pyzmq", "numpy")
_LOGGERS = ("asyncio", "fednet", "launch", "nodes", "protocol")
"""Whose records go to the launcher's log; a program's own loggers are its own."""


class LaunchControl:
    """Reaches a launch from other threads.

    Attributes:
        address: what a guest gives to `--join`, once the first client has joined; of a launch with `serve`.
        done: whether the run's job is done, while the cluster goes on; of a launch with `serve`.
    """

    def __init__(self) -> None:
        self.address: Future[str] = Future()
        self.done: Future[None] = Future()
        self._lock = threading.Lock()
        self._stopped = False
        self._interrupt: Callable[[], object] | None = None

    def stop(self) -> None:
        """Asks the launch to end, as Ctrl-C does; a second time does not wait until the nodes have ended."""
        with self._lock:
            self._stopped = True
            if self._interrupt is not None:
                self._interrupt()

    @contextmanager
    def reaching(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """While the body runs, `stop` calls `interrupt` on the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._interrupt = partial(loop.call_soon_threadsafe, interrupt)
            if self._stopped:
                self._interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None


def launch(
    loaded: LoadedConfig,
    out: Path,
    console: Console,
    *,
    serve: bool = False,
    insecure: bool = False,
    resume: bool = False,
    control: LaunchControl | None = None,
    locked: Callable[[Path], object] = lambda _folder: None,
) -> Path:
    """Runs a cluster to its end; with `resume` only one that was started before.

    Signals end it where it is called on the main thread; `control` reaches it from any other. `locked` is called with
    the run's folder as soon as it is this launch's, before anything starts.

    Returns:
        The run's folder.

    Raises:
        ConfigError: it cannot be started as it is configured; nothing was written.
        RunError: it did not reach its end; what there is lies in the folder, with a report.
    """
    control = control or LaunchControl()
    start_fork_server(_preload(loaded))
    try:
        name, place = loaded.cluster.name, out / loaded.cluster.slug
        count = len(loaded.cluster.entries)
        _print(console, f"{name}: {count} client{'s' if count != 1 else ''}, starting")
        with console.status("loading"):
            elsewhere = devices_elsewhere(loaded)
            here = (DRIVER,) if elsewhere else (*loaded.cluster.entries, DRIVER)
            notice = "" if elsewhere else require_capacity(loaded, cores(), available_memory())
            if not elsewhere:
                require_fitting_data(loaded)
            check_data(loaded, here)
            listener = _event_source()
            there = read_inventory()
        if notice:
            _print(console, notice)
        with _sockets() as sockets:
            keys = launch_keys(loaded)
            planning = make_plan(loaded, there, place, sockets, keys=keys, insecure=insecure, elsewhere=elsewhere)
            check_ports_free(loaded, planning, here)
            engine, home = make_engines(loaded, place / LOGS, sockets)
            make = partial(
                Supervisor, planning, listener=listener, engine=engine, home=home, hints=hints(loaded),
                restarts=loaded.cluster.engine.restarts, serve=serve,
            )  # fmt: skip
            data = data_digest(loaded, (DRIVER,) if elsewhere else None)
            raise_swallowed()  # most libraries have been imported by now
            differ = "" if resume else differences(place, loaded.dump(), data)
            with (
                locked_folder(place, loaded.dump(), data=data, resume=resume) as folder,
                _log_to_file(folder / LOGS / "launcher.log"),
            ):
                if differ:
                    _print(console, replaces(name, differ))
                locked(folder)
                outcome = _reported(asyncio.run(_run(name, planning, make, console, control, serve=serve)), folder)
    finally:
        stop_fork_server()
    if not (serve and outcome.code == EXIT_OK):
        print_results(folder, console)
    if outcome.code != EXIT_OK:
        raise RunError("\n".join((outcome.reason, *_advice(outcome, folder))), outcome.code)
    return folder


def _reported(outcome: RunOutcome, folder: Path) -> RunOutcome:
    """The outcome, once its report is written; a report for which there is no room is no success."""
    try:
        html.write_report(folder)
    except OSError as error:
        full = disk_full(error)
        if full is None:
            raise
        return outcome if outcome.code != EXIT_OK else RunOutcome(EXIT_DISK_FULL, str(full), outcome.exits)
    return outcome


def _advice(outcome: RunOutcome, folder: Path) -> Iterator[str]:
    """What the operator of a run that did not reach its end can do."""
    yield f"Logs: {folder / LOGS}"
    if outcome.code > 128 or outcome.code == EXIT_DISK_FULL:
        command = ["fednet", "launch", str(folder / CONFIG), "--out", str(folder.parent), "--resume"]
        yield f"To go on from here: {shlex.join(command)}"


async def _run(
    name: str,
    planning: LaunchPlan,
    make: Callable[[EventListener], Supervisor],
    console: Console,
    control: LaunchControl,
    *,
    serve: bool,
) -> RunOutcome:
    """Supervises the plan, with its events on the screen and in the file.

    A cluster that goes on serving shows its results as soon as they are there.
    """
    folder, guest, first = planning.guest.folder, planning.guest.name, planning.clients[0]
    board = StatusBoard(name, planned_nodes(planning), time.time())
    with EventFile(folder / EVENTS) as file:

        def tell(event: Event) -> None:
            board.record(event)
            try:
                file.write(event)
            except OSError as error:
                supervisor.fail(disk_full(error) or DiskFull(str(folder / EVENTS)))
            if serve and (event.node, event.kind) == (first.name, "joined") and not control.address.done():
                address = event.data["address"]
                control.address.set_result(f"{first.name}@{address}" if first.keys else address)
                _print(console, f"join through {control.address.result()}")
            if serve and (event.node, event.kind) == (guest, "ended"):
                html.write_report(folder)
                print_results(folder, console)
                control.done.set_result(None)

        began = make_event(RUN_NODE, "began", versions=versions(), nodes=[spec.name for spec in planning.nodes])
        file.write(began)  # a disk that is full already is known before anything starts
        board.record(began)
        supervisor = make(tell)
        async with live_display(board, console):
            with control.reaching(supervisor.interrupt):
                return await supervisor.run()


def versions() -> dict[str, str]:
    """The versions that a result depends on, by name; of libraries that are not installed, none."""
    installed: dict[str, str] = {
        "fednet": fednet.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            installed[library] = version(library)
    return installed


@contextmanager
def _sockets() -> Iterator[Path]:
    """A folder for ipc sockets, which goes with the launch, however it ends."""
    with tempfile.TemporaryDirectory(prefix="fednet-", dir=temporary_folder(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def launch_keys(loaded: LoadedConfig) -> dict[str, Keyring]:
    """The keys of all nodes: those of the configuration's folder, missing ones being created.

    Without a folder nodes on this machine have none, and those on others get keys that are made for this launch.

    Raises:
        ConfigError: keys cannot be made or read, or are not those that the configuration names.
    """
    folder, engine = loaded.cluster.security.keys, loaded.cluster.engine.kind
    roles: dict[str, KeyRole] = {**dict.fromkeys(loaded.cluster.entries, "client"), DRIVER: "guest", MONITOR: "monitor"}
    rings = ensure_keyrings(roles, folder) if folder else {} if engine == "local" else fresh_keyrings(roles)
    for ring in rings.values():
        require_agreement(ring, loaded.cluster.fingerprints)
    return rings


def _preload(loaded: LoadedConfig) -> tuple[str, ...]:
    """The modules that are imported before nodes are forked; with Slurm none is forked here."""
    if loaded.cluster.engine.kind == "slurm":
        return ()
    return (*PRELOAD, *registry.find(loaded.cluster.method).preload)


def _event_source() -> EventSource:
    from nodes.monitor import Monitor  # noqa: PLC0415 - imports torch, which the fork server does meanwhile

    return Monitor


def check_ports_free(loaded: LoadedConfig, planning: LaunchPlan, here: Sequence[str]) -> None:
    """Refuses a plan whose ports are taken, before anything starts.

    Args:
        loaded: the configuration.
        planning: the plan.
        here: the nodes of this machine, beside the monitor.

    Raises:
        ConfigError: some are, or an address is of another machine.
    """
    faults: list[ConfigProblem] = []
    for spec in (*(spec for spec in planning.nodes if spec.name in here), planning.monitor):
        host, port = tcp_endpoint(spec.listen) or ("", 0)
        if not port or all(is_port_free(host, number) for number in (port, port + 1)):
            continue
        own = ("nodes", spec.name, "listen")
        key = own if own in loaded.document.places else ("bus", "base_port")
        if is_host_here(host):
            expected, given, hint = f"two free ports from {port} for {spec.name}", "ports in use", ""
        else:
            expected, given = "an address of this machine", repr(host)
            hint = f"Start {spec.name} on its own machine with `fednet node`; a launch starts all nodes on one."
        faults.append(loaded.document.problem(key, expected, given, hint))
    if faults:
        raise ConfigError(*faults)


class _LogFile(logging.FileHandler):
    """A log that ends nothing and says nothing on the screen where it cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """The record is lost."""

    def close(self) -> None:
        """Closes the file; what is still buffered may be lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def _log_to_file(path: Path) -> Iterator[None]:
    """Sends what fednet logs in this process into a file, away from the screen and from a program's own log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(PlainFormatter())
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            if not logger.handlers:  # the last of several launches
                logger.setLevel(logging.NOTSET)
                logger.propagate = True
        handler.close()


def print_results(folder: Path, console: Console) -> None:
    """Prints the results of a run, and the path of its report."""
    results = summary.read_summary(folder)
    if results.title:
        console.print(results.title, style="bold", markup=False, highlight=False)
    for part in tables.summary_renderables(results, console.width):
        if isinstance(part, str):
            console.print(part, style="dim", markup=False, highlight=False)
        else:
            console.print(part)
    if (folder / REPORT).is_file():
        _print(console, f"report: {folder / REPORT}")


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)

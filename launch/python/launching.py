"""Launches a cluster from Python: `fednet.launch`, the same as the command `fednet launch`, on a thread of its own."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, overload

from rich.console import Console

from launch.config.document import as_overrides
from launch.config.schema import LoadedConfig, load_launchable
from launch.output import open_console
from launch.python.run import Run
from launch.run import session

Config = str | Path | Mapping[str, Any]


class RunHandle:
    """A launch that goes on in the background; a context manager, which stops it in the end.

    Args:
        loaded: the configuration.
        out: where the runs' folders lie.
        console: shows the progress.
        serve: whether the cluster stays up when its job is done.
        resume: only go on with a run that was stopped.
        insecure: allow addresses beyond loopback without keys.
    """

    def __init__(
        self, loaded: LoadedConfig, out: Path, console: Console, *, serve: bool, resume: bool, insecure: bool
    ) -> None:
        self.folder = out / loaded.cluster.slug
        self._serve = serve
        self._control = session.LaunchControl()
        self._ended: Future[Path] = Future()
        atexit.register(self.stop)

        start = partial(session.launch, loaded, out, console, serve=serve, resume=resume, insecure=insecure)

        def work() -> None:
            try:
                folder = start(control=self._control)
            except BaseException as error:  # it belongs to the thread that waits
                self._end(error)
            else:
                self._ended.set_result(folder)

        threading.Thread(target=work, name=f"{loaded.cluster.name}-launch", daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    @property
    def address(self) -> str:
        """The address to join through, for `fednet.connect`; blocks until the first client can be joined.

        Raises:
            ValueError: the cluster does not stay up: launch it with `serve=True`.
            ConfigError, RunError: the launch failed.
        """
        if not self._serve:
            raise ValueError("a cluster that ends with its job is not joined: launch it with serve=True")
        return self._control.address.result()

    def results(self, timeout: float | None = None) -> Run:
        """Waits until the job is done, while a cluster with `serve=True` stays up.

        Raises:
            TimeoutError: it was not done after `timeout` seconds.
            ConfigError, RunError: the launch failed.
        """
        if not self._serve:
            return self.wait(timeout)
        self._control.done.result(timeout)
        return Run(self.folder)

    def wait(self, timeout: float | None = None) -> Run:
        """Waits for the end.

        Raises:
            TimeoutError: it had not ended after `timeout` seconds.
            ConfigError: it could not be started; nothing was written.
            RunError: it did not reach its end, or was stopped before it.
        """
        return Run(self._ended.result(timeout))

    def stop(self) -> None:
        """Ends it in order and waits until no process is left; an interrupt meanwhile does not wait for the nodes."""
        atexit.unregister(self.stop)
        self._control.stop()
        try:
            self._ended.exception()
        except KeyboardInterrupt:
            self._control.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def _end(self, error: BaseException) -> None:
        for future in (self._control.address, self._control.done, self._ended):
            if not future.done():
                future.set_exception(error)


@overload
def launch(
    config: Config,
    *,
    background: Literal[True],
    out: str | Path = ...,
    serve: bool = ...,
    resume: bool = ...,
    insecure: bool = ...,
    progress: bool = ...,
    **overrides: Any,
) -> RunHandle: ...


@overload
def launch(
    config: Config,
    *,
    background: Literal[False] = False,
    out: str | Path = ...,
    resume: bool = ...,
    insecure: bool = ...,
    progress: bool = ...,
    **overrides: Any,
) -> Run: ...


def launch(
    config: Config,
    *,
    out: str | Path = "runs",
    background: bool = False,
    serve: bool = False,
    resume: bool = False,
    insecure: bool = False,
    progress: bool = False,
    **overrides: Any,
) -> Run | RunHandle:
    """Runs a cluster on this machine, as `fednet launch` does.

    Args:
        config: the path of a cluster.yaml, the name of a built-in example, or the configuration's values.
        out: where the runs' folders lie.
        background: return at once, with a handle.
        serve: keep the cluster up when its job is done, until the handle is stopped; needs `background`.
        resume: only go on with a run that was stopped.
        insecure: allow addresses beyond loopback without keys.
        progress: show on standard output what the command shows.
        overrides: keys of the configuration; a mapping is merged into what is there, so that
            `train={"epochs": 10}` is the command's `--set train.epochs=10`.

    Returns:
        The results; with `background` the handle of the launch.

    Raises:
        ConfigError: the configuration cannot be used; every fault is listed. With `background`, what only a start
            shows is raised by the handle.
        RunError: the run did not reach its end.
        KeyboardInterrupt: it was interrupted; all its processes have ended.
    """
    if serve and not background:
        raise ValueError("serve=True keeps the cluster up until it is stopped: launch it with background=True")
    loaded = load_launchable(config, as_overrides(overrides))
    console = open_console(quiet=not progress)
    handle = RunHandle(loaded, Path(out), console, serve=serve, resume=resume, insecure=insecure)
    if background:
        return handle
    with handle:
        return handle.wait()

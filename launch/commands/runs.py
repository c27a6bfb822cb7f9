"""The commands about runs that go on or are over: `ls`, `logs`, `attach`, `wait` and `stop`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fednet.text import plain_lines, plain_text
from launch.commands.options import JsonOption, OutOption
from launch.errors import EXIT_INTERNAL_ERROR, EXIT_OK, ConfigError, ConfigProblem, RunError, did_you_mean
from launch.output import open_console, open_table, print_json

if TYPE_CHECKING:
    from launch.run.runs import RunOverview

LOOK: Final = 0.2
"""Seconds between two looks at a folder."""
PATIENCE: Final = 60.0
"""Seconds for which `stop` waits: nodes have 5 to end, are killed, and a report is written."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")]


def ls(out: OutOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Lists the runs: their state, since when, and how far they are."""
    from launch.run.runs import runs_in  # noqa: PLC0415 - help texts need not wait for it

    runs = runs_in(out)
    if as_json:
        print_json([_values(run) for run in runs])
        return
    table = open_table("name", "method", "state", "since", "progress")
    for run in runs:
        about = run.progress if run.goes_on else "".join(run.reason.splitlines()[:1])
        table.add_row(*map(plain_text, (run.name, run.method, _state(run), _local_time(run.began), about)))
    open_console().print(table, markup=False, highlight=False)


def logs(
    name: NameArgument,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Whose log; default: all.")] = None,
    *,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what comes, until the run is over.")
    ] = False,
    out: OutOption = Path("runs"),
) -> None:
    """Prints the logs of a run's nodes, in the order of time."""
    from launch.report.logs import LogTail  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.folder import LOGS  # noqa: PLC0415
    from launch.run.runs import find_run  # noqa: PLC0415

    folder = find_run(name, out)
    tail, console = LogTail(folder / LOGS, node), open_console()
    if node is not None and node not in (known := tail.names()):
        expected = f"a node that has a log ({', '.join(known) or 'none'})"
        raise ConfigError(ConfigProblem("NODE", expected, repr(node), hint=did_you_mean(node, known)))

    def show(*, last: bool) -> None:
        for owner, line in tail.read(last=last):
            text = plain_lines(line) if node is not None else f"{owner} | {plain_lines(line)}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    if follow:
        _until_over(folder, lambda: show(last=False))
    show(last=True)


def attach(name: NameArgument, out: OutOption = Path("runs")) -> None:
    """Shows a run as its launch does, until it is over; Ctrl-C detaches and the run goes on."""
    from launch.report.attaching import attach_to  # noqa: PLC0415 - help texts need not wait for these
    from launch.run.runs import find_run, read_run  # noqa: PLC0415
    from launch.run.session import print_results  # noqa: PLC0415

    folder, console = find_run(name, out), open_console()
    if attach_to(folder, console):
        print_results(folder, console)
        _end(read_run(folder))


def wait(name: NameArgument, out: OutOption = Path("runs")) -> None:
    """Waits until a run is over, and exits with its exit code."""
    from launch.run.runs import find_run, read_run  # noqa: PLC0415 - help texts need not wait for these

    folder = find_run(name, out)
    _until_over(folder, lambda: None)
    run = read_run(folder)
    _end(run)
    _say(f"{run.name}: {run.state}")


def stop(name: NameArgument, out: OutOption = Path("runs")) -> None:
    """Ends a run in order, as SIGTERM to its launch does, and waits until nothing is left of it."""
    from launch.run.runs import find_run, read_run  # noqa: PLC0415 - help texts need not wait for these

    folder = find_run(name, out)
    run = read_run(folder)
    if run.holder is None:
        _say(f"{run.name} is not running: {run.state}")
        return
    if run.holder.process is None or not run.holder.handles_signals:
        hint = "Stop it there." if run.holder.process is None else "The program that has launched it stops it."
        raise ConfigError(ConfigProblem(run.name, "a launch on this machine", str(run.holder), hint=hint))
    run.holder.process.terminate()
    _until_over(folder, lambda: None, PATIENCE)
    _say(f"{run.name}: {read_run(folder).state}")


def _until_over(folder: Path, look: Callable[[], object], patience: float | None = None) -> None:
    """Looks again and again until nobody holds the folder any more.

    Raises:
        RunError: somebody still does after so many seconds.
    """
    from launch.run.lock import lock_holder  # noqa: PLC0415 - help texts need not wait for it

    deadline = None if patience is None else time.monotonic() + patience
    while holder := lock_holder(folder):
        look()
        if deadline is not None and time.monotonic() > deadline:
            raise RunError(f"{folder.name} has not ended after {patience:.0f} s: {holder} goes on", EXIT_INTERNAL_ERROR)
        time.sleep(LOOK)


def _end(run: RunOverview) -> None:
    """The end of a run as this command's own.

    Raises:
        RunError: its code is not 0.
    """
    if run.code is None:
        raise ConfigError(ConfigProblem(run.name, "a run that was launched", f"one that is {run.state}"))
    if run.code != EXIT_OK:
        raise RunError(f"{run.name} {run.state}: {run.reason}", run.code)


def _state(run: RunOverview) -> str:
    return f"{run.state} ({run.code})" if run.code else run.state


def _values(run: RunOverview) -> dict[str, Any]:
    """What a program reads."""
    holder = {"pid": run.holder.pid, "host": run.holder.host} if run.holder else None
    times = {key: _utc(moment) for key, moment in (("began", run.began), ("ended", run.ended))}
    return {**asdict(run), "folder": str(run.folder), **times, "holder": holder}


def _utc(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def _local_time(moment: float | None) -> str:
    return "" if moment is None else f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def _say(line: str) -> None:
    open_console().print(line, markup=False, highlight=False, soft_wrap=True)

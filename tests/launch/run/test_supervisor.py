"""The supervisor with real processes: who ends whom, with which words, and that nobody is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch.engines.local import LocalEngine
from launch.errors import (
    EXIT_DISK_FULL,
    EXIT_INTERNAL_ERROR,
    EXIT_INTERRUPTED,
    EXIT_METHOD_ERROR,
    EXIT_OK,
    EXIT_PEER_ERROR,
)
from launch.run.events import make_event
from nodes.errors import NodeError
from nodes.spec import Timing

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fork server needs a POSIX system")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import stand_ins  # type: ignore[import-not-found]

    return stand_ins


@pytest.fixture
def told() -> Any:
    return []


@pytest.fixture
def supervise(stand_ins: Any, told: Any, tmp_path: Path) -> Any:
    def tell(event: Any) -> None:
        told.append(event)
        if event.kind == "died" and event.node != "driver":
            stand_ins.write(tmp_path / "ready")

    async def run(*parts: Any, **options: Any) -> Any:
        outcome = await stand_ins.supervisor(stand_ins.plan(tmp_path, *parts), tell, **options).run()
        pids = [event.data["pid"] for event in told if event.kind == "started"]
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        return outcome

    return run


def kinds(told: Any, node: Any) -> Any:
    return [event.kind for event in told if event.node == node and event.kind != "ready"]


async def test_the_guests_end_is_the_end_of_all(supervise: Any, told: Any) -> None:
    outcome = await supervise("waits", "waits", "finishes")
    assert (outcome.code, outcome.exits) == (EXIT_OK, ())
    assert kinds(told, "driver") == ["started", "ended"]
    assert kinds(told, "a1") == ["started", "stopped"]
    assert kinds(told, "") == ["over"]
    assert [event.data["code"] for event in told if event.kind == "stopped"] == [EXIT_OK, EXIT_OK]


async def test_a_clients_death_is_told_with_its_last_words_and_the_others_go_on(supervise: Any, told: Any) -> None:
    outcome = await supervise("waits", "has_no_data", "finishes")
    assert outcome.code == EXIT_OK
    (death,) = outcome.exits
    assert (death.node, death.code, death.message) == ("a2", EXIT_METHOD_ERROR, "no data at /nowhere")
    assert kinds(told, "a2") == ["started", "died"]


async def test_a_signal_is_named_beside_the_last_lines(supervise: Any) -> None:
    outcome = await supervise("waits", "kills_itself", "finishes")
    assert str(outcome.exits[0]) == "a2 was killed by SIGKILL: I can no longer"


async def test_a_fault_is_told_in_one_line_and_logged_with_its_traceback(supervise: Any, tmp_path: Path) -> None:
    outcome = await supervise("waits", "is_faulty", "finishes")
    assert (outcome.exits[0].code, outcome.exits[0].message) == (EXIT_INTERNAL_ERROR, "ZeroDivisionError: an oversight")
    assert "Traceback" in (tmp_path / "logs" / "a2.log").read_text()


async def test_the_guests_death_ends_the_run_with_its_code(supervise: Any) -> None:
    outcome = await supervise("waits", "finds_nobody")
    assert outcome.code == EXIT_PEER_ERROR
    assert "a1 (never came)" in outcome.reason


async def test_without_any_client_the_run_ends_with_what_the_first_died_of(supervise: Any, told: Any) -> None:
    outcome = await supervise("has_no_data", "has_no_data", "tells_and_waits")
    assert outcome.code == EXIT_METHOD_ERROR
    assert "no client is left" in outcome.reason
    assert "no data at /nowhere" in outcome.reason


@pytest.mark.parametrize(
    ("part", "code", "reason"),
    [
        ("has_no_data", EXIT_METHOD_ERROR, "a2 ended with exit code 4: no data at /nowhere"),
        ("kills_itself", EXIT_INTERNAL_ERROR, "a2 was killed by SIGKILL: I can no longer"),
        ("gives_up", EXIT_PEER_ERROR, "a2 ended before it was ready"),
    ],
)
async def test_a_client_that_ends_before_it_was_ready_ends_the_run(
    supervise: Any, stand_ins: Any, part: Any, code: Any, reason: Any
) -> None:
    outcome = await supervise("waits", part, "waits", listener=stand_ins.silent)
    assert (outcome.code, outcome.reason) == (code, reason)


async def test_a_death_in_a_queue_before_anybody_could_be_heard_ends_the_run_once_somebody_is(
    stand_ins: Any, told: Any, tmp_path: Path
) -> None:
    class Queue(LocalEngine):
        queues = True

    @asynccontextmanager
    async def late(spec: Any, hear: Any) -> Any:
        told.append(hear)
        async with stand_ins.silent(spec, hear) as listening:
            yield listening

    def tell(event: Any) -> None:
        if (event.node, event.kind) == ("a2", "died"):
            told[0](make_event("driver", "joined", role="guest"))

    planned = stand_ins.plan(tmp_path, "waits", "has_no_data", "waits")
    outcome = await stand_ins.supervisor(planned, tell, listener=late, engine=Queue).run()
    assert (outcome.code, outcome.reason) == (EXIT_METHOD_ERROR, "a2 ended with exit code 4: no data at /nowhere")


async def test_a_full_disk_ends_the_run_with_its_own_code(supervise: Any, tmp_path: Path) -> None:
    outcome = await supervise("waits", "fills_the_disk", "waits")
    assert outcome.code == EXIT_DISK_FULL
    assert outcome.reason.startswith(f"a2 ended with exit code 5: the disk is full, {tmp_path} cannot be written")


async def test_clients_that_are_not_ready_in_time_end_the_run_and_are_named(stand_ins: Any, tmp_path: Path) -> None:
    planned = stand_ins.plan(tmp_path, "waits", "waits", "waits")
    planned = replace(planned, guest=replace(planned.guest, timing=Timing(ready=0.01)))
    outcome = await stand_ins.supervisor(planned, lambda _event: None, listener=stand_ins.silent).run()
    assert outcome.code == EXIT_PEER_ERROR
    assert re.match(r"not ready after 0 s: a1 \(.*\), a2 \(.*\) \(`bus.timing.ready` is the limit\)", outcome.reason)


async def test_who_does_not_end_when_asked_is_killed(supervise: Any, told: Any) -> None:
    outcome = await supervise("is_stubborn", "finishes", patience=0.2)
    assert outcome.code == EXIT_OK
    stopped = next(event for event in told if event.kind == "stopped")
    assert stopped.data["code"] == -signal.SIGKILL


async def test_a_monitor_that_cannot_listen_ends_the_run_before_anything_is_placed(supervise: Any, told: Any) -> None:
    @asynccontextmanager
    async def broken(spec: Any, tell: Any) -> Any:
        raise NodeError("cannot listen")
        yield

    with pytest.raises(NodeError, match="cannot listen"):
        await supervise("waits", "finishes", listener=broken)
    assert not told


async def test_a_client_that_has_died_is_started_again_as_often_as_was_said(
    supervise: Any, stand_ins: Any, told: Any
) -> None:
    @asynccontextmanager
    async def hearing_three_lives(spec: Any, tell: Any) -> Any:
        async with stand_ins.listening(spec, tell) as listening:
            stand_ins.write(spec.folder / "heard")
            yield listening

    outcome = await supervise("waits", "kills_itself", "finishes", restarts=2, listener=hearing_three_lives)
    assert outcome.code == EXIT_OK
    assert kinds(told, "a2") == ["started", "restarting", "started", "restarting", "started", "died"]
    left = [event.data["left"] for event in told if event.kind == "restarting"]
    assert (left, [exit_.node for exit_ in outcome.exits]) == ([1, 0], ["a2"])


async def test_what_would_end_a_client_again_is_no_reason_to_start_it_again(supervise: Any, told: Any) -> None:
    outcome = await supervise("waits", "has_no_data", "finishes", restarts=2)
    assert outcome.code == EXIT_OK
    assert kinds(told, "a2") == ["started", "died"]


async def test_a_served_cluster_outlives_its_guest_until_it_is_interrupted(
    stand_ins: Any, told: Any, tmp_path: Path
) -> None:
    def tell(event: Any) -> None:
        told.append(event)
        if (event.node, event.kind) == ("driver", "ended"):
            os.kill(os.getpid(), signal.SIGINT)

    outcome = await stand_ins.supervisor(stand_ins.plan(tmp_path, "waits", "finishes"), tell, serve=True).run()
    assert outcome.code == EXIT_OK
    assert kinds(told, "a1") == ["started", "stopped"]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary folder with a short name, since the path of a socket in it is limited to some hundred characters."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_launcher_leaves_nothing(short_path: Path, stand_ins: Any, number: Any, code: Any) -> None:
    launcher, children = launched(short_path, stand_ins, "waits", "waits", "tells_and_waits")
    launcher.send_signal(number)
    assert launcher.wait(stand_ins.LONGEST) == code
    assert not any(child.is_running() for child in children)


def test_a_second_interrupt_does_not_wait(short_path: Path, stand_ins: Any) -> None:
    launcher, children = launched(short_path, stand_ins, "is_stubborn", "tells_and_waits")
    launcher.send_signal(signal.SIGINT)
    guest = children[-1]
    guest.wait(stand_ins.LONGEST)  # so the first one has been heard
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(stand_ins.LONGEST) == EXIT_INTERRUPTED  # sooner than its supervisor's patience
    assert not any(child.is_running() for child in children)


def test_a_killed_launcher_leaves_no_process_and_no_temporary_file(short_path: Path, stand_ins: Any) -> None:
    launcher, children = launched(short_path, stand_ins, "waits", "is_stubborn", "tells_and_waits")
    servers = psutil.Process(launcher.pid).children()
    assert list((short_path / "temporary").iterdir())
    launcher.kill()
    launcher.wait(stand_ins.LONGEST)
    _, alive = psutil.wait_procs([*children, *servers], timeout=stand_ins.LONGEST)
    assert not alive
    assert not list((short_path / "temporary").iterdir())


def launched(folder: Path, stand_ins: Any, *parts: Any) -> Any:
    """A launcher in a process of its own, and its nodes, all of which stand."""
    (folder / "temporary").mkdir()
    stand_ins.plan(folder, *parts)
    command = [sys.executable, HERE / "stand_ins.py", folder, *parts]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder / "temporary")}
    launcher = subprocess.Popen(command, env=environment)
    stand_ins.read(folder / "up", len(parts) + 1)  # each of them is known, and the guest has told that they stand
    children = [psutil.Process(int(line)) for line in (folder / "pids").read_text().split()]
    assert len(children) == len(parts)
    return launcher, children

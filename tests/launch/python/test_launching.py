"""Launches from Python: in a script, inside a running loop, on a thread, in the background; the nodes are stand-ins."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fednet
from launch.errors import ConfigError, RunError
from launch.run import session
from launch.run.events import EventListener, make_event
from launch.run.outcome import RunOutcome
from launch.run.plan import LaunchPlan

PATIENCE = 20.0
TINY = {"name": "tiny", "method": "regression", "nodes": 3, "rounds": 2}


class Pretended:
    """A supervisor that runs nothing: it ends at once, or with `forever` when it is interrupted."""

    forever = False
    outcome = RunOutcome(0)

    def __init__(self, planning: LaunchPlan, tell: EventListener, **_options: Any) -> None:
        self._plan, self._tell = planning, tell
        self._over = asyncio.Event()

    def interrupt(self) -> None:
        self._over.set()

    async def run(self) -> RunOutcome:
        (self._plan.guest.folder / "metrics.json").write_text(json.dumps({"nodes": len(self._plan.clients)}))
        self._tell(make_event(self._plan.clients[0].name, "joined", address="tcp://127.0.0.1:7000"))
        self._tell(make_event(self._plan.guest.name, "died" if self.outcome.code else "ended"))
        if not self.forever:
            return self.outcome
        await self._over.wait()
        return RunOutcome(130, "interrupted")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    class Fresh(Pretended):
        pass

    monkeypatch.setattr(session, "Supervisor", Fresh)
    monkeypatch.setattr(session, "start_fork_server", lambda _: None)
    monkeypatch.setattr(session, "stop_fork_server", lambda: None)
    return Fresh


def test_a_launch_returns_its_results_and_says_nothing(
    pretended: type[Pretended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fednet.launch(TINY, out=tmp_path, federation={"secure": {}}, nodes=4)
    assert run.folder == tmp_path / "tiny"
    assert run.metrics == {"nodes": 4}
    assert run.config["rounds"] == 2
    assert run.config["federation"]["secure"] is not None
    assert run.report.is_file()
    assert capsys.readouterr().out == ""


def test_progress_is_what_the_command_shows(
    pretended: type[Pretended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fednet.launch("regression", out=str(tmp_path), progress=True)
    assert "regression: 5 clients, starting" in capsys.readouterr().out


async def test_a_launch_inside_a_running_loop(pretended: type[Pretended], tmp_path: Path) -> None:
    assert fednet.launch(TINY, out=tmp_path).metrics == {"nodes": 3}


def test_a_launch_on_a_thread(pretended: type[Pretended], tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: fednet.launch(TINY, out=tmp_path)).result(PATIENCE).metrics == {"nodes": 3}


def test_a_configuration_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set rounds=0: rounds: expected"):
        fednet.launch(TINY, out=tmp_path, rounds=0, background=True)
    with pytest.raises(ConfigError, match=r"configuration: slop: .*Did you mean slope\?"):
        fednet.launch({**TINY, "slop": 1.0}, out=tmp_path)
    with pytest.raises(ValueError, match="background=True"):
        fednet.launch(TINY, out=tmp_path, serve=True)
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_raises(pretended: type[Pretended], tmp_path: Path) -> None:
    pretended.outcome = RunOutcome(4, "a1 has no data")
    with pytest.raises(RunError, match="a1 has no data") as caught:
        fednet.launch(TINY, out=tmp_path)
    assert caught.value.code == 4
    handle = fednet.launch(TINY, out=tmp_path, background=True, serve=True)
    for wait in (handle.wait, handle.results):
        with pytest.raises(RunError, match="a1 has no data"):
            wait(PATIENCE)


def test_a_launch_in_the_background_goes_on_until_it_is_stopped(pretended: type[Pretended], tmp_path: Path) -> None:
    pretended.forever = True
    with fednet.launch(TINY, out=tmp_path, background=True, serve=True) as handle:
        assert handle.address.startswith("tcp://127.0.0.1:")
        assert handle.results(PATIENCE).metrics == {"nodes": 3}
        assert handle.running
    assert not handle.running
    with pytest.raises(RunError, match="interrupted"):
        handle.wait()
    assert not [thread for thread in threading.enumerate() if thread.name == "tiny-launch" and thread.is_alive()]


def test_an_address_is_that_of_a_cluster_that_stays_up(pretended: type[Pretended], tmp_path: Path) -> None:
    with (
        fednet.launch(TINY, out=tmp_path, background=True) as handle,
        pytest.raises(ValueError, match="serve=True"),
    ):
        _ = handle.address


def test_two_launches_share_no_folder(pretended: type[Pretended], tmp_path: Path) -> None:
    pretended.forever = True
    with fednet.launch(TINY, out=tmp_path, background=True, serve=True) as handle:
        assert handle.results(PATIENCE)
        with pytest.raises(ConfigError, match="a folder that no other launch is using"):
            fednet.launch(TINY, out=tmp_path)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def run(text: str) -> str:
        (tmp_path / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_importing_fednet_imports_neither_torch_nor_launch(script: Callable[[str], str]) -> None:
    said = script("import sys, fednet\nprint(sorted({'torch', 'launch', 'nodes'} & sys.modules.keys()), fednet.Run)")
    assert said == "[] <class 'launch.python.run.Run'>\n"
    with pytest.raises(AttributeError, match="no attribute 'launhc'"):
        _ = fednet.launhc


@pytest.mark.slow
def test_a_script_needs_no_main_guard(script: Callable[[str], str]) -> None:
    said = script(
        "import fednet\n"
        "run = fednet.launch('regression', nodes=2, rounds=1, devices={'threads': 1})\n"
        "print(run.summary.title, sorted(run.metrics['federated']))\n"
    )
    assert said.startswith("2 sites, largest error")
    assert said.endswith("['a1', 'a2']\n")

"""A launch from configuration to report, the nodes being stand-ins; the real ones are tested from end to end."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from launch.config.schema import load_config
from launch.errors import ConfigError, RunError
from launch.run import session
from launch.run.events import make_event
from launch.run.fork_server import temporary_folder
from launch.run.lock import LockHolder, lock_holder, take_lock
from launch.run.outcome import RunOutcome

SUMMARY = {"summary.json": {"sections": [{"title": "T", "table": {"columns": ["arm"], "rows": [["mean"]]}}]}}


def printed(console: Console) -> str:
    """Everything that was printed so far."""
    return console.export_text(clear=False)


@pytest.fixture
def console() -> Console:
    return Console(record=True, file=io.StringIO(), width=100)


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch, console: Console) -> Any:
    """Replaces the supervisor by one that only says how the run ended; remembers what it was given."""
    given: dict[str, Any] = {}

    def replace(outcome: Any, leaves: Any = None) -> Any:
        class Pretended:
            def __init__(self, planning: Any, tell: Any, **options: Any) -> None:
                given.update(options, plan=planning)
                self._folder, self._tell = planning.guest.folder, tell

            def interrupt(self) -> None:
                raise AssertionError("nobody interrupts")

            async def run(self) -> Any:
                for name, value in (leaves or {}).items():
                    (self._folder / name).write_text(json.dumps(value))
                logging.getLogger("nodes").info("said in the launcher")
                self._tell(make_event("a1", "joined", role="client", address="tcp://127.0.0.1:7000"))
                self._tell(make_event("driver", "ended"))
                given["said by then"] = printed(console)
                self._tell(make_event("", "over", code=outcome.code, reason=outcome.reason))
                return outcome

        monkeypatch.setattr(session, "Supervisor", Pretended)
        monkeypatch.setattr(session, "start_fork_server", lambda preload: given.update(preload=preload))
        monkeypatch.setattr(session, "stop_fork_server", lambda: None)
        return given

    return replace


def test_a_launch_leaves_a_folder_and_prints_the_results(supervised: Any, tmp_path: Path, console: Console) -> None:
    supervised(RunOutcome(0), SUMMARY)
    session.launch(load_config("control"), tmp_path, console)
    folder = tmp_path / "control"
    assert {path.name for path in folder.iterdir()} == {
        ".launch.lock",
        "config.yaml",
        "data.sha256",
        "events.jsonl",
        "logs",
        "summary.json",
        "report.html",
    }
    assert load_config(str(folder / "config.yaml")).method == load_config("control").method
    assert "said in the launcher" in (folder / "logs" / "launcher.log").read_text()
    said = printed(console)
    assert "mean" in said
    assert "report.html" in said


def test_a_run_that_failed_has_a_report_and_raises_with_its_code(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    supervised(RunOutcome(4, "a1 has no data"))
    with pytest.raises(RunError, match="a1 has no data") as caught:
        session.launch(load_config("control"), tmp_path, console)
    assert caught.value.code == 4
    assert "a1 has no data" in (tmp_path / "control" / "report.html").read_text()


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_what_nodes_need_is_imported_ahead_unless_slurm_starts_them_all(
    supervised: Any, tmp_path: Path, console: Console, engine: str
) -> None:
    given = supervised(RunOutcome(0), SUMMARY)
    session.launch(load_config("regression", [f"engine.kind={engine}"]), tmp_path, console)
    assert ("nodes.run" in given["preload"]) == (engine == "local")


def test_who_interrupts_a_run_is_told_how_to_go_on(supervised: Any, tmp_path: Path, console: Console) -> None:
    supervised(RunOutcome(130, "interrupted by SIGINT"))
    with pytest.raises(RunError) as caught:
        session.launch(load_config("control"), tmp_path, console)
    config = tmp_path / "control" / "config.yaml"
    assert caught.value.code == 130
    assert f"To go on from here: fednet launch {config} --out {tmp_path} --resume" in str(caught.value)


def test_ports_in_use_are_named_before_anything_is_written(supervised: Any, tmp_path: Path, console: Console) -> None:
    supervised(RunOutcome(0))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        nodes = f"nodes={{a1: {{listen: 'tcp://127.0.0.1:{port}'}}}}"
        with pytest.raises(ConfigError, match=f"two free ports from {port} for a1, got ports in use"):
            session.launch(load_config("control", [nodes]), tmp_path, console)
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_there_are_named_before_anything_is_written(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    supervised(RunOutcome(0))
    wrong = ["data.name=mnist", "data.root=/no/such", "nodes={a1: {data: {root: /nor/this}}}"]
    with pytest.raises(ConfigError) as caught:
        session.launch(load_config("control", wrong), tmp_path, console)
    data, own = map(str, caught.value.problems)
    assert data.startswith("--set data.root=/no/such: data: data.root: /no/such is not a folder")
    assert own.startswith("--set nodes=")
    assert "nodes.a1.data: data.root: /nor/this is not a folder" in own
    assert not list(tmp_path.iterdir())


def test_paths_are_said_as_the_operator_gave_them(supervised: Any, tmp_path: Path, console: Console) -> None:
    supervised(RunOutcome(0))
    session.launch(load_config("control"), tmp_path, console)
    assert f"report: {tmp_path / 'control' / 'report.html'}" in printed(console)


def test_a_cluster_that_serves_says_where_and_shows_its_results_at_once(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    given = supervised(RunOutcome(0), SUMMARY)
    session.launch(load_config("control"), tmp_path, console, serve=True)
    assert "join through tcp://127.0.0.1:7000" in given["said by then"]
    assert "report.html" in given["said by then"]
    assert printed(console).count("report.html") == 1


def test_versions_name_what_a_result_depends_on() -> None:
    assert {"fednet", "python", "platform", "torch"} <= set(session.versions())


def test_ipc_sockets_lie_in_a_folder_that_goes_with_the_launch(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    given = supervised(RunOutcome(0))
    session.launch(load_config("control", ["bus.transport=ipc"]), tmp_path, console)
    listen = given["plan"].clients[0].listen
    sockets = Path(listen.removeprefix("ipc://")).parent
    assert sockets.parent == temporary_folder()
    assert not sockets.exists()


def test_the_folder_is_told_once_it_is_locked_and_before_anything_starts(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    given = supervised(RunOutcome(0))
    found: list[Any] = []
    session.launch(
        load_config("control"),
        tmp_path,
        console,
        locked=lambda folder: found.append((lock_holder(folder), "plan" in given)),
    )
    assert found == [(LockHolder.here(), False)]


def test_a_second_launch_is_refused_without_a_word_about_what_it_would_replace(
    supervised: Any, tmp_path: Path, console: Console
) -> None:
    supervised(RunOutcome(0))
    session.launch(load_config("control"), tmp_path, console)
    lock = take_lock(tmp_path / "control")
    with pytest.raises(ConfigError, match=r"no other launch is using, got process \d+ on .*`fednet stop control`"):
        session.launch(load_config("control", ["seed=9"]), tmp_path, console)
    os.close(lock)
    assert "replaces" not in printed(console)


@pytest.mark.parametrize("method", ["fedbagan", "private-gan"])
@pytest.mark.parametrize("replaced", ["a", "held-out"])
def test_where_pictures_were_replaced_a_launch_under_the_old_name_begins_anew(
    supervised: Any, tmp_path: Path, console: Console, method: str, replaced: str
) -> None:
    """What was remembered of the earlier pictures was reported again: the journal's measures, the rounds' ends."""
    remembered = ("journal.jsonl", "samples/round-0001.png", "checkpoints/a-rounds-0123/model.safetensors")
    for folder in ("a", "b", "held-out"):
        for name in ("ant", "bee"):
            (tmp_path / folder / name).mkdir(parents=True)
            for index in range(40):
                Image.new("L", (8, 8), index).save(tmp_path / folder / name / f"{index}.png")
    own = {site: {"data": {"name": "folder", "root": str(tmp_path / site), "size": 8}} for site in ("a", "b")}
    held_out = {"name": "folder", "root": str(tmp_path / "held-out"), "size": 8}
    given = {"name": "old", "method": method, "nodes": own, "measure": {"data": held_out}}
    supervised(RunOutcome(0))

    def launch() -> list[bool]:
        session.launch(load_config(given), tmp_path, console)
        there = [(tmp_path / "old" / file).is_file() for file in remembered]
        for file in remembered:
            (tmp_path / "old" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "old" / file).write_bytes(b"of these pictures")
        return there

    said = "old: replaces the results of an earlier run, which had other data"
    assert launch() == [False] * 3
    assert launch() == [True] * 3
    assert said not in printed(console)
    Image.new("L", (8, 8), 255).save(tmp_path / replaced / "ant" / "0.png")
    assert launch() == [False] * 3
    assert said in " ".join(printed(console).split())

"""Whole runs through the command line: real processes, real sockets, killed and interrupted as it happens.

Launches are shared by the tests of what they leave: `served` is a run over tcp that goes on serving, `killed` repeats
it over ipc with its checkpoints and loses a client, `interrupted` is stopped while it trains.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.timeout(300)

CLIENTS = ("a1", "a2", "a3")
ARMS = ("mean", "mixture")
IPC = "bus.transport=ipc"
LONG = 150
"""Steps of a solver that is still at work when a site is killed."""
QUICK = ("evaluate.judge=false", "evaluate.agreement=0")


def images(run: Path, arm: str) -> torch.Tensor:
    return load_file(run / "samples" / arm / "samples.safetensors")["images"]


def checkpoints(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "checkpoints").iterdir())}


def contributions(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())["accounts"]


def written(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}


@dataclass
class Served:
    """A run that went on serving, a visitor's command, and the code of Ctrl-C."""

    launched: Any
    visited: Any
    code: int

    @property
    def run(self) -> Path:
        return self.launched.run


@pytest.fixture(scope="module")
def served(terminal: Any) -> Served:
    launched = terminal.launch("served", options=("--serve",))
    address = launched.says(r"join through (\S+)")
    launched.says(r"report: \S+")
    visited = terminal.call("sample", "--join", address, "-n", "4", "--set", "sampler=ode", "-o", "grid.png")
    return Served(launched, visited, launched.interrupt())


@pytest.fixture(scope="module")
def again(served: Served, terminal: Any) -> Callable[[str], str]:
    """Makes a folder for a run that finds the checkpoints of the first one."""

    def make(out: str) -> str:
        shutil.copytree(served.run / "checkpoints", terminal.folder / out / "tiny" / "checkpoints")
        shutil.copy2(served.run / "config.yaml", terminal.folder / out / "tiny")
        return out

    return make


@pytest.fixture(scope="module")
def killed(again: Callable[[str], str], terminal: Any) -> Any:
    longer = f"arms.mixture.sampler={{kind: euler-maruyama, steps: {LONG}}}"
    command = terminal.launch(again("killed"), IPC, longer, *QUICK)
    command.until(lambda: command.works_on("sampling mixture"), "sampling")
    command.kill_node("a2")
    command.ends()
    return command


@pytest.fixture(scope="module")
def interrupted(terminal: Any) -> Any:
    command = terminal.launch("interrupted", IPC, "train={steps: 1000000}")
    command.until(lambda: command.works_on("training"), "training")
    command.interrupt()
    return command


@pytest.fixture(scope="module")
def sampling(again: Callable[[str], str], terminal: Any) -> Callable[[str], Any]:
    """Starts a run that goes on sampling for as long as it is let."""

    def start(out: str) -> Any:
        endless = "sampler={kind: euler-maruyama, steps: 100000}"
        command = terminal.launch(again(out), IPC, endless, *QUICK, cold=True)
        command.until(lambda: command.works_on("sampling mean"), "sampling")
        return command

    return start


@pytest.fixture(scope="module")
def shells(terminal: Any) -> tuple[list[Any], str]:
    """Three clients from three shells, and the address that two of them were told."""

    def client(name: str, *join: str, cold: bool = False) -> Any:
        given = ("--role", "client", "--config", "tiny.yaml", "--name", name, "--out", "hand")
        return terminal.start("node", *given, *join, cold=cold)

    first = client("a1", cold=True)
    address = first.says(r"a1 \(client\) listens on (\S+)")
    return [first, client("a2", "--join", address), client("a3", "--join", address)], address


@pytest.fixture(scope="module")
def guest(shells: tuple[list[Any], str], terminal: Any) -> Any:
    return terminal.run("node", "--role", "guest", "--config", "tiny.yaml", "--join", shells[1], "--out", "hand")


class TestARun:
    """What a whole run leaves, over tcp."""

    def test_the_folder_is_complete(self, served: Served) -> None:
        there = {str(path.relative_to(served.run)) for path in served.run.rglob("*") if path.is_file()}
        wanted = {"config.yaml", "events.jsonl", "metrics.json", "summary.json", "report.html"}
        wanted |= {f"logs/{name}.log" for name in (*CLIENTS, "driver", "launcher")}
        wanted |= {f"samples/{arm}/{file}" for arm in ARMS for file in ("grid.png", "samples.safetensors")}
        wanted |= {"figures/agreement.png", "figures/magnitude.png"}
        assert wanted <= there
        assert "samples/real/grid.png" not in there  # no real image, unless `report.real` asks for it
        assert len(checkpoints(served.run)) == len(CLIENTS)
        events = [path for path in there if "events.out.tfevents" in path]
        assert {path.split("/")[1] for path in events} == {*CLIENTS, "driver"}

    def test_the_configuration_is_resolved_and_can_be_launched_again(self, served: Served, terminal: Any) -> None:
        config = yaml.safe_load((served.run / "config.yaml").read_text())
        assert config["train"]["batch"] == 16
        assert terminal.call("check", served.run / "config.yaml").code == 0

    def test_the_report_needs_nothing_but_itself(self, served: Served) -> None:
        page = (served.run / "report.html").read_text()
        assert page.count('src="data:image/png;base64,') == len(list(served.run.rglob("*.png")))
        assert page.count("src=") == page.count('src="data:')
        assert "<link" not in page
        assert "<script src" not in page

    def test_the_results_are_measured_and_shown(self, served: Served) -> None:
        metrics = json.loads((served.run / "metrics.json").read_text())
        assert all(arm["evaluation"]["frechet"] > 0 for arm in metrics["arms"].values())
        table = json.loads((served.run / "summary.json").read_text())["sections"][0]["table"]
        assert [row[0] for row in table["rows"]] == ["real pictures", *ARMS]
        assert all(column in served.launched.out for column in table["columns"])

    def test_everybody_contributed_to_every_query(self, served: Served) -> None:
        for account in contributions(served.run).values():
            assert account["steps"] == 7
            assert account["lost"] == {}
            assert {name: tally["contributed"] for name, tally in account["nodes"].items()} == dict.fromkeys(CLIENTS, 7)

    def test_the_events_tell_the_story(self, served: Served) -> None:
        for name in CLIENTS:
            (joined,) = served.launched.happened("joined", name)
            assert joined.data["address"].startswith("tcp://127.0.0.1:")
            assert [event.data["code"] for event in served.launched.happened("stopped", name)] == [0]
        assert [event.data["code"] for event in served.launched.happened("ended", "driver")] == [0]
        assert [event.data["code"] for event in served.launched.happened("over")] == [0]

    def test_a_visitor_draws_from_it(self, served: Served, terminal: Any) -> None:
        assert served.visited.code == 0
        assert served.visited.err == ""
        assert "wrote grid.png" in served.visited.out
        assert all(f"{name} answered" in served.visited.out for name in CLIENTS)
        with Image.open(terminal.folder / "grid.png") as picture:
            assert picture.format == "PNG"
            assert len(picture.getcolors(1 << 20) or ()) > 2

    def test_it_ends_well_when_it_is_interrupted_after_its_work(self, served: Served) -> None:
        assert served.code == 0
        assert served.launched.err == ""
        served.launched.leaves_nobody()


class TestAKilledClient:
    """The same run again over ipc, with the checkpoints of the first; a2 is killed in its second arm."""

    def test_the_run_ends_well(self, killed: Any) -> None:
        assert killed.code == 0, killed.err
        assert killed.err == ""
        assert images(killed.run, "mixture").isfinite().all()

    def test_nobody_trained_again(self, killed: Any, served: Served) -> None:
        assert not killed.works_on("training")
        assert written(killed.run) == written(served.run)

    def test_what_came_before_is_replayed_bit_for_bit(self, killed: Any, served: Served) -> None:
        assert torch.equal(images(killed.run, "mean"), images(served.run, "mean"))

    def test_the_account_says_who_was_lost_when_and_why(self, killed: Any) -> None:
        assert contributions(killed.run)["mean"]["lost"] == {}
        account = contributions(killed.run)["mixture"]
        assert account["steps"] in {LONG + 1, 2 * (LONG + 1)}  # twice where samples were drawn again
        assert account["nodes"]["a1"]["contributed"] == account["nodes"]["a3"]["contributed"] == account["steps"]
        (name,) = account["lost"]
        assert name == "a2"
        assert account["lost"]["a2"]["step"] == account["nodes"]["a2"]["contributed"] + 1
        assert account["lost"]["a2"]["reason"].startswith("lost: ")

    def test_the_loss_is_told(self, killed: Any) -> None:
        (died,) = killed.happened("died")
        assert (died.node, died.data["cause"]) == ("a2", "was killed by SIGKILL")
        assert "a2 was killed by SIGKILL" in killed.out
        assert any("mixture" in line and "a2" in line for line in killed.out.splitlines())

    def test_nothing_is_left(self, killed: Any) -> None:
        killed.leaves_nobody()
        killed.leaves_no_socket()


class TestCtrlC:
    """Interrupted while all clients train."""

    def test_it_says_so(self, interrupted: Any) -> None:
        assert interrupted.code == 130
        assert interrupted.err.startswith("fednet: interrupted by SIGINT\n")
        assert "Traceback" not in interrupted.out + interrupted.err

    def test_every_node_was_stopped_in_good_order(self, interrupted: Any) -> None:
        codes = {event.node: event.data["code"] for event in interrupted.happened("stopped")}
        assert {codes[name] for name in CLIENTS} == {0}

    def test_nothing_is_left(self, interrupted: Any) -> None:
        interrupted.leaves_nobody()
        interrupted.leaves_no_socket()

    def test_nothing_is_half_written(self, interrupted: Any) -> None:
        assert not (interrupted.run / "checkpoints").exists()
        assert not (interrupted.run / "metrics.json").exists()
        assert not (interrupted.run / "summary.json").exists()
        assert "</html>" in (interrupted.run / "report.html").read_text()


@pytest.mark.slow
def test_the_guests_death_ends_the_run_with_its_last_words(sampling: Callable[[str], Any]) -> None:
    command = sampling("guest-killed")
    command.kill_node("driver")
    assert command.ends() == 1
    assert command.err.startswith("fednet: driver was killed by SIGKILL: ")
    assert "sampling mean" in command.err
    command.leaves_nobody()
    command.leaves_no_socket()


@pytest.mark.slow
@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_stops_everybody_in_good_order(
    sampling: Callable[[str], Any], number: signal.Signals
) -> None:
    command = sampling(number.name)
    os.killpg(command.process.pid, number)
    assert command.ends() == 128 + number
    assert {event.data["code"] for event in command.happened("stopped") if event.node != "driver"} == {0}
    command.leaves_nobody()
    command.leaves_no_socket()


@pytest.mark.slow
def test_a_killed_launcher_takes_everybody_along(sampling: Callable[[str], Any]) -> None:
    command = sampling("launcher-killed")
    command.process.kill()
    command.ends()
    command.leaves_nobody()
    assert not list(command.temporary.iterdir())


@pytest.mark.slow
def test_a_fresh_run_with_the_same_seed_replays_bit_for_bit(served: Served, terminal: Any) -> None:
    command = terminal.launch("fresh", *QUICK, cold=True)
    assert command.ends() == 0, command.err
    assert command.works_on("training")
    assert checkpoints(command.run) == checkpoints(served.run)
    for arm in ARMS:
        assert torch.equal(images(command.run, arm), images(served.run, arm))


@pytest.mark.slow
def test_another_run_over_the_same_folder_replays_bit_for_bit(served: Served, terminal: Any) -> None:
    shutil.copytree(served.run, terminal.folder / "over" / "tiny")
    command = terminal.launch("over")
    assert command.ends() == 0, command.err
    assert not command.works_on("training")
    assert written(command.run) == written(served.run)
    for arm in ARMS:
        assert torch.equal(images(command.run, arm), images(served.run, arm))


@pytest.mark.slow
class TestByHand:
    """Three clients from three shells that know nothing but addresses, then the guest, then a visitor."""

    def test_the_guest_finds_all_three_and_does_the_job(self, guest: Any, terminal: Any) -> None:
        assert guest.code == 0, guest.err
        run = terminal.folder / "hand" / "tiny"
        assert all(account["lost"] == {} for account in contributions(run).values())
        assert (run / "report.html").is_file()
        assert "mixture" in guest.out

    def test_it_draws_what_a_launch_draws(self, guest: Any, served: Served, terminal: Any) -> None:
        run = terminal.folder / "hand" / "tiny"
        assert checkpoints(run) == checkpoints(served.run)
        for arm in ARMS:
            assert torch.equal(images(run, arm), images(served.run, arm))

    def test_the_clients_stay_for_a_visitor_and_leave_when_they_are_told(
        self, guest: Any, shells: tuple[list[Any], str], terminal: Any
    ) -> None:
        clients, address = shells
        visited = terminal.call("sample", "--join", address, "-n", "2", "--set", "sampler=ode", "-o", "by-hand.png")
        assert visited.code == 0, visited.err
        assert all(f"{name} answered" in visited.out for name in CLIENTS)
        for client in clients:
            assert client.interrupt() == 0
            assert "Traceback" not in client.err
            client.leaves_nobody()

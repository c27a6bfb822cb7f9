"""The doctor: each thing that is wrong is named with what was expected, and the exit code is that of who must act."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from launch.config.schema import load_config
from launch.errors import EXIT_CONFIG_ERROR, EXIT_PEER_ERROR, ConfigError, RunError, exit_code
from launch.run import doctor, keys
from nodes.transport.probe import ProbeResult
from tests.ports import free_ports

Probe = Callable[..., ProbeResult]


class Clinic:
    """Two operators' folders, and a peer of which everything can be imagined."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.console = folder, Console(record=True, width=200)
        self.port = next(free_ports())
        self.mine = keys.create_keys("a1", folder / "mine")
        self.theirs = keys.create_keys("a2", folder / "theirs")
        keys.trust_keys(folder / "theirs" / "a2.pub", folder / "mine")
        self.found = ProbeResult("heard", "up, and heard")
        monkeypatch.setattr(doctor, "probe", lambda *_asked: self.found)

    def look(self, *overrides: str, key: bool = True, a2: str = "listen: 'tcp://10.0.0.2:7000'", **more: Any) -> str:
        nodes = f"nodes={{a1: {{listen: 'tcp://127.0.0.1:{self.port}'}}, a2: {{{a2}}}}}"
        loaded = load_config("regression", [nodes, *overrides])
        file = self.folder / "mine" / "a1.key" if key else None
        doctor.run_doctor(loaded, self.folder / "runs", self.console, key=file, **more)
        return self.console.export_text()


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    return Clinic(tmp_path, monkeypatch)


def test_all_is_well(clinic: Clinic) -> None:
    said = clinic.look(a2=f"listen: 'tcp://10.0.0.2:7000', fingerprint: {clinic.theirs.fingerprint}")
    assert "✗" not in said
    assert f"this is a1, {clinic.mine.fingerprint}" in said
    assert "a2  up, and heard" in said
    for what in ("versions", "devices", "data", "descriptors", "disk", "fingerprints"):
        assert f"✓ {what}" in said
    assert not (clinic.folder / "runs").exists(), "looking leaves nothing behind"


def test_a_peer_that_is_not_up_is_no_fault(clinic: Clinic) -> None:
    clinic.found = ProbeResult("not up", "nobody listens at tcp://10.0.0.2:7001 yet")
    assert "– a2  nobody listens" in clinic.look()
    assert "– a2  the configuration names no address" in clinic.look(a2="")


@pytest.mark.parametrize("state", ["unreachable", "keys", "version", "run", "name", "silent"])
def test_what_is_wrong_elsewhere_is_the_peers(clinic: Clinic, state: Any) -> None:
    clinic.found = ProbeResult(state, "so it is")
    with pytest.raises(RunError, match="a2: so it is") as raised:
        clinic.look()
    assert exit_code(raised.value) == EXIT_PEER_ERROR


@pytest.mark.parametrize(("ahead", "how"), [(7.0, "7.0 s ahead of"), (-3.0, "3.0 s behind")])
def test_a_clock_that_differs_is_named(clinic: Clinic, ahead: float, how: str) -> None:
    clinic.found = ProbeResult("heard", "up, and heard", ahead)
    with pytest.raises(RunError, match=f"clock of a2: it is {how}"):
        clinic.look()


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        (keys.Grant("guest", ("ask",)), "guest who may ask"),
        (keys.Grant(not_after=date(2020, 1, 31)), "until 2020-01-31"),
    ],
)
def test_a_client_that_is_let_in_as_less_or_no_more_is_named(clinic: Clinic, grant: keys.Grant, said: str) -> None:
    keys.trust_keys(clinic.folder / "theirs" / "a2.pub", clinic.folder / "mine", grant, replace=True)
    with pytest.raises(ConfigError, match=f"the public keys of a2, as a client, today, got .*{said}"):
        clinic.look()


def test_a_clock_that_went_back_since_the_last_start_is_named(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = clinic.folder / "runs" / "regression" / "incarnations" / "a1"
    kept.parent.mkdir(parents=True)
    kept.write_text(f"{4600 * 10**9}\n")
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time_ns=lambda: 1000 * 10**9))
    assert "– clock  the clock here is 3600.0 s behind the last start of a1" in clinic.look()
    kept.write_text("?")
    with pytest.raises(ConfigError, match="remove it"):
        clinic.look()


def test_what_is_wrong_here_is_the_operators_and_told_at_once(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 1 << 80)
    with pytest.raises(ConfigError) as raised:
        clinic.look("devices.device=cuda:99", a2="fingerprint: 0000-1111-2222-3333-4444-5555-6666-7777")
    assert exit_code(raised.value) == EXIT_CONFIG_ERROR
    fingerprint, device, disk = raised.value.problems
    assert (fingerprint.expected, fingerprint.given) == (
        "0000-1111-2222-3333-4444-5555-6666-7777",
        clinic.theirs.fingerprint,
    )
    assert device.given == "'cuda:99'"
    assert "free disk" in disk.expected


def test_few_descriptors_are_named_with_how_many_it_takes(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "allowed_descriptors", lambda: 22)
    assert "descriptors  22 a process, 17 of them for connections" in clinic.look()
    monkeypatch.setattr(doctor, "allowed_descriptors", lambda: 20)
    with pytest.raises(ConfigError) as raised:
        clinic.look()
    (problem,) = raised.value.problems
    assert (problem.expected, problem.given) == ("at least 21 a process for 2 clients", "20")
    assert "ulimit -Hn" in problem.hint


def test_a_key_that_others_may_read_is_refused(clinic: Clinic) -> None:
    (clinic.folder / "mine" / "a1.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        clinic.look()


def test_a_member_whose_key_is_missing_is_named(clinic: Clinic) -> None:
    (clinic.folder / "mine" / "trusted" / "a2.pub").unlink()
    with pytest.raises(ConfigError, match=r"the public keys of a2, as a client, today, got none\. Get a2\.pub"):
        clinic.look()


def test_a_launch_makes_the_keys_that_are_missing(clinic: Clinic) -> None:
    said = clinic.look(f"security.keys={clinic.folder / 'mine'}", key=False, a2="")
    assert "✓ key of a1  usable" in said
    assert "– keys  the launch will make those of a2, driver, monitor" in said
    assert "none configured" in clinic.look("nodes=2", key=False)


def test_a_site_is_asked_for_its_own_data_alone(clinic: Clinic) -> None:
    nodes = "nodes={a1: {listen: 'tcp://127.0.0.1:0', data: {limit: 50}}, a2: {data: {name: folder, root: /nowhere}}}"
    loaded = load_config("score-inference", [nodes])
    doctor.run_doctor(loaded, clinic.folder, clinic.console, key=clinic.folder / "mine" / "a1.key")
    said = clinic.console.export_text()
    assert "✓ data of a1  digits: 1797 images, 10 classes" in said
    assert "/nowhere" not in said


def test_a_node_that_is_up_is_no_fault_of_its_own_ports(clinic: Clinic) -> None:
    assert f"✓ ports  {clinic.port} and {clinic.port + 1} are free" in clinic.look()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        loaded = load_config("regression", [f"nodes={{a1: {{listen: 'tcp://127.0.0.1:{port}'}}, a2: {{}}}}"])
        doctor.run_doctor(loaded, clinic.folder, clinic.console, key=clinic.folder / "mine" / "a1.key")
    assert f"– ports  {port} or {port + 1} is in use: by a1 itself, if it is up" in clinic.console.export_text()


def test_without_a_key_what_lies_elsewhere_is_not_looked_at(clinic: Clinic) -> None:
    said = clinic.look(key=False, a2="listen: 'tcp://203.0.113.7:7000', device: 'cuda:9'")
    assert "– a2  on another machine (tcp://203.0.113.7:7000)" in said
    assert "✗" not in said

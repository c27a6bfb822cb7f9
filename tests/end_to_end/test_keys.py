"""Operators who trust nobody but each other, as they type it: keys, trust, the doctor, a relay, and a run."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from launch.run import keys
from launch.run.devices import is_port_free
from tests.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MEMBERS = ("a1", "a2", "a3", "guest")
EVERYBODY = ("hub", *MEMBERS)


def four_free_ports() -> list[int]:
    """The first of four free ports in a row, and the first of two others."""
    ports = free_ports()
    hub = next(port for port in ports if is_port_free("127.0.0.1", port + 2) and is_port_free("127.0.0.1", port + 3))
    return [hub, next(port for port in ports if port > hub + 3)]


@pytest.fixture(scope="module")
def operators(terminal: Any) -> Any:
    """A folder of keys for each operator, who has got the public files of all others."""
    folders = {name: terminal.folder / name for name in EVERYBODY}
    for name, folder in folders.items():
        keys.create_keys(name, folder, "relay" if name == "hub" else "client")
    for mine in EVERYBODY[1:]:
        for other in set(EVERYBODY) - {mine}:
            keys.trust_keys(folders[other] / f"{other}.pub", folders[mine])
    for member in MEMBERS:
        assert terminal.run("keys", "trust", f"{member}/{member}.pub", "--folder", "hub").code == 0
    return terminal


def test_a_run_between_operators_some_of_whom_only_connect_outwards(operators: Any) -> None:
    hub, first = four_free_ports()
    relay_at, a1_at = f"tcp://127.0.0.1:{hub}", f"tcp://127.0.0.1:{first}"
    relay = operators.start("node", "--role", "relay", "--listen", relay_at, "--key", "hub/hub.key")
    assert relay.says(r"--through (\S+)") == f"hub@{relay_at}"
    nodes = f"nodes={{a1: {{listen: '{a1_at}'}}, a2: {{}}, a3: {{}}}}"
    given = ("--set", nodes, "--set", "rounds=3", "--set", "devices.threads=1")

    def key(name: str) -> tuple[str, ...]:
        return ("--key", f"{name}/{name}.key")

    def node(role: str, name: str, *where: str) -> tuple[str, ...]:
        return (
            "node",
            "--role",
            role,
            "--name",
            name,
            "--config",
            "regression",
            *given,
            *key(name),
            *where,
            "--out",
            f"{name}-out",
        )

    before = operators.run("doctor", "regression", *given, *key("a2"))
    assert (before.code, "– a1  nobody listens" in before.out) == (0, True), before.out + before.err
    join, through = ("--join", f"a1@{a1_at}"), ("--through", f"hub@{relay_at}")
    shells = [operators.start(*node("client", "a1", "--listen", a1_at, "--join", f"hub@{relay_at}"))]
    shells += [operators.start(*node("client", name, *join, *through)) for name in ("a2", "a3")]
    guest = operators.run(*node("guest", "guest", *join, *through))
    assert guest.code == 0, guest.out + guest.err
    metrics = json.loads((operators.folder / "guest-out" / "regression" / "metrics.json").read_text())
    assert all(set(record["weights"]) == {"a1", "a2", "a3"} for record in metrics["rounds"])

    during = operators.run("doctor", "regression", *given, *key("a2"))
    assert (during.code, "✓ a1  up, and heard" in during.out) == (0, True), during.out + during.err

    assert operators.run("keys", "new", "stranger", "--folder", "stranger").code == 0
    shutil.copytree(operators.folder / "a2" / "trusted", operators.folder / "stranger" / "trusted")
    refused = operators.run("doctor", "regression", *given, "--key", "stranger/stranger.key")
    assert refused.code in {2, 3}
    assert "a1 does not trust stranger" in refused.out + refused.err
    for shell in (*shells, relay):
        assert shell.interrupt() == 0, shell.err
    said = "".join(shell.out + shell.err for shell in shells)
    assert "not trusted here" in said, "a1 has told who wanted in"
    for name in EVERYBODY:
        secret = json.loads((operators.folder / name / f"{name}.key").read_text())
        assert not [half for half in (secret["curve"], secret["sign"]) if half in said]


def test_a_launch_makes_keys_and_lets_in_who_is_trusted(operators: Any) -> None:
    assert operators.run("keys", "new", "laptop", "--folder", "cluster").code == 0
    launched = operators.start(
        "launch", "regression", "--set", "nodes=2", "--set", "rounds=2", "--set", "security.keys=cluster"
    )
    assert launched.ends() == 0, launched.out + launched.err
    made = {path.stem for path in (operators.folder / "cluster").glob("*.key")}
    assert made == {"a1", "a2", "driver", "monitor", "laptop"}
    logs = "".join(path.read_text() for path in (operators.folder / "runs" / "regression" / "logs").glob("*.log"))
    assert "linked with" in logs
    assert "dropped" not in logs

"""A relay started by hand: nodes that only connect outwards train and ask beside one that can be reached."""

from __future__ import annotations

import json
from typing import Any

from launch.run.devices import is_port_free
from tests.ports import free_ports


def test_who_only_connects_outwards_takes_part_in_rounds_and_questions(terminal: Any) -> None:
    port = next(p for p in free_ports() if is_port_free("127.0.0.1", p + 2) and is_port_free("127.0.0.1", p + 3))
    address = f"tcp://127.0.0.1:{port}"
    relay = terminal.start("node", "--role", "relay", "--listen", address)
    relay.says("relays between all")
    given = ("--config", "regression", "--set", "nodes=3", "--set", "rounds=3", "--set", "devices.threads=1")
    shells = [terminal.start("node", "--role", "client", "--name", "a1", "--join", address, *given, "--out", "a1")]
    for name in ("a2", "a3"):
        through = ("--through", address, "--out", name)
        shells.append(terminal.start("node", "--role", "client", "--name", name, *given, *through))
    guest = terminal.run("node", "--role", "guest", *given, "--through", address, "--out", "guest")
    assert guest.code == 0, guest.out + guest.err
    metrics = json.loads((terminal.folder / "guest" / "regression" / "metrics.json").read_text())
    assert all(set(record["weights"]) == {"a1", "a2", "a3"} for record in metrics["rounds"])
    assert set(metrics["federated"]) == {"a1", "a2", "a3"}
    for shell in (*shells, relay):
        assert shell.interrupt() == 0, shell.err

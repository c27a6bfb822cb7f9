"""What the operator gets wrong, as the operator sees it: one clear message, the right exit code, nothing half-written.

Every case is a command of its own; what the message must name is the file, argument or key, and what was expected.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fednet.conversations import Site
from fednet.methods.score_inference.agent import ScoreAgent
from fednet.models.unet import ScoreNet, UNetConfig, save
from launch.config import load
from launch.devices import free_ports

OPERATOR, PEERS, METHOD = 2, 3, 4
pytestmark = pytest.mark.timeout(300)

REFUSED = {
    "an unknown key": (
        ("launch", "unknown-key.yaml"),
        r"unknown-key\.yaml:8: train\.epoch: expected one of the keys epochs, .*'epoch'\. Did you mean epochs\?",
    ),
    "a wrong type": (
        ("launch", "tiny.yaml", "--set", "train.epochs=many"),
        r"--set train\.epochs=many: train\.epochs: expected a valid integer, got 'many'\.",
    ),
    "a missing file": (
        ("launch", "missing.yaml"),
        r"missing\.yaml: expected an existing file\. Run `fednet examples` for built-in ones\.",
    ),
    "data that are not there": (
        ("launch", "tiny.yaml", "--set", "data={name: mnist, root: /nowhere}"),
        r"--set data=.*: .*/nowhere is not a folder; expected mnist there.*",
    ),
    "a device that does not exist": (
        ("launch", "tiny.yaml", "--set", "devices.device=cuda:99"),
        r"--set devices\.device=cuda:99: devices\.device: expected auto or a device of .*\(cpu.*\), got 'cuda:99'\.",
    ),
    "an address beyond loopback": (
        ("launch", "tiny.yaml", "--set", "nodes={a1: {listen: 'tcp://0.0.0.0:5000'}}"),
        r"--set nodes=.*: nodes\.a1\.listen: expected a loopback address, got 'tcp://0\.0\.0\.0:5000'\. .*--insecure.*",
    ),
}


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", next(free_ports())))
        holder.listen()
        yield holder.getsockname()[1]


def explains(command: Any, code: int, pattern: str) -> None:
    """The command has ended with this code, with a message that the pattern matches and nothing beside it."""
    said = command.err.removesuffix("\n")
    assert command.process.returncode == code, said
    assert re.fullmatch(f"fednet: {pattern}", said), said
    assert "Traceback" not in command.out + said
    command.leaves_nobody()
    command.leaves_no_socket()


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_before_anything_is_written(terminal: Any, case: str) -> None:
    arguments, pattern = REFUSED[case]
    tiny = (terminal.folder / "tiny.yaml").read_text()
    (terminal.folder / "unknown-key.yaml").write_text(tiny.replace("epochs", "epoch"))
    explains(terminal.run(*arguments, "--out", "refused"), OPERATOR, pattern)
    assert not (terminal.folder / "refused").exists()


def test_a_port_in_use_is_refused_before_anything_is_written(terminal: Any, taken_port: int) -> None:
    command = terminal.run("launch", "tiny.yaml", "--set", f"bus.base_port={taken_port}", "--out", "refused")
    key = rf"--set bus\.base_port={taken_port}: bus\.base_port"
    explains(command, OPERATOR, rf"{key}: expected two free ports from {taken_port} for a1, got ports in use\.")
    assert not (terminal.folder / "refused").exists()


def test_a_checkpoint_of_another_architecture_ends_the_run_and_stays(terminal: Any) -> None:
    method = load(str(terminal.folder / "tiny.yaml")).method
    agent = ScoreAgent(method, Site("a1", 0, 3, 3, "cpu", terminal.folder / "other" / "tiny"))
    share = agent._own_share()
    path = agent.checkpoint(share)
    save(ScoreNet(UNetConfig(channels=(4,), groups=4, attention=False), method.sde, share.shape, 10), path)
    (terminal.folder / "other" / "tiny" / "config.yaml").touch()
    before = path.read_bytes()
    command = terminal.launch("other")
    command.ends()
    explains(
        command,
        METHOD,
        rf"a1 ended with exit code 4: .*{path.name} holds the weights of architecture \w+, the configuration asks for "
        r"\w+ \(channels: \[4\] there, \[8\] here\): change the configuration or remove the file to train again"
        r"\nLogs: other/tiny/logs",
    )
    assert path.read_bytes() == before
    assert not (command.run / "samples").exists()


def test_an_address_in_use_ends_a_node_that_is_started_by_hand(terminal: Any, taken_port: int) -> None:
    listen = f"tcp://127.0.0.1:{taken_port}"
    command = terminal.run("node", "--role", "monitor", "--listen", listen, "--join", "tcp://127.0.0.1:9")
    explains(command, PEERS, f"cannot listen on {listen}: address already in use; choose another address")


@pytest.mark.slow
def test_a_visitor_says_that_nobody_is_there(terminal: Any) -> None:
    nowhere = f"tcp://127.0.0.1:{next(free_ports())}"
    command = terminal.run("sample", "--join", nowhere, "-o", "nobody.png")
    explains(command, PEERS, r"not ready after 60 s: nobody answered.*")
    assert not (terminal.folder / "nobody.png").exists()

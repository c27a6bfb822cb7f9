"""What the operator gets wrong, as the operator sees it: one clear message, the right exit code, nothing half-written.

Every case is a command of its own; what the message must name is the file, argument or key, and what was expected.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fednet.api import Network, Progress, Question, SiteContext
from fednet.data.site_data import run_share
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.site import ScoreInferenceSite
from fednet.models.config import UNetConfig
from fednet.models.unet import ScoreNet, save
from launch.config.schema import load_config
from nodes.errors import NoQuorum
from nodes.run import run_visit
from nodes.spec import NodeSpec, Timing
from tests.ports import free_ports

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


def explains(call: Any, code: int, pattern: str) -> None:
    """The call has ended with this code, with a message that the pattern matches and nothing beside it."""
    message = call.err.removesuffix("\n")
    assert call.code == code, message
    assert re.fullmatch(f"fednet: {pattern}", message), message
    assert "Traceback" not in call.out + message


def leaves_nothing(command: Any, code: int, pattern: str) -> None:
    """The same of a command that was a process of its own, of which nobody and no socket is left."""
    explains(command, code, pattern)
    command.leaves_nobody()
    command.leaves_no_socket()


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_before_anything_is_written(terminal: Any, case: str) -> None:
    arguments, pattern = REFUSED[case]
    tiny = (terminal.folder / "tiny.yaml").read_text()
    (terminal.folder / "unknown-key.yaml").write_text(tiny.replace("epochs", "epoch"))
    leaves_nothing(terminal.run(*arguments, "--out", "refused"), OPERATOR, pattern)
    assert not (terminal.folder / "refused").exists()


def test_a_port_in_use_is_refused_before_anything_is_written(terminal: Any, taken_port: int) -> None:
    command = terminal.run("launch", "tiny.yaml", "--set", f"bus.base_port={taken_port}", "--out", "refused")
    key = rf"--set bus\.base_port={taken_port}: bus\.base_port"
    leaves_nothing(command, OPERATOR, rf"{key}: expected two free ports from {taken_port} for a1, got ports in use\.")
    assert not (terminal.folder / "refused").exists()


def test_a_checkpoint_of_another_architecture_ends_the_run_and_stays(terminal: Any) -> None:
    method = load_config(str(terminal.folder / "tiny.yaml")).method
    assert isinstance(method, ScoreInferenceConfig)
    site = SiteContext("a1", 0, 3, 3, "cpu", terminal.folder / "other" / "tiny")
    agent, share = (
        ScoreInferenceSite(method, site),
        run_share(method.data, method.partition, site, method.held_out_of_run),
    )
    path = agent.checkpoint(share)
    save(ScoreNet(UNetConfig(channels=(4,), groups=4, attention=False), method.sde, share.shape, 10), path)
    (terminal.folder / "other" / "tiny" / "config.yaml").touch()
    before = path.read_bytes()
    command = terminal.launch("other")
    command.ends()
    leaves_nothing(
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
    command = terminal.call("node", "--role", "monitor", "--listen", listen, "--join", "tcp://127.0.0.1:9")
    explains(command, PEERS, f"cannot listen on {listen}: address already in use; choose another address")


@pytest.mark.slow
def test_a_visitor_says_that_nobody_is_there(terminal: Any) -> None:
    nowhere = f"tcp://127.0.0.1:{next(free_ports())}"
    command = terminal.call("sample", "--join", nowhere, "-o", "nobody.png")
    explains(command, PEERS, rf"not ready after 20 s: {nowhere} \(nobody listens at {nowhere} \(port \d+ .*\) yet\)")
    assert not (terminal.folder / "nobody.png").exists()


HALVES = f"partition={{kind: matrix, matrix: [{[0.5] * 9 + [0.0]}, {[0.5] * 8 + [0.0, 0.0]}]}}"
"""Nobody has pictures of label 9, and a2 none of label 8."""

LIVE = {
    "a file that is no picture": (
        ("novelty", "infer", "words.png"),
        METHOD,
        r"words\.png is not a readable image: .*",
    ),
    "a picture of another size": (
        ("novelty", "infer", "wide.png"),
        METHOD,
        r"wide\.png is not a readable image: it has 9 x 8 pixels; expected .*8 x 8: crop or resize it first",
    ),
    "a picture that is not there": (
        ("novelty", "infer", "absent.png"),
        OPERATOR,
        r"absent\.png: expected an existing file\.",
    ),
    "a label that there is not": (
        ("novelty", "train", "--labels", "12"),
        METHOD,
        r"--labels names the class '12'; the classes are 0, 1, 2, .*",
    ),
    "a label that nobody has": (
        ("novelty", "train", "--labels", "0,9"),
        METHOD,
        r"no site has pictures of label 9; there are pictures of 0-8",
    ),
    "a label that one site has not": (
        ("novelty", "train", "--labels", "a2=8", "--rounds", "1"),
        METHOD,
        r"a2 has no pictures of label 8; there are pictures of 0-7",
    ),
    "labels that are none": (
        ("novelty", "validate", "--labels", "../../etc/passwd"),
        METHOD,
        r"--labels names the class '\.\./\.\./etc/passwd'; the classes are 0, .*",
    ),
    "a site that is not there": (
        ("novelty", "model", "get", "x.safetensors", "--node", "../a1"),
        METHOD,
        r"there is no site \.\./a1: there are a1, a2",
    ),
    "a file that is no model": (("novelty", "model", "set", "wide.png"), METHOD, r".*safetensors.*"),
    "a model of another shape": (("novelty", "model", "set", "other.safetensors"), METHOD, r"the given model: .*"),
    "a model that is not finite": (
        ("novelty", "model", "set", "nan.safetensors"),
        METHOD,
        r"the given model.*finite.*",
    ),
    "a model of the other kind": (
        ("novelty", "model", "set", "sound.safetensors", "--model", "detector"),
        METHOD,
        r".*tensor.*",
    ),
    "a folder that is not there": (
        ("novelty", "model", "get", "no/such/x.safetensors"),
        OPERATOR,
        r"FILE no/such/x\.safetensors: expected a file in a folder that exists\.",
    ),
}


@pytest.fixture(scope="module")
def live(terminal: Any) -> Iterator[str]:
    """A novelty cluster that is up, at this address, and files to trouble it with; it must live to the end."""
    launched, address = terminal.serve("live", HALVES, "flow.detector_rounds=0", "flow.rounds=1")
    folder = terminal.folder
    assert terminal.call("novelty", "model", "get", "sound.safetensors", "--join", address).code == 0
    sound = load_file(folder / "sound.safetensors")
    (folder / "words.png").write_text("these are words")
    Image.new("L", (9, 8)).save(folder / "wide.png")
    first = min(sound)
    save_file({**sound, first: torch.zeros(3, 5)}, folder / "other.safetensors")
    save_file({**sound, first: torch.full_like(sound[first], torch.nan)}, folder / "nan.safetensors")
    yield address
    alive = terminal.call("novelty", "validate", "--join", address)
    assert alive.code == 0, alive.err
    assert launched.interrupt() == 0


@pytest.mark.parametrize("case", LIVE)
def test_a_live_cluster_refuses_it_and_lives_on(terminal: Any, live: str, case: str) -> None:
    arguments, code, pattern = LIVE[case]
    before = sorted(terminal.folder.glob("*.safetensors"))
    explains(terminal.call(*arguments, "--join", live), code, pattern)
    assert sorted(terminal.folder.glob("*.safetensors")) == before


@pytest.mark.parametrize(
    ("ask", "options"),
    [
        ("model", {"model": "../../etc/passwd"}),
        ("train", {"labels": "0", "model": "/etc/passwd"}),
        ("train", {"labels": "/etc/passwd"}),
        ("score", {"model": "file:///etc/passwd"}),
        ("/etc/passwd", {}),
    ],
)
def test_no_path_comes_from_the_network(live: str, ask: str, options: dict[str, Any]) -> None:
    def job(network: Network, _progress: Progress) -> None:
        network.ask(Question(ask, {}, options))

    spec = NodeSpec("prober", "guest", "", "tcp://127.0.0.1:0", join=(live,), timing=Timing(ready=60.0))
    with pytest.raises(NoQuorum, match="refused: ") as caught:
        run_visit(spec, job)
    assert set(caught.value.missing) == {"a1", "a2"}
    assert "No such file" not in str(caught.value)
    assert "root:" not in str(caught.value)

"""Rendered runs without their engines: what a container would run is run here, each node with an address of its own.

A stand-in for containers: names of hosts become loopback addresses, and what is mounted lies in a folder of the node,
which is what its container has as `/`. A command that needs a file that its container would not have fails here, too.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.config.schema import DRIVER
from tests.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = ("--set", "nodes=3", "--set", "devices.threads=1")
FEW, MANY = ("--set", "rounds=5"), ("--set", "rounds=40")
NODES = ("a1", "a2", "a3", DRIVER)
RUN = "fednet-regression"
PATHS = r"(?<=[ '])(/etc/fednet|/run/fednet|/runs|/public|/secret)(?=[/ '\n]|$)"


def translated(text: str, root: Path, own: str, hosts: Mapping[str, str], port: int) -> str:
    """A container's shell command on this machine.

    Args:
        text: the command.
        root: what its container has as `/`.
        own: the name of its host.
        hosts: addresses by the names of hosts.
        port: in place of the port of all containers.
    """
    text = re.sub(PATHS, rf"{root}\1", text).replace("tcp://*:7400", f"tcp://{hosts[own]}:{port}")
    return re.sub(r"tcp://([\w.-]+):7400", lambda match: f"tcp://{hosts[match[1]]}:{port}", text)


def mount(root: Path, target: str, source: Path) -> None:
    """Puts a file or a folder where the container has it."""
    there = root / target.lstrip("/")
    there.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        there.symlink_to(source)
    else:
        shutil.copy(source, there)  # with its permissions


def composed(folder: Path, port: int) -> dict[str, list[str]]:
    """The commands of a compose file's services, once their files are in place."""
    values = yaml.safe_load((folder / "compose.yaml").read_text())
    hosts = {name: f"127.0.77.{number}" for number, name in enumerate(NODES, 1)}
    commands = {}
    for name, service in values["services"].items():
        root = folder / "roots" / name
        for kind in ("secrets", "configs"):
            for part in service[kind]:
                mount(root, part["target"], folder / values[kind][part["source"]]["file"])
        for volume in service["volumes"]:
            mount(root, volume["target"], (folder / volume["source"]).absolute())
        commands[name] = shlex.split(translated(shlex.join(service["command"]), root, name, hosts, port))
    return commands


def podded(folder: Path, port: int) -> dict[str, list[str]]:
    """The last commands of the pods' scripts, once their files are in place, and the scripts have copied the keys."""
    documents = [
        each for name in ("kubernetes", "secrets") for each in yaml.safe_load_all((folder / f"{name}.yaml").read_text())
    ]
    found = {(each["kind"], each["metadata"]["name"].removeprefix(f"{RUN}-")): each for each in documents}
    pods = {DRIVER: DRIVER, **{f"{number}": name for number, name in enumerate(NODES[:-1])}}
    hosts = {f"{RUN}-{pod}.{RUN}": f"127.0.78.{number}" for number, pod in enumerate(pods, 1)}
    commands = {}
    for pod, name in pods.items():
        root = folder / "roots" / name
        secret, key = ("driver-key", "own.key") if pod == DRIVER else ("keys", f"{pod}.key")
        files = {
            **{f"public/{file}": text for file, text in found["ConfigMap", "public"]["data"].items()},
            "etc/fednet/cluster.yaml": found["ConfigMap", "config"]["data"]["cluster.yaml"],
            "secret/own.key": found["Secret", secret]["stringData"][key],
        }
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        script = translated(found["ConfigMap", "start"]["data"][f"{pod}.sh"], root, f"{RUN}-{pod}.{RUN}", hosts, port)
        before, _, last = script.rstrip().rpartition("\nexec ")
        subprocess.run(["sh", "-c", before], check=True)
        commands[name] = shlex.split(last)
    return commands


ENGINES = [("compose", composed), ("kubernetes", podded)]
Reader = Callable[[Path, int], dict[str, list[str]]]


def started(terminal: Any, folder: Path, engine: str, read: Reader, *settings: str) -> tuple[dict[str, Any], Any]:
    """The nodes of a run that was rendered, by name, and what starts one again."""
    done = terminal.call("render", engine, "regression", "--to", folder, *SETTINGS, *settings, "--gpus", "0")
    assert done.code == 0, done.err
    commands = read(folder, next(free_ports()))

    def start(name: str) -> Any:
        return terminal.start(*commands[name][1:])

    return {name: start(name) for name in commands}, start


def ended(folder: Path, nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run, whose driver comes to its end and whose clients are then told to."""
    driver = nodes[DRIVER]
    assert driver.ends() == 0, driver.out + driver.err
    for name in set(nodes) - {DRIVER}:
        os.kill(nodes[name].process.pid, signal.SIGTERM)
        assert nodes[name].ends() == 0
    return json.loads((folder / "roots/driver/runs/regression/metrics.json").read_text())


@pytest.fixture(scope="module")
def here(terminal: Any) -> list[str]:
    """The digests of the rounds of a launch on this machine."""
    command = terminal.run("launch", "regression", "--out", "here", *SETTINGS, *FEW)
    assert command.code == 0, command.err
    metrics = json.loads((terminal.folder / "here/regression/metrics.json").read_text())
    return [record["digest"] for record in metrics["rounds"]]


@pytest.mark.parametrize(("engine", "read"), ENGINES)
def test_a_rendered_run_has_the_digests_of_a_launch(terminal: Any, here: list[str], engine: str, read: Reader) -> None:
    folder = terminal.folder / f"{engine}-few"
    nodes, _ = started(terminal, folder, engine, read, *FEW)
    assert [record["digest"] for record in ended(folder, nodes)["rounds"]] == here


@pytest.mark.parametrize(("engine", "read"), ENGINES)
def test_a_rendered_run_comes_to_its_end_although_a_node_is_lost(terminal: Any, engine: str, read: Reader) -> None:
    folder = terminal.folder / engine
    nodes, start = started(terminal, folder, engine, read, *MANY)
    closed = folder / "roots/a3/runs"
    nodes[DRIVER].until(lambda: list(closed.glob("regression/checkpoints/*/*")), "a3 has closed a round")
    os.kill(nodes["a3"].process.pid, signal.SIGKILL)
    nodes.pop("a3").ends()
    start("a3")  # as the engine does
    metrics = ended(folder, nodes)
    assert len(metrics["rounds"]) == 40
    assert all(abs(value - metrics["truth"]) < 0.5 for value in metrics["federated"].values())

"""The compose file, read by Docker Compose itself, which needs no daemon for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.render.compose import render_compose
from launch.render.deployment import plan_deployment
from launch.run.devices import DeviceInventory

COMPOSE = Path(sys.executable).with_name("docker-compose")


def rendered(folder: Path, *overrides: str, gpus: int = 0, example: str = "regression") -> Any:
    """What Docker Compose makes of the file; unknown keys, and whatever it warns of, are failures."""
    loaded = load_config(example, overrides)
    path = render_compose(plan_deployment(loaded, folder, DeviceInventory(gpus, 4), shared=True))
    command = [str(COMPOSE), "--file", str(path), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return rendered(tmp_path_factory.mktemp("rendered") / "out", "nodes=3", "engine.restart=3")


def test_nodes_are_services_of_which_clients_are_started_again(read: Any, tmp_path: Path) -> None:
    restarts = {name: service["restart"] for name, service in read["services"].items()}
    assert restarts == {"a1": "on-failure:3", "a2": "on-failure:3", "a3": "on-failure:3", "driver": "no"}
    assert rendered(tmp_path / "out", "nodes=1")["services"]["a1"]["restart"] == "no"
    assert set(read["services"]["driver"]["depends_on"]) == {"a1", "a2", "a3"}


def test_the_folder_may_be_moved_to_the_machine_that_runs_it(tmp_path: Path) -> None:
    rendered(tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out" / "compose.yaml").read_text()


def test_a_service_gets_its_own_private_key_only(read: Any) -> None:
    for name, service in read["services"].items():
        assert [secret["source"] for secret in service["secrets"]] == [f"{name}-key"]
        assert Path(read["secrets"][f"{name}-key"]["file"]).name == f"{name}.key"
        folders = [Path(volume["source"]) for volume in service["volumes"]]
        assert not [key for folder in folders for key in folder.rglob("*.key")]
        assert service["user"] == f"{os.getuid()}:{os.getgid()}"  # to whom the private file belongs


def test_what_is_mounted_is_there_and_data_are_read_only(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    root = f"nodes={{a1: {{data: {{name: folder, root: {tmp_path / 'pictures'}}}}}, a2: {{}}}}"
    services = rendered(tmp_path / "out", root, example="score-inference")["services"]
    for service in services.values():
        assert all(Path(volume["source"]).is_dir() for volume in service["volumes"])
    data = {
        name: {volume["target"]: volume.get("read_only") for volume in services[name]["volumes"]} for name in services
    }
    assert data["a1"][str(tmp_path / "pictures")] is True
    assert str(tmp_path / "pictures") not in data["a2"]


def test_each_node_has_the_one_gpu_that_it_is_pinned_to(tmp_path: Path) -> None:
    services = rendered(tmp_path / "out", "nodes={a1: {}, a2: {}, a3: {device: 'cuda:1'}, a4: {device: cpu}}", gpus=2)[
        "services"
    ]

    def gpus(name: str) -> Any:
        reserved = services[name].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        return [number for device in reserved for number in device["device_ids"]]

    assert {name: gpus(name) for name in ("a1", "a2", "a3", "a4")} == {"a1": ["0"], "a2": ["1"], "a3": ["1"], "a4": []}
    assert "cuda:0" in services["a3"]["command"]  # the only one that its container has
    assert "cpu" in services["a4"]["command"]

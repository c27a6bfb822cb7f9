"""What every rendered run has: commands, the configuration that nodes read, keys; other folders are left alone."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.render.deployment import label, plan_deployment, write_files
from launch.run import keys
from launch.run.devices import DeviceInventory


def planned(folder: Path, *overrides: str, inventory: Any = None, shared: Any = True) -> Any:
    there = inventory or DeviceInventory(0, 6)
    return plan_deployment(load_config("regression", overrides), folder, there, shared=shared)


def test_a_node_joins_through_two_others_and_binds_nothing_without_its_own_key(tmp_path: Path) -> None:
    deployment = planned(tmp_path, "nodes=3")
    hosts = {node.name: f"host-{node.name}" for node in deployment.nodes}
    words = deployment.clients[0].command(hosts, "cpu")
    assert [word for before, word in pairwise(words) if before == "--join"] == [
        "a2@tcp://host-a2:7400",
        "a3@tcp://host-a3:7400",
    ]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given["--advertise"] == "tcp://host-a1:7400"
    assert given["--key"] == "/run/fednet/keys/a1.key"
    assert "--insecure" not in words
    assert deployment.driver.command(hosts, "cpu")[3] == "guest"


def test_nodes_that_share_a_machine_share_its_cores(tmp_path: Path) -> None:
    assert yaml.safe_load(planned(tmp_path, "nodes=3").config)["devices"]["threads"] == 2
    apart = planned(tmp_path, "nodes=3", inventory=DeviceInventory(0, 1), shared=False)
    assert yaml.safe_load(apart.config)["devices"]["threads"] == 1


def test_the_configuration_of_the_nodes_says_nothing_that_their_commands_say(tmp_path: Path) -> None:
    nodes = "nodes={a1: {listen: 'tcp://10.0.0.1:7400', device: cpu}, a2: {}}"
    config = yaml.safe_load(planned(tmp_path, nodes, "security.keys=there").config)
    assert config["nodes"]["a1"]["listen"] is None
    assert (config["security"]["keys"], config["devices"]["device"]) == (None, "auto")
    assert config["rounds"] == 30


def test_missing_keys_are_made_once_and_those_of_the_configuration_are_used(tmp_path: Path) -> None:
    first = planned(tmp_path / "out", "nodes=2").make_keys()
    before = first["a1"].read_text()
    assert stat.S_IMODE(first["a1"].stat().st_mode) == 0o600
    write_files(tmp_path / "out", {"image/Dockerfile": ""})
    assert planned(tmp_path / "out", "nodes=2").make_keys()["a1"].read_text() == before
    own = planned(tmp_path / "other", "nodes=2", f"security.keys={tmp_path / 'own'}").make_keys()
    assert own["driver"] == tmp_path / "own" / "driver.key"


def test_a_fingerprint_of_the_configuration_is_held_to(tmp_path: Path) -> None:
    keys.create_keys("a1", tmp_path / "own")
    nodes = f"nodes={{a1: {{fingerprint: {'-'.join(['0000'] * 8)}}}}}"
    with pytest.raises(ConfigError, match="Which keys are a1's"):
        planned(tmp_path / "out", nodes, f"security.keys={tmp_path / 'own'}").make_keys()


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="an empty folder or that of an earlier rendering"):
        planned(tmp_path)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got 'cuda:3'"):
        planned(tmp_path, "devices.device=cuda:3", inventory=DeviceInventory(2, 1))


def test_a_private_file_is_its_owner_s_whatever_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").touch(0o644)
    write_files(tmp_path, {"secrets.yaml": "x"}, private=True)
    assert stat.S_IMODE((tmp_path / "secrets.yaml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("a_b", "fednet-a-b"),
        ("a__b-", "fednet-a-b"),
        ("2nd", "fednet-2nd"),
        ("x" * 32 + "_" * 32, "fednet-" + "x" * 32),
    ],
)
def test_a_run_s_name_for_engines_is_a_label_of_dns(slug: str, expected: str) -> None:
    assert label(slug) == expected
    assert len(expected) <= 40

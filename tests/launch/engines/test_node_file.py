"""The node file: whole, validated, and private where it holds private keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.engines.node_file import CUDA_VISIBLE, MAX_BYTES, NodeFile, parse_node_file, read_node_file
from launch.errors import ConfigError
from launch.run.devices import DeviceInventory
from launch.run.keys import ensure_keyrings
from launch.run.plan import make_plan
from nodes.errors import PeersMissing
from nodes.seed import announce_seed
from protocol.security.key_roles import KeyRole


@pytest.fixture
def specs(tmp_path: Path) -> Any:
    loaded = load_config("regression", ["nodes={a1: {}, a2: {}}", f"security.keys={tmp_path / 'keys'}"])
    roles: dict[str, KeyRole] = {"a1": "client", "a2": "client", "driver": "guest", "monitor": "monitor"}
    keys = ensure_keyrings(roles, tmp_path / "keys")
    return make_plan(loaded, DeviceInventory(0, 2), tmp_path / "run", tmp_path, keys=keys).clients


def test_a_node_comes_out_as_it_went_in(specs: Any, tmp_path: Path) -> None:
    for spec in specs:
        NodeFile.of(spec).write(tmp_path / f"{spec.name}.json")
        assert read_node_file(tmp_path / f"{spec.name}.json").node() == spec


def test_it_holds_the_private_keys_of_one_node_and_the_public_ones_of_all(specs: Any) -> None:
    text = NodeFile.of(specs[0]).text()
    for spec in specs:
        assert (spec.keys.own.sign in text) is (spec.name == "a1")
        assert spec.keys.own.public.sign in text
    assert specs[0].keys.own.sign not in repr(NodeFile.of(specs[0]))


def test_its_owner_alone_can_read_it(specs: Any, tmp_path: Path) -> None:
    path = tmp_path / "a1.json"
    NodeFile.of(specs[0]).write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"its owner alone can read, got -rw-r-----\. .* chmod 600"):
        read_node_file(path)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"fednet": "public keys"}, "fednet"),
        ({"command": "rm"}, "command"),
        ({"spec": {"name": "a1"}}, "spec.role"),
        ({"config": {"rounds": "many"}}, "rounds"),
        ({"private_keys": {"name": "a1"}}, "private_keys.curve"),
    ],
)
def test_what_is_no_node_file_is_refused_by_key_without_its_secrets(specs: Any, change: Any, key: str) -> None:
    document = {**json.loads(NodeFile.of(specs[0]).text()), **change}
    with pytest.raises(ConfigError) as caught:
        parse_node_file(json.dumps(document), "a1.json").node()
    assert caught.value.problems[0].key == key
    assert specs[0].keys.own.sign not in str(caught.value)


def test_a_file_that_is_too_long_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 8 MiB"):
        parse_node_file(b" " * (MAX_BYTES + 1), "x")
    with pytest.raises(ConfigError, match="No such file"):
        read_node_file(tmp_path / "none.json")


def test_a_node_sees_the_gpu_that_it_was_given(specs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA_VISIBLE, "0,1")
    NodeFile.of(specs[0]).node()
    assert os.environ[CUDA_VISIBLE] == "0,1"
    NodeFile.of(specs[0], visible_gpus="1").node()
    assert os.environ[CUDA_VISIBLE] == "1"


def test_a_node_joins_through_the_seed_that_has_announced_itself(specs: Any, tmp_path: Path) -> None:
    announce_seed(tmp_path / "rank0.json", "driver", "tcp://10.0.0.1:7000")
    file = NodeFile.of(specs[0], seed=tmp_path / "rank0.json")
    assert file.joined(file.node()).join == ("driver@tcp://10.0.0.1:7000",)


def test_a_seed_that_never_comes_is_named(specs: Any, tmp_path: Path) -> None:
    document = json.loads(NodeFile.of(specs[0], seed=tmp_path / "none").text())
    document["spec"]["timing"]["ready"] = 0.01
    file = parse_node_file(json.dumps(document), "a1.json")
    with pytest.raises(PeersMissing, match="none"):
        file.joined(file.node())

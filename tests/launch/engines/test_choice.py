"""Which engine a configuration has, what it wants for each client, and what is said where a library is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launch.config.schema import load_config
from launch.engines.choice import devices_elsewhere, hints, make_engines
from launch.engines.interface import Hint
from launch.engines.local import LocalEngine
from launch.engines.slurm import SlurmEngine
from launch.errors import ConfigError

NODES = "nodes={a: {device: cpu, host: n1}, b: {}, c: {device: cuda}}"


def test_clients_and_driver_are_local_by_default_and_both_slurms(tmp_path: Path) -> None:
    engine, home = make_engines(load_config("regression"), tmp_path / "logs", tmp_path)
    assert engine is home
    assert isinstance(engine, LocalEngine)
    engine, home = make_engines(load_config("regression", ["engine=slurm"]), tmp_path / "logs", tmp_path)
    assert engine is home
    assert isinstance(engine, SlurmEngine)


def test_a_client_gets_as_many_gpus_as_it_is_to_have_and_none_on_the_cpu() -> None:
    wanted = hints(load_config("regression", ["engine={kind: slurm, gpus: 2}", NODES]))
    assert wanted == {"a": Hint("n1", {}, 0), "b": Hint(None, {}, 2), "c": Hint(None, {}, 2)}
    assert hints(load_config("regression", ["engine=slurm", NODES]))["c"].gpus == 1


def test_devices_of_this_machine_are_the_plans() -> None:
    assert devices_elsewhere(load_config("regression")) is None
    assert devices_elsewhere(load_config("regression", ["engine=slurm", NODES])) == {
        "a": "cpu",
        "b": "auto",
        "c": "cuda",
    }


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("{kind: ssh, hosts: {h: {}}}", "asyncssh")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    engine: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("launch.engines.ray", "launch.engines.ray_keeper", "launch.engines.ssh"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    extra = "ssh" if package == "asyncssh" else package
    with pytest.raises(ConfigError, match=rf"the package {package}, .* `pip install 'fednet\[{extra}\]'`"):
        make_engines(load_config("regression", [f"engine={engine}"]), tmp_path / "logs", tmp_path)

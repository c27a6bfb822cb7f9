"""Only what lies on this machine is looked at: nodes by their addresses, data sets by their nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from launch.config.schema import DRIVER, LoadedConfig, load_config
from launch.errors import ConfigError
from launch.run.local_data import (
    check_data,
    data_config,
    data_digest,
    data_uses,
    folders,
    model_values,
    nodes_here,
    tcp_endpoint,
)

ELSEWHERE = "tcp://203.0.113.7:7000"
"""An address for documentation (RFC 5737), which no machine has."""


def cluster(**nodes: Any) -> LoadedConfig:
    return load_config(
        {"name": "x", "method": "score-inference", "data": {"name": "folder", "root": "/nowhere"}, "nodes": nodes}
    )


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("tcp://127.0.0.1:7000", ("127.0.0.1", 7000)),
        ("tcp://[::1]:7000", ("::1", 7000)),
        ("ipc:///tmp/x", None),
        (None, None),
    ],
)
def test_an_address_of_tcp_has_a_host_and_a_port(listen: str | None, found: Any) -> None:
    assert tcp_endpoint(listen) == found


def test_nodes_here_are_those_whose_address_is() -> None:
    here: dict[str, Any] = {"a1": {}, "a2": {"listen": "tcp://127.0.0.1:7000"}, "a3": {"listen": "ipc:///tmp/x"}}
    assert nodes_here(cluster(**here)) == ("a1", "a2", "a3", DRIVER)
    assert nodes_here(cluster(**here, b={"listen": ELSEWHERE})) == ("a1", "a2", "a3")


def test_each_data_set_is_looked_at_once_and_only_for_its_nodes(tmp_path: Path) -> None:
    loaded = cluster(a1={}, a2={}, a3={"data": {"root": str(tmp_path)}})
    uses = list(data_uses(loaded, ("a1", "a2", "a3", DRIVER)))
    assert [(use.owners, use.key) for use in uses] == [
        (("a1", "a2", DRIVER), ("data",)),
        (("a3",), ("nodes", "a3", "data")),
    ]
    roots = [data.root for data in (data_config(loaded, use) for use in uses) if data is not None]
    assert roots == [Path("/nowhere"), tmp_path]
    assert [use.owners for use in data_uses(loaded, ("a3",))] == [("a3",)]


FLOWERS = {"name": "folder", "root": "flowers"}


@pytest.mark.parametrize(
    ("own", "data", "named"),
    [
        ({"data": {"name": "digits"}}, {}, False),
        ({"data": {"name": "digits"}}, {"name": "digits"}, True),
        ({}, {}, True),
    ],
)
def test_the_driver_has_data_where_somebody_reads_or_names_them(
    own: dict[str, Any], data: dict[str, str], *, named: bool
) -> None:
    """`check` showed digits to somebody whose sites all have folders of their own."""
    loaded = load_config({"name": "x", "method": "score-inference", "data": data, "nodes": {"a": own, "b": own}})
    found = {use.owners: data_config(loaded, use) for use in data_uses(loaded, ("a", "b", DRIVER))}
    (driver,) = (owners for owners in found if DRIVER in owners)
    assert (found[driver] is not None) == named


def test_a_site_is_not_asked_for_the_data_of_others(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{index}.png")
    loaded = cluster(a1={"data": {"root": str(tmp_path)}}, a2={"data": {"root": "/also/nowhere"}})
    check_data(loaded, ("a1",))
    with pytest.raises(ConfigError, match="/also/nowhere is not a folder"):
        check_data(loaded, ("a2",))
    with pytest.raises(ConfigError) as raised:
        check_data(loaded)
    assert [problem.key for problem in raised.value.problems] == ["data", "nodes.a2.data"]


def test_a_privacy_that_cannot_be_had_is_no_fault_of_the_data_and_said_once() -> None:
    own = {"data": {"name": "digits"}}
    loaded = load_config(
        {"name": "x", "method": "private-gan", "privacy": {"budget": 0.1}, "nodes": {"a": own, "b": {}}}
    )
    with pytest.raises(ConfigError) as raised:
        check_data(loaded)
    assert [problem.key for problem in raised.value.problems] == ["privacy"]


def test_a_method_without_images_has_no_data_set() -> None:
    loaded = load_config("regression")
    assert [data_config(loaded, use) for use in data_uses(loaded, nodes_here(loaded))] == [None]


@pytest.mark.parametrize("measured", [False, True])
def test_the_digest_follows_the_files(tmp_path: Path, *, measured: bool) -> None:
    def digest() -> str:
        own = {"name": "folder", "root": str(tmp_path)}
        more = {"measure": {"data": own}} if measured else {"nodes": {"a": {"data": own}}}
        return data_digest(load_config({"name": "x", "method": "score-inference", **more}))

    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(b"x")
    first = digest()
    assert digest() == first
    (tmp_path / "1.png").write_bytes(b"xy")
    second = digest()
    (tmp_path / "0.png").unlink()
    assert len({first, second, digest()}) == 3


def test_models_that_nodes_bring_along_are_read_and_checked_here(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    nodes = {"a": {"model": {"kind": "diffusers", "path": str(folder)}}, "b": {}}
    loaded = load_config({"name": "x", "method": "score-inference", "nodes": nodes})
    assert list(folders(loaded, ("a", "b", "driver"))) == [folder]
    assert list(model_values(loaded, ("a", "b"), "path")) == [str(folder)]
    (of_a,) = (use for use in data_uses(loaded, ("a", "b")) if use.owners == ("a",))
    assert data_config(loaded, of_a) is None
    with pytest.raises(ConfigError, match=r"nodes\.a\.model: model\.path: .*mine is no folder"):
        check_data(loaded, ("a", "b"))
    before = data_digest(loaded, ("a",))
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert data_digest(loaded, ("a",)) != before

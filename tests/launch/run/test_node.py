"""One node by hand: what is refused before anything starts. How it works is tested from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.run import node
from launch.run.endpoint import EndpointOptions

LOCAL = EndpointOptions("tcp://127.0.0.1:0")


def test_a_client_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--name: expected a client of the configuration"):
        node.run_node(load_config("control"), "client", None, LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_client_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        node.run_node(load_config("control"), "client", "a7", LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_monitor_needs_somebody_to_join() -> None:
    with pytest.raises(ConfigError, match="--join"):
        node.run_monitor(None, LOCAL, Console())


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://10.0.0.1:7000"])
def test_a_monitor_stays_on_loopback_unless_told(listen: Any) -> None:
    place = EndpointOptions(listen, join=("tcp://127.0.0.1:1",))
    with pytest.raises(ConfigError, match="--insecure"):
        node.run_monitor(None, place, Console())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (EndpointOptions("tcp://0.0.0.0:7000"), "--insecure"),
        (EndpointOptions("tcp://127.0.0.1:0"), "three free ones after it"),
        (EndpointOptions("tcp://127.0.0.1:7000", key=Path("relay.key")), "a file with keys"),
    ],
)
def test_a_relay_is_refused_where_it_cannot_be(place: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        node.run_relay(place, Console())


def test_a_node_speaks_through_a_relay_beyond_loopback_only_if_told(tmp_path: Path) -> None:
    place = EndpointOptions("tcp://127.0.0.1:0", through="tcp://10.0.0.1:7000")
    with pytest.raises(ConfigError, match=r"--through: expected a loopback address.*--insecure"):
        node.run_node(load_config("control"), "client", "a1", place, out=tmp_path, console=Console())

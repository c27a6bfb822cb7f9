"""One node by hand: what is refused before anything starts. How it works is tested from end to end."""

from __future__ import annotations

import pytest
from rich.console import Console

from launch import by_hand
from launch.config import load
from launch.errors import ConfigError

LOCAL = by_hand.Place("tcp://127.0.0.1:0")


def test_a_client_needs_a_name(tmp_path):
    with pytest.raises(ConfigError, match="--name: expected a client of the configuration"):
        by_hand.work(load("control"), "client", None, LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_client_that_does_not_fit_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError):
        by_hand.work(load("control"), "client", "a7", LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_monitor_needs_somebody_to_join():
    with pytest.raises(ConfigError, match="--join"):
        by_hand.watch(None, LOCAL, Console())


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://10.0.0.1:7000"])
def test_a_monitor_stays_on_loopback_unless_told(listen):
    place = by_hand.Place(listen, join=("tcp://127.0.0.1:1",))
    with pytest.raises(ConfigError, match="--insecure"):
        by_hand.watch(None, place, Console())

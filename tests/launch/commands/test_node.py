"""One node by hand: what is refused before anything starts. How it works is tested from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from launch.commands import node
from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.run import keys

LOCAL = node.EndpointOptions("tcp://127.0.0.1:0")


def test_a_client_needs_a_name(tmp_path):
    with pytest.raises(ConfigError, match="--name: expected a client of the configuration"):
        node.run_node(load_config("control"), "client", None, LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_client_that_does_not_fit_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError):
        node.run_node(load_config("control"), "client", "a7", LOCAL, out=tmp_path, console=Console())
    assert not list(tmp_path.iterdir())


def test_a_monitor_needs_somebody_to_join():
    with pytest.raises(ConfigError, match="--join"):
        node.run_monitor(None, LOCAL, Console())


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://10.0.0.1:7000"])
def test_a_monitor_stays_on_loopback_unless_told(listen):
    place = node.EndpointOptions(listen, join=("tcp://127.0.0.1:1",))
    with pytest.raises(ConfigError, match="--insecure"):
        node.run_monitor(None, place, Console())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (node.EndpointOptions("tcp://0.0.0.0:7000"), "--insecure"),
        (node.EndpointOptions("tcp://127.0.0.1:0"), "three free ones after it"),
        (node.EndpointOptions("tcp://127.0.0.1:7000", key=Path("relay.key")), "a file with keys"),
    ],
)
def test_a_relay_is_refused_where_it_cannot_be(place, said):
    with pytest.raises(ConfigError, match=said):
        node.run_relay(place, Console())


def test_a_node_speaks_through_a_relay_beyond_loopback_only_if_told(tmp_path):
    place = node.EndpointOptions("tcp://127.0.0.1:0", through="tcp://10.0.0.1:7000")
    with pytest.raises(ConfigError, match=r"--through: expected a loopback address.*--insecure"):
        node.run_node(load_config("control"), "client", "a1", place, out=tmp_path, console=Console())


class TestKeys:
    @pytest.fixture
    def key(self, tmp_path):
        keys.create_keys("anna", tmp_path)
        return tmp_path / "anna.key"

    def test_a_key_says_who_the_node_is(self, key):
        place = node.EndpointOptions("tcp://10.0.0.1:7000", join=("ben@tcp://10.0.0.2:7000",), key=key)
        assert place.keyring().own.name == place.keyring("anna").own.name == "anna"
        assert LOCAL.keyring("anna", key.parent).own.name == "anna", "found by name in the configuration's folder"
        assert LOCAL.keyring() is LOCAL.keyring("anna") is None

    def test_another_name_than_the_keys_is_refused(self, key):
        with pytest.raises(ConfigError, match="expected the keys of ben, got those of anna"):
            node.EndpointOptions("tcp://127.0.0.1:0", key=key).keyring("ben")

    def test_a_peer_to_join_through_must_be_named(self, key):
        with pytest.raises(ConfigError, match=r"NAME@tcp://127\.0\.0\.1:1"):
            node.EndpointOptions("tcp://127.0.0.1:0", join=("tcp://127.0.0.1:1",), key=key).keyring()

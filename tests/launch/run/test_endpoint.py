"""Whose keys the node of an endpoint has, and which peers it may join through."""

from __future__ import annotations

from typing import Any

import pytest

from launch.errors import ConfigError
from launch.run import keys
from launch.run.endpoint import EndpointOptions

LOCAL = EndpointOptions("tcp://127.0.0.1:0")


class TestKeys:
    @pytest.fixture
    def key(self, tmp_path: Any) -> Any:
        keys.create_keys("anna", tmp_path)
        return tmp_path / "anna.key"

    def test_a_key_says_who_the_node_is(self, key: Any) -> None:
        place = EndpointOptions("tcp://10.0.0.1:7000", join=("ben@tcp://10.0.0.2:7000",), key=key)
        by_name_in_the_configurations_folder = LOCAL.keyring("anna", key.parent)
        for ring in (place.keyring(), place.keyring("anna"), by_name_in_the_configurations_folder):
            assert ring is not None
            assert ring.own.name == "anna"
        assert LOCAL.keyring() is LOCAL.keyring("anna") is None

    def test_another_name_than_the_keys_is_refused(self, key: Any) -> None:
        with pytest.raises(ConfigError, match="expected the keys of ben, got those of anna"):
            EndpointOptions("tcp://127.0.0.1:0", key=key).keyring("ben")

    def test_a_peer_to_join_through_must_be_named(self, key: Any) -> None:
        with pytest.raises(ConfigError, match=r"NAME@tcp://127\.0\.0\.1:1"):
            EndpointOptions("tcp://127.0.0.1:0", join=("tcp://127.0.0.1:1",), key=key).keyring()

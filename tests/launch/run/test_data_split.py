"""What images are used for is known before anything is started, and whether the sites fit each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fednet.methods.common.config import ImageConfig
from launch.config.schema import LoadedConfig, load_config
from launch.errors import ConfigError
from launch.run.data_split import DataSplit, data_split
from launch.run.local_data import nodes_here


def planned(loaded: LoadedConfig) -> DataSplit:
    assert isinstance(loaded.method, ImageConfig)
    return data_split(loaded, loaded.method, nodes_here(loaded))


def test_what_pictures_are_used_for_is_known_from_lists_of_files() -> None:
    nodes = {"a": {}, "b": {"data": {"limit": 50}}}
    loaded = load_config({"name": "x", "method": "private-gan", "nodes": nodes, "data": {"limit": 300}})
    split = planned(loaded)
    assert split.sites == {"a": {"train": 150}, "b": {"train": 50}}
    assert split.own == {"b"}
    assert split.measuring == {"judge": 300, "test": 300}
    assert not split.note


def test_sites_agree_before_anything_is_started(tmp_path: Path) -> None:
    """`check` said "fine" of sites that the run refused."""
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    nodes = {"a": {}, "b": {"data": {"name": "folder", "root": str(tmp_path)}}}
    loaded = load_config({"name": "x", "method": "fedbagan", "nodes": nodes})
    with pytest.raises(ConfigError, match="fedbagan needs labels, and the pictures of b have none"):
        planned(loaded)

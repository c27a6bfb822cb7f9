"""The configuration of data refuses what cannot be meant, before any file is read."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fednet.data.config import DataConfig, HeldOut, PartitionConfig


def test_defaults_need_no_files() -> None:
    assert DataConfig().name == "digits"
    assert PartitionConfig().kind == "iid"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "mnist"}, "needs root"),
        ({"root": "/tmp"}, "takes no root"),  # noqa: S108 - a name, never opened
        ({"name": "minst"}, "name"),
        ({"sise": 8}, "Extra inputs"),
        ({"size": "8"}, "integer"),
        ({"limit": 0}, "greater than or equal to 1"),
    ],
)
def test_data_config_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DataConfig(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "dirichlet"}, "needs alpha"),
        ({"kind": "pathological"}, "needs classes_per_client"),
        ({"kind": "matrix"}, "needs matrix"),
        ({"kind": "iid", "alpha": 0.5}, "alpha belongs to kind 'dirichlet'"),
        ({"kind": "dirichlet", "alpha": 0.0}, "greater than 0"),
        ({"kind": "dirichlet", "alpha": float("inf")}, "finite"),
        ({"kind": "matrix", "matrix": [[0.5, 1], [0.6, 0]]}, "1.1 of class 0"),
        ({"kind": "matrix", "matrix": [[0.5, 1], [0.5]]}, "one row per agent"),
        ({"kind": "matrix", "matrix": [[-0.1]]}, "greater than or equal to 0"),
        ({"kind": "shards"}, "needs shards_per_client"),
        ({"kind": "iid", "shards_per_client": 2}, "shards_per_client belongs to kind 'shards'"),
        ({"kind": "disjoint", "balanced": True}, "sizes of 'disjoint' are fixed"),
        ({"balanced": "yes"}, "boolean"),
        ({"least": 0}, "greater than or equal to 1"),
        ({"imbalance": {3: 0.0}}, "greater than 0"),
        ({"imbalance": {3: 1.5}}, "less than or equal to 1"),
        ({"imbalance": {-1: 0.5}}, "greater than or equal to 0"),
        ({"train_ratio": 0.0}, "greater than 0"),
        ({"train_ratio": 1.01}, "less than or equal to 1"),
    ],
)
def test_partition_config_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PartitionConfig(**given)


def test_configurations_survive_json() -> None:
    for config in (
        DataConfig(name="folder", root=Path("here"), size=16, limit=3),
        PartitionConfig(kind="matrix", matrix=((0.25, 1.0), (0.75, 0.0)), least=2),
        PartitionConfig(kind="shards", shards_per_client=2, balanced=False, imbalance={7: 0.1, 9: 1}, train_ratio=0.75),
    ):
        assert type(config).model_validate_json(config.model_dump_json()) == config


def test_a_class_is_written_by_name_or_number() -> None:
    config = PartitionConfig.model_validate({"imbalance": {5: 0.1, "cat": 0.2}})
    assert config.imbalance == {"5": 0.1, "cat": 0.2}


def test_a_cut_leaves_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        HeldOut(judge=0.5, test=0.5)

"""What is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.methods.private_gan.config import PrivateGanConfig


def config(**keys: Any) -> PrivateGanConfig:
    return PrivateGanConfig.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"privacy": {"noise": 1.0, "epsilon": 8.0}}, "not both"),
        ({"privacy": {"level": "none", "noise": 1.0}}, "level none has no noise"),
        ({"privacy": {"epsilon": 8.0, "budget": 4.0}}, "below privacy.epsilon"),
        ({"model": {"kind": "dcgan"}}, "has BatchNorm.*dp-dcgan"),
        (
            {"model": {"kind": "dcgan"}, "privacy": {"level": "client"}, "share": {"weight": "equal"}},
            "BatchNorm, whose running statistics.*dp-dcgan",
        ),
        ({"privacy": {"level": "client"}}, "share.weight: equal"),
        ({"privacy": {"level": "client"}, "federation": {"rule": {"kind": "median"}}}, "median is none"),
        ({"privacy": {"level": "client"}, "share": {"weight": "equal", "clip": 1.0}}, "leave share.clip out"),
        ({"privacy": {"level": "client"}, "share": {"weight": "equal", "pace": "adaptive"}}, "set share.pace: equal"),
        ({"rounds": 0}, "nothing is trained"),
    ],
)
def test_what_contradicts_itself_is_refused(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**keys)


def test_batch_norm_is_fine_where_no_picture_is_protected() -> None:
    config(model={"kind": "dcgan"}, privacy={"level": "none"})

"""Settings that cannot work are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.federated.config import Federation


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rule": {"kind": "krum", "byzantine": 2, "keep": 3}},
        {"rule": {"kind": "trimmed-mean", "trim": 0.0}, "transport": "sharded"},
        {"server": {"kind": "adam", "rate": 0.1}, "participation": 0.1, "quorum": 3},
        {"secure": {"threshold": 3}, "transport": "sharded", "server": {"kind": "momentum"}},
        {"buffer": {"size": 5}, "rule": {"kind": "krum"}, "quorum": 5},
        {"audit": "1/16"},
        {"audit": 1},
    ],
)
def test_what_works_survives_its_text(settings: dict[str, Any]) -> None:
    federation = Federation.model_validate(settings)
    assert Federation.model_validate_json(federation.model_dump_json()) == federation


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rule": {"kind": "krum"}, "transport": "sharded"}, "set `transport: mesh`"),
        ({"rule": {"kind": "mode"}}, "'krum', 'mean', 'median', 'trimmed-mean'"),
        ({"rule": {"kind": "trimmed-mean", "trim": 0.5}}, "less than 0.5"),
        ({"rule": {"kind": "krum", "byzantine": -1}}, "greater than or equal to 0"),
        ({"server": {"kind": "momentum", "beta": 1.0}}, "less than 1"),
        ({"server": {"kind": "momentum", "rate": float("inf")}}, "finite number"),
        ({"server": {"kind": "adam", "tau": 0.0}}, "greater than 0"),
        ({"participation": 0.0}, "greater than 0"),
        ({"participation": float("nan")}, "finite number|greater than"),
        ({"quorum": 0}, "greater than or equal to 1"),
        ({"audit": "1/0"}, "valid number"),
        ({"audit": "3/2"}, "less than or equal to 1"),
        ({"quorm": 2}, "Extra inputs"),
        ({"secure": {}, "rule": {"kind": "krum"}}, "krum compares single contributions, and a secure sum reveals none"),
        ({"secure": {}, "rule": {"kind": "median"}}, "median compares single contributions"),
        ({"secure": {}, "rule": {"kind": "trimmed-mean"}}, "trimmed-mean compares single contributions"),
        ({"secure": {}, "buffer": {"size": 3}}, "masks cancel only within one round"),
        ({"secure": {"threshold": 2}}, "greater than or equal to 3"),
        ({"secure": {"clip": 0.0}}, "greater than or equal to"),
        ({"buffer": {"size": 4}, "rule": {"kind": "krum"}}, "`buffer.size` = 4 contributions, but krum needs 5"),
        ({"buffer": {"size": 2}, "quorum": 3}, "`buffer.size` = 2 contributions, but the quorum is 3"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Federation.model_validate(settings)

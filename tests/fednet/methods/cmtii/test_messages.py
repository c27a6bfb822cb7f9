"""Capabilities and options are validated."""

from __future__ import annotations

import pytest

from fednet.errors import MethodError
from fednet.methods.cmtii.messages import TUNED_ARMS, CmtiiCapabilities, parse_arm, parse_round, read_cmtii_capabilities

CAPABILITIES = CmtiiCapabilities(
    histogram=(3, 4), tests=2, classes=("a", "b"), shape=(1, 8, 8), models="abc", parameters=10
)


def capabilities(**changes: object) -> dict[str, str]:
    return {"a1": CAPABILITIES.model_dump_json(), "a2": CAPABILITIES.model_copy(update=changes).model_dump_json()}


def test_capabilities_are_read_in_order() -> None:
    assert list(read_cmtii_capabilities({**capabilities(), "a0": CAPABILITIES.model_dump_json()})) == ["a0", "a1", "a2"]


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({}, "no site answers"),
        ({"a1": "{}"}, "a1 has no capabilities"),
        (capabilities(classes=("a", "c")), "a2 and a1 differ in classes .*one configuration"),
        (capabilities(shape=(3, 8, 8)), "a2 and a1 differ in shape .*one configuration"),
        (capabilities(models="abd"), "a2 and a1 differ in models .*give both sites the same files"),
    ],
)
def test_capabilities_that_do_not_match_are_refused(found: dict[str, str], what: str) -> None:
    with pytest.raises(MethodError, match=what):
        read_cmtii_capabilities(found)


def test_arms() -> None:
    assert parse_arm({"arm": "zero-shot"}) == "zero-shot"
    with pytest.raises(MethodError, match="zero-shot"):
        parse_arm({"arm": "zero-shot"}, TUNED_ARMS)
    with pytest.raises(MethodError, match="None"):
        parse_arm({})


@pytest.mark.parametrize("found", [None, 0, True, "1", 1.0])
def test_rounds_count_from_one(found: object) -> None:
    with pytest.raises(MethodError, match="whole number from 1"):
        parse_round({"round": found})  # type: ignore[dict-item]

"""The harness can fail: each protection is taken away, and the runs find what it was there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.election import Election
from protocol.machines.signatory import Signatory
from protocol.machines.statements import AttemptStatements
from tests.byzantine.scenario import Violation
from tests.byzantine.simulation import ByzantineWorld, simulate
from tests.protocol.machines.simulated_values import Disk


def first_violation(play: Callable[[int], object], seeds: range) -> str:
    """What the first of these seeds finds that finds anything."""
    for seed in seeds:
        try:
            play(seed)
        except Violation as error:
            return str(error)
    return "nothing was found"


FEW = {"names": ("a", "b", "c", "d"), "liars": ("b",), "keyed": True, "steps": 400}
NO_MEMBER: dict[str, Any] = {**FEW, "names": ("a", "b", "c"), "liars": ("guest",), "role": "guest", "quorum": 1}
MEMBER: dict[str, Any] = {**FEW, "role": "member", "quorum": 1}
LEAD: dict[str, Any] = {**FEW, "role": "lead", "liars": ("a",), "quorum": 1}
FLOOR: dict[str, Any] = {**LEAD, "quorum": 3}


@pytest.mark.parametrize(
    ("place", "broken", "scenario", "found"),
    [
        ((Signatory, "is_certified"), lambda *_: True, LEAD, "have voted for"),
        ((Disk, "votes"), property(lambda _: {}), NO_MEMBER, "two outcomes"),
        ((AttemptStatements, "unfounded"), lambda *_: [], LEAD, "did not offer"),
        ((ByzantineWorld, "floor"), lambda *_: 1, FLOOR, "below its floor"),
        ((Election, "_owner_to_tell"), lambda *_: [], MEMBER, "no progress"),
    ],
    ids=["certificates", "persisted votes", "signed contributions", "floors", "hearsay"],
)
def test_a_protection_that_is_missing_is_found(
    monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], broken: Any, scenario: dict[str, Any], found: str
) -> None:
    monkeypatch.setattr(*place, broken)
    violation = first_violation(lambda seed: simulate(seed, **scenario), range(1000))
    assert found in violation
    assert "--seed" in violation, "it can be played again"

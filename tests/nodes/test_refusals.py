"""Whatever is refused is counted; the log has the first few of a kind, and no peer makes up kinds without end."""

from __future__ import annotations

import pytest

from nodes.refusals import LOGGED, MAX_KINDS, Refusals


def test_the_log_is_bounded_and_the_counts_are_not(caplog: pytest.LogCaptureFixture) -> None:
    refused = Refusals()
    for number in range(3000):
        refused("malformed", f"number {number}")
    refused("stranger", "somebody")
    assert refused.counts == {"malformed": 3000, "stranger": 1}
    assert len(caplog.messages) == LOGGED + 3 + 1
    assert caplog.messages[LOGGED] == "dropped (malformed, 1000 so far): number 999"


def test_kinds_without_end_are_one(caplog: pytest.LogCaptureFixture) -> None:
    refused = Refusals()
    for number in range(10 * MAX_KINDS):
        refused(f"kind {number}", "why")
    assert len(refused.counts) == MAX_KINDS + 1
    assert refused.counts["other"] == 9 * MAX_KINDS

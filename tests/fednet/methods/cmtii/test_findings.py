"""Accuracies from counts by class."""

from __future__ import annotations

import math

from fednet.methods.cmtii.findings import CmtiiFindings, accuracy


def test_accuracy_is_all_right_ones_over_all() -> None:
    assert accuracy([[1, 2], [3, 3], [0, 0]]) == 4 / 5
    assert math.isnan(accuracy([[0, 0], [0, 0]]))


def test_a_run_begins_with_no_findings() -> None:
    assert CmtiiFindings() == CmtiiFindings((), {}, None, (), {})

"""The usual threshold of a secure sum: more than two thirds of its parties, never fewer than three."""

from __future__ import annotations

import pytest

from fednet.privacy.threshold import MIN_PARTIES, default_threshold


@pytest.mark.parametrize("count", range(MIN_PARTIES, 100))
def test_a_third_may_drop_and_a_third_collude(count: int) -> None:
    threshold = default_threshold(count)
    assert MIN_PARTIES <= threshold <= count
    assert 3 * threshold > 2 * count
    assert threshold == MIN_PARTIES or 3 * (threshold - 1) <= 2 * count

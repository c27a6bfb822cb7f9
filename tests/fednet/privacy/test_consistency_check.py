"""A vote is one peer's, for one agreement; fewer than the threshold are no majority."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.consistency_check import VOTE_BYTES, require_threshold_votes, require_vote
from fednet.privacy.secure_sum_setup import SurvivorSet


@pytest.fixture
def agreement(whole: Any) -> SurvivorSet:
    return whole.parties["c00"]._agreement


@pytest.fixture
def votes(whole: Any) -> dict[str, bytes]:
    return whole.vote(["c00", "c01", "c02", "c03"])


def test_votes_for_the_agreement_are_a_majority(agreement: SurvivorSet, votes: dict[str, bytes]) -> None:
    assert {len(vote) for vote in votes.values()} == {VOTE_BYTES}
    require_threshold_votes(agreement, votes)
    require_threshold_votes(agreement, dict(list(votes.items())[:3]))
    with pytest.raises(PrivacyError, match="2 of 5 parties voted for the survivors, the threshold is 3"):
        require_threshold_votes(agreement, dict(list(votes.items())[:2]))


def test_any_other_vote_is_refused_by_name(agreement: SurvivorSet, votes: dict[str, bytes]) -> None:
    other = SurvivorSet(agreement.parties, agreement.sharers, agreement.survivors[:3])
    cases = [
        (agreement, "c01", votes["c00"]),
        (agreement, "c01", b""),
        (agreement, "c01", bytes(VOTE_BYTES)),
        (other, "c01", votes["c01"]),
        (agreement, "zz", votes["c01"]),
    ]
    for where, name, vote in cases:
        with pytest.raises(PrivacyError, match=f"'{name}'") as caught:
            require_vote(where, name, vote)
        assert caught.value.peers == (name,)
    with pytest.raises(PrivacyError, match="'c02'"):
        require_threshold_votes(agreement, {**votes, "c02": votes["c03"]})

"""What a plan's federation means for its leader."""

from __future__ import annotations

from fednet.federated.config import Federation
from nodes.rounds.plan_terms import FederationTerms


def terms(**federation: object) -> FederationTerms:
    return FederationTerms(Federation.model_validate(federation), seed=3)


def test_a_secure_sum_needs_more_than_two_thirds_unless_told_otherwise() -> None:
    assert [terms(secure={}).threshold(count) for count in (3, 4, 6, 9)] == [3, 3, 5, 7]
    assert terms(secure={"threshold": 3}).threshold(9) == 3
    assert terms().threshold(9) == 0


def test_a_share_of_the_members_is_drawn_by_round() -> None:
    members = tuple("abcdef")
    draws = {terms(participation=0.5).drawn(members, "m", number) for number in range(1, 20)}
    assert {len(draw) for draw in draws} == {3}
    assert len(draws) > 3
    assert terms().drawn(members, "m", 1) == members


def test_the_rest_is_the_federations() -> None:
    buffered = terms(buffer={"size": 2}, quorum=2)
    assert (buffered.quorum, buffered.enough, terms().enough) == (2, 2, None)
    assert [terms().sharded(count) for count in (2, 3)] == [False, True]

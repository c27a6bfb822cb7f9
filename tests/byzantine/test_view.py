"""What liars can compute of secure sums: nothing of an honest run, and what each protection is there to hide."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fednet.privacy.secure_sum import SecureSumParty
from tests.byzantine.view import Masked, exposed

NAMES = ("a", "b", "c", "d")
LIARS = ("d",)
EQUAL = dict.fromkeys(NAMES, 1.0)


def attempt(number: int, weights: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Masked]:
    """All four share and mask; each knows the weights that it was told."""
    parties = {name: SecureSumParty(name, NAMES, 3, bytes([number])) for name in NAMES}
    keys = {name: party.advertise() for name, party in parties.items()}
    sealed = {name: party.share(keys) for name, party in parties.items()}
    for name, party in parties.items():
        party.receive({other: boxes[name] for other, boxes in sealed.items() if other != name})
        party.mask(torch.ones(2, dtype=torch.int32))
    told = weights or {}
    return {name: Masked(party, (name, "base"), told.get(name, EQUAL)) for name, party in parties.items()}


def reveal(vectors: Mapping[str, Masked], survivors: str) -> list[Masked]:
    """All agree on the survivors and reveal; returns what honest members have masked."""
    parties = {name: each.party for name, each in vectors.items()}
    votes = {name: party.vote(survivors, set(NAMES) - set(survivors)) for name, party in parties.items()}
    for party in parties.values():
        party.reveal(votes)
    return [each for name, each in vectors.items() if name not in LIARS]


def test_masked_vectors_alone_tell_nothing() -> None:
    assert exposed([each for name, each in attempt(1).items() if name not in LIARS], LIARS) == set()


def test_a_sum_tells_nothing_but_itself() -> None:
    assert exposed(reveal(attempt(1), "abcd"), LIARS) == set()
    assert exposed(reveal(attempt(1), "abd"), LIARS) == set()


def test_liars_that_are_all_but_one_know_the_last_one() -> None:
    vectors = attempt(1)
    reveal(vectors, "abcd")
    assert exposed([vectors["a"]], ("b", "c", "d")) == {("a", "base")}


def test_two_sums_of_one_base_tell_their_difference() -> None:
    vectors = [*reveal(attempt(1), "abcd"), *reveal(attempt(2), "abd")]
    assert exposed(vectors, LIARS) == {("c", "base")}


def test_two_sums_of_different_bases_do_not() -> None:
    second = [Masked(each.party, (each.contribution[0], "next"), EQUAL) for each in reveal(attempt(2), "abd")]
    assert exposed([*reveal(attempt(1), "abcd"), *second], LIARS) == set()


def test_whoever_was_told_another_weight_stands_alone_in_the_sum() -> None:
    """The others round theirs away, as beside a weight of 10^12."""
    huge = {**EQUAL, "d": 1e12}
    vectors = attempt(1, {"a": huge, "c": huge})
    assert exposed(reveal(vectors, "abcd"), LIARS) == {("b", "base")}

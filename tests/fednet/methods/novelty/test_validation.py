"""Accuracies are of the pictures of all sites, counted by label."""

from __future__ import annotations

from fednet.methods.novelty.validation import ClassifierValidation, pooled


def test_pictures_are_counted_and_shares_follow() -> None:
    one = ClassifierValidation.of({0: 2, 1: 0, 2: 9}, {0: 4, 1: 2}, "abc")
    assert (one.accuracy, one.pictures, one.by_label, one.digest) == (2 / 6, 6, {0: 0.5, 1: 0.0}, "abc")
    assert ClassifierValidation.of({}, {}, "abc").accuracy == 0.0


def test_several_sites_are_one_over_the_pictures_of_all() -> None:
    a1 = ClassifierValidation.of({0: 3, 1: 1}, {0: 3, 1: 3}, "abc")
    a2 = ClassifierValidation.of({1: 0, 2: 1}, {1: 1, 2: 1}, "abc")
    assert pooled({"a2": a2, "a1": a1}) == ClassifierValidation(
        5 / 8, {0: 3, 1: 4, 2: 1}, {0: 1.0, 1: 0.25, 2: 1.0}, "abc"
    )
    assert pooled({"a1": a1, "a2": a1}).by_label == a1.by_label

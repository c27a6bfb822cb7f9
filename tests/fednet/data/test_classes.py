"""Classes of a run are the union of the sites' by name; a class is written by its name or its number."""

from __future__ import annotations

from itertools import permutations

import pytest

from fednet.data.classes import folder_names, label_of, labels_of, listed_classes, run_classes
from fednet.errors import UnknownClass


def test_they_are_the_union_by_name_in_every_order_of_the_sites() -> None:
    lists = {"a": ("cat", "dog"), "b": ("bee", "ant"), "c": ()}
    for order in permutations(lists):
        assert run_classes({name: lists[name] for name in order}) == ("ant", "bee", "cat", "dog")


def test_equal_lists_keep_their_order() -> None:
    assert run_classes({"a": ("dog", "cat"), "b": ("dog", "cat"), "c": ()}) == ("dog", "cat")
    assert run_classes({"a": (), "b": ()}) == ()


def test_whole_numbers_are_sorted_as_numbers() -> None:
    assert run_classes({"a": ("1", "10", "2"), "b": ("3", "11")}) == ("1", "2", "3", "10", "11")


def test_a_name_goes_before_a_number() -> None:
    assert labels_of((2, "3"), ("1", "2", "3"), "here") == (1, 2)
    assert labels_of(("dog", 0, "1"), ("cat", "dog"), "here") == (1, 0, 1)


@pytest.mark.parametrize(
    ("given", "classes"), [("cow", ("cat",)), (1, ("cat",)), (0, ("1", "2")), ("cat", ()), (-1, ("a",))]
)
def test_what_is_no_class_is_named_with_what_there_is(given: int | str, classes: tuple[str, ...]) -> None:
    with pytest.raises(UnknownClass, match=rf"samples\.labels names the class '{given}'; the classes are "):
        label_of(given, classes, "samples.labels")


def test_many_classes_are_listed_in_short() -> None:
    assert listed_classes([f"c{k}" for k in range(14)]).endswith("c11 and 2 more")


def test_folders_are_called_by_their_classes_and_lie_where_they_should() -> None:
    assert folder_names(("cat", "t-shirt", "ünï 1")) == ("cat", "t-shirt", "ünï 1")
    assert folder_names(("../../etc", ".", "a/b", "Cat", "cat")) == ("0-_.._etc", "1", "2-a_b", "3-Cat", "4-cat")
    assert folder_names(()) == ()

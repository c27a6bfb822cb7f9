"""Listings: classes in order, splits that are used or counted, and what is left out by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fednet.data.image_files import decode, is_colour
from fednet.data.listing import ImageItem, ImageListing, ImageRef, class_name, split_listings
from fednet.errors import DataError, UnreadableImage


def images(*labels: str) -> list[tuple[ImageRef, str]]:
    return [(Path(f"{label}{index}"), label) for index, label in enumerate(labels)]


def test_classes_are_in_order_and_images_without_one_are_apart() -> None:
    listing = ImageListing.of(images("10", "2", "", "2"))
    assert listing.classes == ("2", "10")
    assert [(str(image), label) for image, label in listing.labelled] == [("21", 0), ("23", 0), ("100", 1)]
    assert listing.unsorted == (Path("2"),)


def test_without_any_class_all_images_count() -> None:
    assert ImageListing.of(images("", "")).labelled == [(Path("0"), -1), (Path("1"), -1)]


@pytest.mark.parametrize(
    ("splits", "expected", "left_out"),
    [
        (("",), ["all"], {}),
        (("train", "test"), ["train", "test"], {}),
        (("train", "test", "validation"), ["train", "test"], {"split validation": 2}),
        (("train", "validation"), ["all"], {"split validation": 2}),
    ],
)
def test_train_and_test_are_used_and_other_splits_counted(
    splits: tuple[str, ...], expected: list[str], left_out: dict[str, int]
) -> None:
    listings = split_listings({split: images("a", "b") for split in splits}, "it")
    assert list(listings) == expected
    assert listings[expected[0]].others == left_out


@pytest.mark.parametrize("split", ["test", "validation"])
def test_nothing_to_train_on_is_refused_with_what_there_is(split: str) -> None:
    with pytest.raises(DataError, match=f"it holds no images to train on: the splits are '{split}'; expected train"):
        split_listings({split: images("a")}, "it")


def test_a_name_of_a_class_is_composed_and_in_one_line() -> None:
    assert class_name(" Mo\u0308we\n\x1b[31mX ") == "M\u00f6we \ufffd[31mX"


def test_an_item_is_decoded_as_the_bytes_or_the_pixels_that_it_gives() -> None:
    pixels = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    image = decode(ImageItem("it[3]", lambda: pixels))
    assert (image.kind, tuple(image.values.shape)) == ("array float32", (1, 3, 4))
    assert not is_colour(ImageItem("it[3]", lambda: pixels))
    assert is_colour(ImageItem("it[3]", lambda: np.zeros((3, 4, 3), np.uint8)))


def test_an_item_that_cannot_be_read_is_called_by_its_name() -> None:
    def fails() -> bytes:
        raise RuntimeError("the disk is gone")

    for read in (decode, is_colour):
        with pytest.raises(UnreadableImage, match=r"it\[3\] is not a readable image: the disk is gone"):
            read(ImageItem("it[3]", fails))

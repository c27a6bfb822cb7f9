"""Sites agree on the union of their classes, or say which of them does not fit and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.api import NullProgress, Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.errors import DataError, MethodError
from fednet.federated.local_network import prepare_sites
from fednet.methods.common.agreement import DataAnnouncement, agreed_classes, read_announcements
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig
from fednet.methods.common.site import ImageSite, QuestionHandlers


def announced(*classes: str, shape: tuple[int, int, int] = (1, 8, 8)) -> DataAnnouncement:
    return DataAnnouncement(classes=classes, shape=shape, own=True)


def test_classes_are_the_union_and_a_site_may_have_none() -> None:
    sites = {"a": announced("cat", "dog"), "b": announced("ant"), "c": announced()}
    assert agreed_classes(sites) == ("ant", "cat", "dog")


def test_sites_without_labels_are_named_where_labels_are_needed() -> None:
    with pytest.raises(DataError, match=r"^the classifier needs labels, and the pictures of b, c have none"):
        agreed_classes({"a": announced("cat"), "b": announced(), "c": announced()}, "the classifier")


def test_pictures_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"differ in channels, height or width \(a 1 x 8 x 8; b 3 x 8 x 8\)"):
        agreed_classes({"a": announced("cat"), "b": announced("cat", shape=(3, 8, 8))})


def test_an_announcement_that_is_none_names_its_site() -> None:
    with pytest.raises(MethodError, match="b has announced no pictures of this version"):
        read_announcements({"a": announced("cat").model_dump_json(), "b": "{}"})


class _Site(ImageSite[ImageConfig, ImageSet]):
    def load(self, progress: Progress) -> ImageSet:
        return self.read_images(progress)

    def capabilities(self) -> ImageCapabilities:
        return ImageCapabilities(classes=self.classes, shape=self.loaded.shape)

    def handlers(self) -> QuestionHandlers:
        return {}


def test_prepared_sites_have_labels_of_the_run(tmp_path: Path) -> None:
    pictures = {"a": ("dog", "cat"), "b": ("ant",), "c": ()}
    sites = {
        name: _Site(
            ImageConfig(),
            SiteContext(name, 0, 3, 0, "cpu", tmp_path),
            ImageSet(torch.zeros(2, 1, 8, 8), torch.arange(2).clamp(max=len(classes) - 1), classes),
        )
        for name, classes in pictures.items()
    }
    cards = prepare_sites(sites, NullProgress())
    assert all(ImageCapabilities.model_validate_json(card).classes == ("ant", "cat", "dog") for card in cards.values())
    assert {name: site.loaded.labels.tolist() for name, site in sites.items()} == {
        "a": [2, 1],
        "b": [0, 0],
        "c": [-1, -1],
    }

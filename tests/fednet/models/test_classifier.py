"""The classifier fits small and large pictures and treats each by itself."""

import pytest
import torch

from fednet.models.classifier import FEATURES, Classifier


@pytest.mark.parametrize(
    ("channels", "side", "classes"), [(1, 4, 2), (1, 8, 10), (1, 28, 10), (3, 32, 100), (3, 64, 200)]
)
def test_shapes(channels: int, side: int, classes: int) -> None:
    network = Classifier(channels, side, classes)
    images = torch.rand(3, channels, side, side) * 2 - 1
    assert network(images).shape == (3, classes)
    assert network.features(images).shape == (3, FEATURES)


def test_a_picture_does_not_see_its_neighbours_even_in_training() -> None:
    torch.manual_seed(0)
    network, images = Classifier(1, 8, 10).train(), torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_logits_are_the_head_on_the_features() -> None:
    network, images = Classifier(1, 8, 10), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(network(images), network.head(network.features(images)))


def test_it_carries_nothing_but_parameters() -> None:
    assert not list(Classifier(1, 8, 10).buffers())

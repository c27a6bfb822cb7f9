"""Generation: equally many pictures of every class, whatever the number of its words; resized to the site's shape."""

from __future__ import annotations

import torch

from fednet.api import NullProgress
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.generation import generate_images, resize_to_shape


def test_words_share_a_class(backend: CmtiiBackend) -> None:
    word = torch.zeros(1, 16)
    words = {2: [word, word, word], 5: [word]}
    random = torch.Generator().manual_seed(0)
    images, labels = generate_images(
        backend.image_generator, words, 5, (1, 8, 8), random=random, progress=NullProgress()
    )
    assert images.shape == (10, 1, 8, 8)
    assert labels.tolist() == [2] * 5 + [5] * 5
    assert float(images.abs().max()) <= 1


def test_no_word_gives_no_picture(backend: CmtiiBackend) -> None:
    images, labels = generate_images(
        backend.image_generator, {}, 5, (1, 8, 8), random=torch.Generator().manual_seed(0), progress=NullProgress()
    )
    assert images.shape == (0, 1, 8, 8)
    assert labels.shape == (0,)


def test_the_same_random_generator_gives_the_same_pictures(backend: CmtiiBackend) -> None:
    once, again = (
        generate_images(
            backend.image_generator, {1: [torch.ones(1, 16)]}, 3, (1, 8, 8),
            random=torch.Generator().manual_seed(4), progress=NullProgress(),
        )[0]
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(once, again)


def test_pictures_are_resized_to_a_shape() -> None:
    colour = torch.rand(2, 3, 16, 16) * 2 - 1
    assert resize_to_shape(colour, (1, 8, 8)).shape == (2, 1, 8, 8)
    assert resize_to_shape(colour, (3, 32, 32)).shape == (2, 3, 32, 32)
    assert resize_to_shape(colour[:, :1], (3, 16, 16)).shape == (2, 3, 16, 16)
    assert torch.equal(resize_to_shape(colour, (3, 16, 16)), colour)

"""The small image generator: shapes, guidance, words as means, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from fednet.errors import ModelError
from fednet.methods.cmtii.image_generator import SmallImageGenerator
from fednet.methods.cmtii.pretraining import untrained_image_generator
from fednet.methods.cmtii.small_config import ImageGeneratorConfig


def net(**keys: object) -> SmallImageGenerator:
    config = ImageGeneratorConfig.model_validate({"channels": [8], "steps": 3, **keys})
    return untrained_image_generator(config, (1, 8, 8), 4, 0, "cpu")


def pictures(with_: SmallImageGenerator, word: torch.Tensor, count: int = 3) -> torch.Tensor:
    return with_.generate(word, count, torch.Generator().manual_seed(0))


def test_pictures_are_in_range_and_repeat() -> None:
    images = pictures(net(guidance=8.0), torch.ones(1, 4))
    assert images.shape == (3, 1, 8, 8)
    assert float(images.abs().max()) <= 1
    assert torch.equal(images, pictures(net(guidance=8.0), torch.ones(1, 4)))


def test_a_word_of_equal_tokens_is_that_token() -> None:
    assert torch.equal(pictures(net(), torch.ones(1, 4)), pictures(net(), torch.ones(3, 4)))


def test_the_unconditional_word_needs_no_guidance() -> None:
    unconditional = torch.zeros(1, 4)
    assert torch.allclose(
        pictures(net(guidance=1.0), unconditional), pictures(net(guidance=5.0), unconditional), atol=1e-5
    )


def test_batches_give_as_many() -> None:
    assert len(pictures(net(batch=2), torch.ones(1, 4), 5)) == 5


def test_losses_are_differentiable_in_words() -> None:
    images, word = torch.zeros(4, 1, 8, 8), torch.ones(1, 4, requires_grad=True)
    losses = net().denoising_loss(images, [word] * 4, torch.Generator().manual_seed(0))
    assert losses.shape == (4,)
    losses.sum().backward()
    assert word.grad is not None
    assert float(word.grad.abs().sum()) > 0


@pytest.mark.parametrize("word", [torch.zeros(1, 5), torch.zeros(0, 4), torch.full((1, 4), torch.inf), torch.zeros(4)])
def test_words_that_cannot_be_read_are_refused(word: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"word 0.*\(tokens, 4\)"):
        pictures(net(), word)


def test_as_many_words_as_pictures() -> None:
    with pytest.raises(ModelError, match="one each"):
        net().denoising_loss(torch.zeros(2, 1, 8, 8), [torch.zeros(1, 4)], torch.Generator())


@pytest.mark.parametrize(("channels", "shape", "what"), [([12], (1, 8, 8), "multiples"), ([8, 8], (1, 7, 7), "sides")])
def test_shapes_that_do_not_fit_are_refused(channels: list[int], shape: tuple[int, int, int], what: str) -> None:
    with pytest.raises(ModelError, match=what):
        SmallImageGenerator(ImageGeneratorConfig.model_validate({"channels": channels}), shape, 4)

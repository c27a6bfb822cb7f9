"""A word that is a token's row gives the pipeline's pictures of the token; the loss reaches the word alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fednet.errors import ModelError
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE
from fednet.methods.cmtii.stable_diffusion import StableDiffusionGenerator
from fednet.models.diffusers_folder import load_text_to_image
from fednet.seeds import generator

IMAGES = torch.rand(2, 3, 16, 16, generator=generator(0, "images")) * 2 - 1


@pytest.fixture(scope="module")
def pipeline(generator_folder: Path) -> Any:
    return load_text_to_image(generator_folder, "image_generator", "cpu", torch.float32)


@pytest.fixture
def net(pipeline: Any) -> StableDiffusionGenerator:
    return StableDiffusionGenerator(pipeline, steps=3, guidance=7.5, batch=2, gamma=5.0)


def pictures(net: StableDiffusionGenerator, word: Tensor, seed: int = 0, count: int = 2) -> Tensor:
    return net.generate(word, count, generator(seed, "paint"))


def test_a_tokens_own_row_gives_the_tokens_pictures(net: StableDiffusionGenerator, pipeline: Any) -> None:
    theirs = pipeline(
        [f"{PROMPT_TEMPLATE} pickup truck"] * 2,
        num_inference_steps=3,
        guidance_scale=7.5,
        generator=generator(0, "paint"),
        output_type="pt",
    ).images
    ours = pictures(net, net.tokens("pickup truck"))
    assert ours.shape == (2, *net.shape) == (2, 3, 16, 16)
    torch.testing.assert_close(ours, theirs * 2 - 1)


def test_the_word_and_the_seed_decide(net: StableDiffusionGenerator) -> None:
    word = net.tokens("cat")
    assert torch.equal(pictures(net, word), pictures(net, word))
    assert not torch.equal(pictures(net, word), pictures(net, word, seed=1))
    assert not torch.equal(pictures(net, word), pictures(net, net.tokens("dog")))


def test_more_than_a_batch_is_generated_in_parts(net: StableDiffusionGenerator) -> None:
    many = pictures(net, net.tokens("cat"), count=5)
    assert many.shape[0] == 5
    torch.testing.assert_close(many[:2], pictures(net, net.tokens("cat")))
    assert float(many.min()) >= -1
    assert float(many.max()) <= 1


def test_the_loss_reaches_the_words_and_nothing_else(net: StableDiffusionGenerator, pipeline: Any) -> None:
    words = [net.tokens(name).requires_grad_() for name in ("cat", "pickup truck")]
    losses = net.denoising_loss(IMAGES, words, generator(0, "loss"))
    assert losses.shape == (2,)
    losses[1].backward()
    assert words[0].grad is None or not words[0].grad.any()
    assert words[1].grad is not None
    assert words[1].grad.abs().sum() > 0
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert all(value.grad is None for part in parts for value in part.parameters())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_what_the_pipelines_parts_say(
    net: StableDiffusionGenerator, pipeline: Any, prediction: str
) -> None:
    """The same draws, computed anew with diffusers' own noise, target and SNR."""
    kept = pipeline.scheduler
    pipeline.scheduler = scheduler = DDIMScheduler.from_config(kept.config, prediction_type=prediction)
    try:
        ours = net.denoising_loss(IMAGES, [net.tokens("cat")] * 2, generator(0, "loss"))
    finally:
        pipeline.scheduler = kept
    random = generator(0, "loss")
    with torch.no_grad():
        latents = pipeline.vae.encode(IMAGES).latent_dist.sample(generator=random) * pipeline.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=random)
        times = torch.randint(1000, (2,), generator=random)
        states = pipeline.encode_prompt(f"{PROMPT_TEMPLATE} cat", "cpu", 2, do_classifier_free_guidance=False)[0]
        predicted = pipeline.unet(
            scheduler.add_noise(latents, noise, times), times, encoder_hidden_states=states
        ).sample
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, times)
    ratio = scheduler.alphas_cumprod[times] / (1 - scheduler.alphas_cumprod[times])
    weights = ratio.clamp(max=5) / (ratio if prediction == "epsilon" else ratio + 1)
    torch.testing.assert_close(ours, weights * (predicted - target).square().mean((1, 2, 3)))


def test_pictures_of_any_size_and_colour_are_taken(net: StableDiffusionGenerator) -> None:
    words = [net.tokens("cat")] * 2
    small, grey = IMAGES[:, :, ::2, ::2], IMAGES[:, :1]
    for images in (small, grey):
        assert net.denoising_loss(images, words, generator(0, "loss")).isfinite().all()


def test_words_of_another_kind_are_refused(net: StableDiffusionGenerator) -> None:
    with pytest.raises(ModelError, match=r"word 0 is torch.float32 \(1, 15\)"):
        pictures(net, torch.zeros(1, 15))
    with pytest.raises(ModelError, match="word 0 holds NaN"):
        pictures(net, torch.full((1, 16), float("nan")))
    with pytest.raises(ModelError, match="has 72 tokens; a prompt has room for 1 to 71"):
        pictures(net, torch.zeros(72, 16))
    with pytest.raises(ModelError, match="2 pictures need as many words"):
        net.denoising_loss(IMAGES, [net.tokens("cat")], generator(0, "loss"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(net: StableDiffusionGenerator, generator_folder: Path, dtype: torch.dtype) -> None:
    """A CUDA device computes so; the same code runs here on the CPU."""
    half = StableDiffusionGenerator(
        load_text_to_image(generator_folder, "image_generator", "cpu", dtype), steps=3, guidance=7.5, batch=2, gamma=5.0
    )
    ours, theirs = pictures(half, half.tokens("cat")), pictures(net, net.tokens("cat"))
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().mean() < 0.05
    word = half.tokens("cat").requires_grad_()
    losses = half.denoising_loss(IMAGES, [word] * 2, generator(0, "loss"))
    exact = net.denoising_loss(IMAGES, [net.tokens("cat")] * 2, generator(0, "loss"))
    torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.01)
    losses.mean().backward()
    assert word.grad is not None
    assert word.grad.isfinite().all()
    assert word.grad.any()


def test_pictures_with_nan_are_refused(net: StableDiffusionGenerator, pipeline: Any) -> None:
    bias = pipeline.vae.decoder.conv_out.bias
    kept = bias.clone()
    bias.fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match=r"returned NaN in torch\.float32"):
            pictures(net, net.tokens("cat"))
    finally:
        bias.copy_(kept)

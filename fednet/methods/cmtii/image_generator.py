"""The small image generator: a diffusers UNet conditioned on a word as on the time, and DDIM for few steps.

A word of several tokens is read as their mean. The unconditional word is zero: the network gets it in a part of its
training, and guidance leads away from it (Ho and Salimans 2022, arXiv 2207.12598). The network predicts
the velocity (Salimans and Ho 2022, arXiv 2202.00512), which stays of one size at all noise levels. Knows no site and
no CLIP; it is trained in `pretraining.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Generator, Tensor, nn

from fednet.errors import ModelError
from fednet.methods.cmtii.losses import denoising_losses
from fednet.methods.cmtii.small_config import ImageGeneratorConfig

DIFFUSION_STEPS = 1000
NORM_GROUPS = 8
"""Of the group normalisation; divides every entry of `channels`."""


class SmallImageGenerator(nn.Module):
    """Generates from words (an `ImageGenerator`).

    Args:
        config: its size.
        shape: channels, height and width of a picture.
        width: how many numbers a word has.

    Attributes:
        unet: the network, of diffusers.
        scheduler: its noise levels.

    Raises:
        ModelError: the picture's sides or the channels do not fit the network.
    """

    def __init__(self, config: ImageGeneratorConfig, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        _require_valid_config(config, shape)
        self.config, self.shape, self.width = config, shape, width
        self.unet = _unet(config, shape, width)
        self.scheduler = DDIMScheduler(
            num_train_timesteps=DIFFUSION_STEPS,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=True,
        )

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.parameters()).device

    @torch.no_grad()
    def generate(self, word: Tensor, count: int, random: Generator) -> Tensor:
        """Generates `count` pictures of a word: float32 (count, c, h, w) in [-1, 1], on the CPU.

        Args:
            word: (tokens, width).
            count: how many.
            random: a CPU generator; the same one gives the same pictures on the same hardware.

        Raises:
            ModelError: the word has another width, no token, or is not finite.
        """
        condition = self._condition([word])
        parts = [min(self.config.batch, count - first) for first in range(0, count, self.config.batch)]
        return torch.cat([self._sampled(condition.expand(size, -1), random) for size in parts])

    def denoising_loss(self, images: Tensor, words: Sequence[Tensor], random: Generator) -> Tensor:
        """The error of the predicted noise in pictures under their words, weighted by min-SNR.

        The times are spread evenly with one random shift, which steadies the loss of a small batch.

        Args:
            images: (b, c, h, w) in [-1, 1].
            words: b words (tokens_i, width); differentiable in them.
            random: draws times and noise.

        Returns:
            float32 (b,), one loss a picture.

        Raises:
            ModelError: a word has another width, no token, or is not finite, or there are not as many as pictures.
        """
        if len(words) != len(images):
            raise ModelError(f"{len(images)} pictures need as many words, one each; got {len(words)}")
        return self.losses(images, self._condition(words), random)

    def losses(self, images: Tensor, condition: Tensor, random: Generator) -> Tensor:
        """The same for conditions of words, (b, width)."""
        count = len(images)
        spread = (torch.randperm(count, generator=random) + torch.rand(1, generator=random)) / count
        noise = torch.randn(images.shape, generator=random).to(self.device)
        return denoising_losses(
            lambda noisy, at: self._velocity(noisy, at, condition),
            images.to(self.device),
            noise,
            (spread * DIFFUSION_STEPS).long().clamp(max=DIFFUSION_STEPS - 1).to(self.device),
            signals=self.scheduler.alphas_cumprod,
            prediction="v_prediction",
            gamma=self.config.gamma,
        )

    def _sampled(self, condition: Tensor, random: Generator) -> Tensor:
        """DDIM; guidance carries pictures out of range, so the noise is what is left beside the clipped picture."""
        x = torch.randn((len(condition), *self.shape), generator=random).to(self.device)
        self.scheduler.set_timesteps(self.config.steps)
        for time in self.scheduler.timesteps.tolist():
            velocity = self._guided(x, torch.full((len(x),), time, device=self.device), condition)
            x = self.scheduler.step(velocity, time, x, use_clipped_model_output=True).prev_sample
        return x.float().cpu().clamp(-1, 1)

    def _guided(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        guidance = self.config.guidance
        if guidance == 1.0:
            return self._velocity(x, times, condition)
        both = torch.cat([condition, torch.zeros_like(condition)])
        conditional, unconditional = self._velocity(torch.cat([x, x]), torch.cat([times, times]), both).chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def _velocity(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        velocity: Tensor = self.unet(x, times, encoder_hidden_states=None, class_labels=condition).sample
        return velocity

    def _condition(self, words: Sequence[Tensor]) -> Tensor:
        for index, word in enumerate(words):
            if word.ndim != 2 or word.shape[1] != self.width or not len(word) or not bool(word.isfinite().all()):
                raise ModelError(f"word {index} is {tuple(word.shape)}; expected finite words (tokens, {self.width})")
        return torch.stack([word.mean(0) for word in words]).to(self.device)


def _require_valid_config(config: ImageGeneratorConfig, shape: tuple[int, int, int]) -> None:
    if unfit := [channels for channels in config.channels if channels % NORM_GROUPS]:
        raise ModelError(f"backend.image_generator.channels must be multiples of {NORM_GROUPS}, not {unfit}")
    factor = 2 ** (len(config.channels) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ModelError(
            f"{len(config.channels)} levels (backend.image_generator.channels) need sides divisible by "
            f"{factor}, the pictures are {shape[1]} x {shape[2]}: use fewer levels or another data.size"
        )


def _unet(config: ImageGeneratorConfig, shape: tuple[int, int, int], width: int) -> UNet2DConditionModel:
    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=config.channels,
        down_block_types=("DownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=config.layers,
        norm_num_groups=NORM_GROUPS,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=width,
        cross_attention_dim=width,
    )

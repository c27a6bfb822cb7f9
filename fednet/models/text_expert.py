"""A Stable Diffusion folder as a score expert over latents: its UNet, with a LoRA or not, guided by embedded prompts.

Who asks encodes the prompt and decodes the latents (`text_codec.py`); here is classifier-free guidance, in the
precision and on the device of the site. Latents are those that the UNet sees, scaled to unit size. Source: Rombach et
al. 2022 (arXiv 2112.10752); Ho and Salimans 2022 (arXiv 2207.12598). Knows no site.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.parametrisation import Parametrisation
from fednet.diffusion.sde import SDE
from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig
from fednet.models.diffusers_folder import (
    NETWORK_CONFIG,
    SCHEDULER_CONFIG,
    half_type,
    load_network,
    part_config,
    part_folder,
    positive_integer,
    precision_name,
    to_device,
)
from fednet.models.lora import add_lora
from fednet.models.schedulers import trained_schedule
from fednet.models.text_codec import AUTOENCODER, TEXT_ENCODER, part_digest

WHAT = "model.path"
TEXT_NETWORK = "UNet2DConditionModel"


class TextFolder:
    """A text-to-image folder, of which the descriptions are read (a `fednet.models.pretrained.PretrainedModel`).

    Args:
        config: which folder, and a LoRA.

    Attributes:
        shape: channels, height and width of its latents.
        classes: none.
        conditional: False: prompts are no labels.

    Raises:
        ModelError: there is none, or it is of another kind.
    """

    prompted = True

    def __init__(self, config: DiffusersModelConfig) -> None:
        self.config, self._folder = config, config.path.expanduser()
        self._unet = part_config(self._folder, "unet", NETWORK_CONFIG, WHAT)
        self._vae = part_config(self._folder, AUTOENCODER, NETWORK_CONFIG, WHAT)
        where = f"{WHAT}: {part_folder(self._folder, 'scheduler') / SCHEDULER_CONFIG}"
        self._schedule = trained_schedule(part_config(self._folder, "scheduler", SCHEDULER_CONFIG, WHAT), where)
        self._form = self._schedule.parametrisation(config.range, f"{WHAT}: {self._folder}")
        side = config.size or positive_integer(self._unet, "sample_size", WHAT, self._folder)
        self.shape = (positive_integer(self._unet, "in_channels", WHAT, self._folder), side, side)
        self._width = positive_integer(self._unet, "cross_attention_dim", WHAT, self._folder)
        self.classes: tuple[str, ...] = ()
        self.conditional = False
        if config.classes is not None:
            raise ModelError(f"model.classes: {self._folder} takes prompts, and no labels: leave classes out")

    def load(self, sde: SDE, device: str, classes: tuple[str, ...]) -> TextExpert:
        """The UNet as an expert on a device; see `PretrainedModel`.

        Raises:
            ModelError: its weights or the LoRA cannot be loaded, or the device cannot be used.
        """
        network = load_network(self._folder, "unet", {TEXT_NETWORK: UNet2DConditionModel}, WHAT, torch.float32)
        if self.config.lora is not None:
            add_lora(network, self.config.lora.expanduser(), "model.lora")
        dtype = half_type(self.config.half, device)
        network = to_device(network, device, dtype)
        return TextExpert(
            network, self._form, sde, self._card(dtype), self.shape, sign=self._schedule.sign, dtype=dtype
        )

    def _card(self, dtype: torch.dtype) -> ExpertCard:
        adapted = f" + {self.config.lora.name}" if self.config.lora is not None else ""
        scale = self._vae.get("scaling_factor", 0.18215)
        return ExpertCard(
            kind="diffusers",
            network=f"{TEXT_NETWORK}{adapted}"[:120],
            prediction=self._schedule.prediction,
            schedule=self._schedule.name[:120],
            value_range=self.config.range or self._schedule.value_range,
            space="latents",
            prompt_width=self._width,
            latent_scale=float(scale),
            text_encoder=part_digest(self._folder, TEXT_ENCODER),
            autoencoder=part_digest(self._folder, AUTOENCODER),
            precision=precision_name(dtype),
        )


class TextExpert:
    """A UNet over latents at the marginals of a run (a `fednet.diffusion.expert.ScoreExpert`).

    Attributes:
        card: what it is.
        shape: channels, height and width of its latents.
        classes: 0.
    """

    classes = 0

    def __init__(
        self,
        network: nn.Module,
        form: Parametrisation,
        sde: SDE,
        card: ExpertCard,
        shape: tuple[int, int, int],
        *,
        sign: float,
        dtype: torch.dtype,
    ) -> None:
        self._network, self._form, self._sde, self._sign, self._dtype = network, form, sde, sign, dtype
        self.card, self.shape = card, shape

    def score(self, x: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """The score of latents; see `ScoreExpert`, with the embedded prompts as `labels`.

        Args:
            x: float32 (n, *shape).
            t: a scalar.
            labels: float32 (2, tokens, width): the negative prompt, and the prompt.
            guidance: negative + guidance (prompt - negative).

        Raises:
            ModelError: there is no prompt.
        """
        if labels is None:
            raise ModelError("this model draws from prompts: ask with one (samples.prompt, or --prompt)")
        negative, prompt = labels.to(x.device, self._dtype)
        alpha, std = (float(value) for value in self._sde.marginal(t.double().cpu()))

        def predict(y: Tensor, time: float) -> Tensor:
            output = self._call(y, time, prompt)
            return output if guidance == 1.0 else (1 - guidance) * self._call(y, time, negative) + guidance * output

        return self._form.score(predict, x, alpha, std)

    def _call(self, y: Tensor, time: float, words: Tensor) -> Tensor:
        at = torch.tensor(time, dtype=torch.float32, device=y.device)
        states = words.expand(len(y), -1, -1)
        options: dict[str, Any] = {"encoder_hidden_states": states, "return_dict": False}
        output: Tensor = self._network(y.to(self._dtype), at, **options)[0]
        return self._sign * output.float()

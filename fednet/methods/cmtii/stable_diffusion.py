"""Stable Diffusion as diffusers runs it, conditioned on pseudo-words.

The text encoder reads the word through its token table (`prompts.py`); all else is the pipeline's own: its scheduler,
guidance by the empty prompt, its autoencoder. Sampling and the denoising loss use the same prompt, so that pictures can
be generated from a word that was learnt with the loss. Knows no site and no CLIP; `loading.py` loads the pipeline.

Source: Rombach et al. 2022 (arXiv 2112.10752); Kim et al. 2023 (arXiv 2305.15798) for BK-SDM, which is such a folder;
Gal et al. 2022 (arXiv 2208.01618) for words learnt by denoising; `losses.py` has the weights of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate

from fednet.errors import ModelError
from fednet.methods.cmtii.losses import denoising_losses
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE, PromptLayout, compose_prompts, substitute_embeddings


class StableDiffusionGenerator:
    """A text-to-image pipeline that reads pseudo-words (a `ImageGenerator`).

    Args:
        pipeline: complete and on its device; it is frozen.
        steps: of its scheduler for a picture.
        guidance: how far a picture is pushed away from what the empty prompt would give; 1 for not at all.
        batch: pictures generated at a time.
        gamma: of the min-SNR weights.

    Attributes:
        shape: channels, height and width of a generated picture.
        width: how many numbers a word has.
    """

    def __init__(
        self, pipeline: StableDiffusionPipeline, *, steps: int, guidance: float, batch: int, gamma: float
    ) -> None:
        self._pipeline, self._steps, self._guidance = pipeline, steps, guidance
        self._batch, self._gamma = batch, gamma
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            part.eval().requires_grad_(requires_grad=False)
        edge = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
        self.shape = (3, edge, edge)
        self._table: nn.Embedding = pipeline.text_encoder.get_input_embeddings()
        self.width = self._table.embedding_dim
        self._layout = self._prompt_layout()

    def tokens(self, name: str) -> Tensor:
        """The rows of its own token table for a name: float32 (tokens, width), on the CPU."""
        return self._table.weight.detach()[self._ids(name)].to("cpu", torch.float32)

    @torch.no_grad()
    def generate(self, word: Tensor, count: int, random: Generator) -> Tensor:
        """Generates `count` pictures of "a photo of a {word}": float32 (count, 3, h, w) in [-1, 1], on the CPU.

        Args:
            word: (tokens, width).
            count: how many.
            random: a CPU generator; the same one gives the same pictures on the same hardware.

        Raises:
            ModelError: the word has another width, is too long or not finite; the pictures are not finite.
        """
        conditional, unconditional = self._states([word]), self._read(self._layout.empty().to(self._device))
        batches: list[Tensor] = []
        for first in range(0, count, self._batch):
            size = min(self._batch, count - first)
            output = self._pipeline(
                prompt_embeds=conditional.expand(size, -1, -1),
                negative_prompt_embeds=unconditional.expand(size, -1, -1),
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                generator=random,
                output_type="pt",
            )
            batches.append(output.images.float().cpu() * 2 - 1)
        images = torch.cat(batches)
        if not bool(images.isfinite().all()):
            raise ModelError(
                f"the image generator returned NaN in {self._dtype}: set half to bfloat16, or to null for float32"
            )
        return images

    def denoising_loss(self, images: Tensor, words: Sequence[Tensor], random: Generator) -> Tensor:
        """The error of the predicted noise in pictures under their words, weighted by min-SNR.

        Args:
            images: (b, 1 or 3, h, w) in [-1, 1]; brought to the image generator's own size.
            words: b words (tokens_i, width); differentiable in them.
            random: draws the latents, times and noise.

        Returns:
            float32 (b,), one loss a picture.

        Raises:
            ModelError: a word has another width, is too long or not finite, or there are not as many as pictures.
        """
        if len(words) != len(images):
            raise ModelError(f"{len(images)} pictures need as many words, one each; got {len(words)}")
        states = self._states(words)
        latents = self._latents(images, random)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        scheduler = self._pipeline.scheduler
        times = torch.randint(len(scheduler.alphas_cumprod), (len(images),), generator=random).to(self._device)

        def predict(noisy: Tensor, at: Tensor) -> Tensor:
            predicted: Tensor = self._pipeline.unet(noisy.to(self._dtype), at, encoder_hidden_states=states).sample
            return predicted

        return denoising_losses(
            predict,
            latents,
            noise,
            times,
            signals=scheduler.alphas_cumprod,
            prediction=scheduler.config.prediction_type,
            gamma=self._gamma,
        )

    @property
    def _device(self) -> torch.device:
        return self._table.weight.device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._pipeline.unet.dtype
        return dtype

    def _states(self, words: Sequence[Tensor]) -> Tensor:
        """The text encoder's states of every token of the prompts: (k, context, width)."""
        prompts = compose_prompts(self._layout, words, self._device)
        with substitute_embeddings(self._table, prompts):
            return self._read(prompts.ids)

    def _read(self, ids: Tensor) -> Tensor:
        states: Tensor = self._pipeline.text_encoder(ids)[0]
        return states

    @torch.no_grad()
    def _latents(self, images: Tensor, random: Generator) -> Tensor:
        """Pictures encoded by the VAE: float32 latents (b, c, h, w)."""
        x = images.to(self._device, torch.float32).expand(-1, 3, -1, -1)
        if x.shape[1:] != self.shape:
            x = interpolate(x, self.shape[1:], mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        vae = self._pipeline.vae
        latents: Tensor = vae.encode(x.to(vae.dtype)).latent_dist.sample(generator=random)
        return latents.float() * float(vae.config.scaling_factor)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._pipeline.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _prompt_layout(self) -> PromptLayout:
        tokenizer, config = self._pipeline.tokenizer, self._pipeline.text_encoder.config
        return PromptLayout(
            start=tokenizer.bos_token_id,
            head=tuple(self._ids(PROMPT_TEMPLATE)),
            end=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            context=min(tokenizer.model_max_length, config.max_position_embeddings),
            width=self.width,
        )

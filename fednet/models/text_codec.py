"""The asker's half of a text-to-image model: prompts become embeddings, and latents become pictures.

Tokenizer, text encoder and autoencoder of a folder of diffusers; the sites have its UNet, or another of the same kind.
Source: Rombach et al. 2022 (arXiv 2112.10752). Knows no site and no network that predicts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from blake3 import blake3
from torch import Tensor

from fednet.errors import ModelError
from fednet.models.diffusers_folder import load_text_to_image

TEXT_ENCODER, AUTOENCODER = "text_encoder", "vae"
DIGEST_BYTES = 8
LATENT_BATCH = 4
"""Latents that are decoded at a time."""


def part_digest(folder: Path, part: str) -> str:
    """Sixteen hexadecimal digits that name the weights of a folder's part; empty where it has none."""
    files = sorted((folder / part).glob("*.safetensors"))
    whole = blake3()
    for file in files:
        whole.update_mmap(file)
    return whole.hexdigest(length=DIGEST_BYTES) if files else ""


class TextCodec:
    """Encodes prompts and decodes latents.

    Args:
        folder: a Stable Diffusion folder.
        device: a torch device string.
        what: the key of the configuration or the option that names the folder, for messages.

    Attributes:
        digests: of the text encoder's and the autoencoder's weights.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, folder: Path, device: str, what: str) -> None:
        self._pipeline = load_text_to_image(folder, what, device, torch.float32)
        self.digests = (part_digest(folder, TEXT_ENCODER), part_digest(folder, AUTOENCODER))

    @torch.no_grad()
    def encode(self, prompt: str, negative: str = "") -> Tensor:
        """The embeddings of the negative prompt and the prompt: float32 (2, tokens, width), on the CPU.

        Raises:
            ModelError: a prompt has more tokens than the encoder reads.
        """
        tokenizer, encoder = self._pipeline.tokenizer, self._pipeline.text_encoder
        longest = int(tokenizer.model_max_length)
        for text in (prompt, negative):
            if (count := len(tokenizer(text).input_ids)) > longest:
                raise ModelError(f"the prompt {text[:40]!r} has {count} tokens, the text encoder reads {longest}")
        ids = tokenizer([negative, prompt], padding="max_length", max_length=longest, return_tensors="pt").input_ids
        states: Tensor = encoder(ids.to(encoder.device))[0]
        return states.float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures float32 (n, 3, height, width) in [-1, 1], on the CPU, of latents (n, c, h, w)."""
        vae = self._pipeline.vae
        parts = [
            vae.decode(part.to(vae.device) / vae.config.scaling_factor).sample.float().cpu()
            for part in torch.split(latents, LATENT_BATCH)
        ]
        return torch.cat(parts).clamp(-1, 1)

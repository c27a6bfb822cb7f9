"""open_clip's CLIP with pseudo-words in its prompts: text features of words, image features of pictures.

Any open_clip model whose text tower is open_clip's own will do, small or ViT-H-14. The towers are untouched: a word
enters through the token table (`prompts.py`), pictures through the very preprocessing that the model was trained with,
done on the device and differentiable. A logit bias, which SigLIP has, moves all classes alike and is left out. Knows
no site and no training; the models come from `pretrained_backend.py` or `small_backend.py`.

Source: Radford et al. 2021 (arXiv 2103.00020); Cherti et al. 2023 (arXiv 2212.07143) for open_clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from fednet.errors import ModelError
from fednet.methods.cmtii.prompts import (
    PROMPT_TEMPLATE,
    PromptBatch,
    PromptLayout,
    Tokenizer,
    compose_prompts,
    substitute_embeddings,
)


class OpenClip:
    """A CLIP model that reads pseudo-words (a `ClipModel`).

    Args:
        model: an `open_clip.CLIP` or `CustomTextCLIP`, on its device.
        tokenizer: the one that the model was trained with.
        pixels: the size, mean, deviation and interpolation that it was trained with.
        half: in which precision the towers compute (autocast); None for that of their weights. Features are float32.

    Attributes:
        model: the model itself.
        width: how many numbers a word has.
        features: how many numbers a feature has.

    Raises:
        ModelError: the text tower is not open_clip's own.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, pixels: PreprocessCfg, half: torch.dtype | None = None
    ) -> None:
        self.model, self._tokenizer, self._pixels, self._half = model, tokenizer, pixels, half
        self._text = _text_tower(model)
        self._table: nn.Embedding = self._text.token_embedding
        self.width = self._table.embedding_dim
        self._layout = PromptLayout(
            start=tokenizer.sot_token_id,
            head=tuple(tokenizer.encode(PROMPT_TEMPLATE)),
            end=tokenizer.eot_token_id,
            pad=0,
            context=int(self._text.context_length),
            width=self.width,
        )
        with torch.no_grad():
            self.features = self.text_features([torch.zeros(1, self.width)]).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self._table.weight.device

    @property
    def image_encoder(self) -> nn.Module:
        """The image tower."""
        tower: nn.Module = self.model.get_submodule("visual")
        return tower

    @property
    def logit_scale(self) -> Tensor:
        """The factor from cosines to logits: a scalar > 0."""
        return self.model.get_parameter("logit_scale").exp().reshape(())

    def tokens(self, name: str) -> Tensor:
        """The rows of the token table for a name: float32 (tokens, width), on the CPU, detached.

        Raises:
            ModelError: the tokenizer does not know it, or it is longer than a prompt.
        """
        ids = self._tokenizer.encode(name)
        if not 1 <= len(ids) <= self._layout.room:
            raise ModelError(f"{name!r} has {len(ids)} tokens; a prompt has room for 1 to {self._layout.room}")
        return self._table.weight.detach()[ids].to("cpu", torch.float32)

    def text_features(self, words: Sequence[Tensor]) -> Tensor:
        """Features of "a photo of a {word}": k words (tokens_i, width) -> float32 (k, features), of length 1.

        Differentiable in the words.

        Raises:
            ModelError: a word has another width, is too long or not finite.
        """
        prompts = compose_prompts(self._layout, words, self.device)
        return normalize(self._read(prompts).float(), dim=-1)

    def text_states(self, words: Sequence[Tensor]) -> Tensor:
        """The text tower's states of every token of the prompts: k words -> float32 (k, context, width).

        After the last norm, before pooling; differentiable in the words.

        Raises:
            ModelError: as for `text_features`.
        """
        prompts = compose_prompts(self._layout, words, self.device)
        kept: list[Tensor] = []
        handle = self._text.ln_final.register_forward_hook(lambda _norm, _input, states: kept.append(states))
        try:
            self._read(prompts)
        finally:
            handle.remove()
        return kept[0].float()

    def image_features(self, images: Tensor) -> Tensor:
        """Features of pictures: (b, 1 or 3, h, w) in [-1, 1], any size -> float32 (b, features), of length 1.

        Differentiable in the pictures and in the image tower.

        Raises:
            ModelError: they have another shape.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ModelError(f"pictures must be (b, 1 or 3, h, w); got {tuple(images.shape)}")
        prepared = _prepared(images.to(self.device), self._pixels)
        with self._precision():
            features: Tensor = self.image_encoder(prepared.to(self._table.weight.dtype))
        return normalize(features.float(), dim=-1)

    def _read(self, prompts: PromptBatch) -> Tensor:
        """The features of prompts, not normalised."""
        encode: Any = self.model
        with substitute_embeddings(self._table, prompts), self._precision():
            features: Tensor = encode.encode_text(prompts.ids)
        return features

    def _precision(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._half is None else torch.autocast(self.device.type, self._half)


def _text_tower(model: nn.Module) -> Any:
    """The module with the token table and the last norm: the model itself or its text tower."""
    tower = getattr(model, "text", model)
    parts = ("token_embedding", "ln_final", "context_length")
    if any(getattr(tower, part, None) is None for part in parts) or getattr(tower, "cls_emb", None) is not None:
        raise ModelError(
            f"{type(model).__name__} has a {type(tower).__name__} as its text tower, which reads no pseudo-words: "
            "take a model with open_clip's own text transformer, for example ViT-B-32 or ViT-H-14"
        )
    return tower


def _prepared(images: Tensor, pixels: PreprocessCfg) -> Tensor:
    """Pictures preprocessed as by open_clip, but without its rounding to bytes."""
    wanted = [pixels.size, pixels.size] if isinstance(pixels.size, int) else list(pixels.size)
    x = (images.float().expand(-1, 3, -1, -1) + 1) / 2
    if list(x.shape[-2:]) != wanted:
        squash = pixels.resize_mode == "squash"
        mode = InterpolationMode(pixels.interpolation)
        x = resize(x, wanted if squash else wanted[:1], interpolation=mode, antialias=True)
        x = center_crop(x, wanted).clamp(0, 1)
    mean, deviation = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (pixels.mean, pixels.std))
    return (x - mean) / deviation

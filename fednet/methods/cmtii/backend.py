"""The interface of the method's models: a CLIP that reads pseudo-words, and an image generator conditioned on them.

Two back-ends stand behind these: the embedded default, small and pretrained on a public split, and the real one,
open_clip with a checkpoint and a diffusers text-to-image folder. A word is a token embedding: a row of the table that
both read their prompts with, so that a word that is learnt with one conditions the other. Knows no site, no
training and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Generator, Tensor, nn


class ClipModel(Protocol):
    """A contrastive model of pictures and texts whose texts may hold pseudo-words.

    Attributes:
        width: how many numbers a word has.
        features: how many numbers a feature has.
    """

    width: int
    features: int

    @property
    def image_encoder(self) -> nn.Module:
        """The module whose attention LoRA adapts."""

    @property
    def logit_scale(self) -> Tensor:
        """The factor from cosines to logits: a scalar > 0."""

    def tokens(self, name: str) -> Tensor:
        """The rows of the token table for a name: float32 (tokens, width), on the CPU, detached.

        Raises:
            MethodError: the tokenizer does not know it, or it is longer than a prompt.
        """

    def text_features(self, words: Sequence[Tensor]) -> Tensor:
        """Features of "a photo of a {word}": k words (tokens_i, width) -> (k, features), of length 1.

        Differentiable in the words.

        Raises:
            MethodError: a word has another width, is too long or not finite.
        """

    def image_features(self, images: Tensor) -> Tensor:
        """Features of pictures: (b, c, h, w) in [-1, 1], any size -> (b, features), of length 1."""


class ImageGenerator(Protocol):
    """A text-to-image diffusion model that reads pseudo-words."""

    def generate(self, word: Tensor, count: int, random: Generator) -> Tensor:
        """Generates `count` pictures of "a photo of a {word}": float32 (count, c, h, w) in [-1, 1], on the CPU.

        Args:
            word: (tokens, width).
            count: how many.
            random: a CPU generator; the same one gives the same pictures on the same hardware.
        """

    def denoising_loss(self, images: Tensor, words: Sequence[Tensor], random: Generator) -> Tensor:
        """The error of the predicted noise in pictures under their words, weighted by min-SNR (Hang et al. 2023).

        Args:
            images: (b, c, h, w) in [-1, 1].
            words: b words (tokens_i, width); differentiable in them.
            random: draws times and noise.

        Returns:
            (b,), one loss a picture.
        """


@dataclass(frozen=True)
class ExportedModels:
    """How the models are loaded without fednet by the lines of a model card, in its folder.

    Attributes:
        about: which they are, for the card.
        load: lines of Python that make `clip`, its `preprocess`, and a `picture`.
        draw: lines that make `pictures` of a word, which stands in words/NAME.safetensors and has the token <NAME>.
        files: those of them that belong into the folder, contents by path.
    """

    about: str
    load: str
    draw: Callable[[str], str]
    files: Callable[[], Mapping[str, bytes]]


@dataclass(frozen=True)
class CmtiiBackend:
    """The models of one site, on its device; frozen but for the adapter.

    Attributes:
        clip: classifies, and is adapted.
        image_generator: generates.
        shape: channels, height and width of a generated picture.
        exported: how they are loaded without fednet.
        known: words, each (tokens, width), that the models know for a class of some name beside the name itself;
            learning may begin at one of them.
    """

    clip: ClipModel
    image_generator: ImageGenerator
    shape: tuple[int, int, int]
    exported: ExportedModels
    known: Callable[[str], Sequence[Tensor]] = field(default=lambda _name: ())

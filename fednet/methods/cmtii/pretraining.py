"""Pretrains the small models on public pictures: first a CLIP, then an image generator conditioned on its words.

Public pictures are transformed into many orientations (`fednet.data.orientations`), with a word for each class in each:
"3" for an upright three, "3-turned-30" for a turned one. The table's rows for these words are constrained: a row is a
vector of its class plus a linear map of the orientation's matrix. So an orientation that was never used has a place in
the embedding space too, between those that were, and noise on the words gives meaning to what lies between. Knows no
site and no private picture.

Source: Radford et al. 2021 (arXiv 2103.00020) for the loss, against the texts of all words instead of those of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fednet.api import Progress
from fednet.data.datasets import ImageSet
from fednet.data.orientations import SHOWN, UPRIGHT, Orientation, matrices, transformed
from fednet.errors import ModelError
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.image_generator import SmallImageGenerator
from fednet.methods.cmtii.losses import contrastive_losses
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE, WordVocabulary
from fednet.methods.cmtii.small_config import ImageGeneratorConfig, PretrainConfig, SmallBackendConfig, SmallClipConfig
from fednet.seeds import derive, generator, seeded

MAX_WORD_TOKENS = 2
"""Tokens that a word may have."""
INIT_STD = 0.5
"""Deviation of the numbers in an untrained word."""
GREY: dict[str, tuple[float, float, float]] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""What the CLIP's pictures are normalised with."""
EMA_DECAY = 0.995
"""Decay of the image generator's averaged weights."""


def orientation_word(name: str, orientation: Orientation) -> str:
    """The word for a class under an orientation; upright it is the class's name."""
    return name.lower() if orientation == UPRIGHT else f"{name.lower()}-{orientation.name}"


def untrained_clip(config: SmallClipConfig, side: int, classes: Sequence[str], seed: int, device: str) -> OpenClip:
    """An untrained CLIP, with a vocabulary of all words of all classes.

    Raises:
        ModelError: a class's name is more than one word or like another's, or the patches do not fit the pictures.
    """
    names = [name.lower() for name in classes]
    if odd := [name for name in names if len(name.split()) != 1 or names.count(name) > 1]:
        raise ModelError(
            f"the embedded CLIP needs class names of one word that differ without case; {odd[0]!r} is none"
        )
    if side % config.patch:
        raise ModelError(f"backend.clip.patch {config.patch} does not divide the pictures' side {side}: change it")
    with seeded(derive(seed, "clip", "weights")):
        model = open_clip.CLIP(**clip_architecture(config, side, classes))
        nn.init.normal_(model.token_embedding.weight, std=INIT_STD)
    return OpenClip(model.to(device).eval(), _vocabulary(classes), PreprocessCfg(size=(side, side), **GREY))


def clip_architecture(config: SmallClipConfig, side: int, classes: Sequence[str]) -> dict[str, Any]:
    """open_clip's configuration of a CLIP: the size of a feature, the image tower and the text tower."""
    vision = {
        "image_size": side,
        "patch_size": config.patch,
        "width": config.vision,
        "layers": config.vision_layers,
        "head_width": 16,
    }
    text = {
        "context_length": len(PROMPT_TEMPLATE.split()) + 2 + MAX_WORD_TOKENS,
        "vocab_size": len(_vocabulary(classes)),
        "width": config.width,
        "heads": config.width // 8,
        "layers": config.text_layers,
    }
    return {"embed_dim": config.features, "vision_cfg": vision, "text_cfg": text}


def untrained_image_generator(
    config: ImageGeneratorConfig, shape: tuple[int, int, int], width: int, seed: int, device: str
) -> SmallImageGenerator:
    """An untrained image generator.

    Raises:
        ModelError: the pictures do not fit the network.
    """
    with seeded(derive(seed, "painter", "weights")):
        return SmallImageGenerator(config, shape, width).to(device).eval()


def pretrain_clip(clip: OpenClip, pictures: ImageSet, config: SmallBackendConfig, progress: Progress) -> None:
    """Trains a CLIP and the rows of its table in place.

    Raises:
        ModelError: it diverges.
        Stopped: `progress` asks for the end.
    """
    random, pretraining = generator(config.seed, "clip", "batches"), config.clip.pretraining
    rows = _WordTable(len(pictures.classes), clip.width, random).to(clip.device)
    clip.model.train().requires_grad_(requires_grad=True)

    def loss(_step: int) -> Tensor:
        images, words = _random_batch(pictures, pretraining, random)
        table = _add_noise(rows(), pretraining.noise, random)
        texts = clip.text_features(list(table))
        features = clip.image_features(images)
        return contrastive_losses(features, texts, clip.logit_scale.clamp(max=100), words.to(clip.device)).mean()

    _optimise([*clip.model.parameters(), *rows.parameters()], loss, pretraining, "pretraining the CLIP", progress)
    clip.model.eval().requires_grad_(requires_grad=False)
    vocabulary = _vocabulary(pictures.classes)
    ids = [token for name in _words(pictures.classes) for token in vocabulary.encode(name)]
    with torch.no_grad():
        clip.model.get_parameter("token_embedding.weight")[ids] = rows()[:, 0]


def pretrain_image_generator(
    net: SmallImageGenerator,
    clip: OpenClip,
    pictures: ImageSet,
    config: SmallBackendConfig,
    progress: Progress,
) -> None:
    """Trains an image generator in place, conditioned on the rows of the CLIP's table; the table is frozen.

    Raises:
        ModelError: it diverges.
        Stopped: `progress` asks for the end.
    """
    random, pretraining = generator(config.seed, "painter", "batches"), config.image_generator.pretraining
    table = torch.stack([clip.tokens(name) for name in _words(pictures.classes)])
    keep = get_ema_multi_avg_fn(EMA_DECAY)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    averaged = AveragedModel(net.unet, multi_avg_fn=keep)
    net.train().requires_grad_(requires_grad=True)

    def loss(step: int) -> Tensor:
        if step:
            averaged.update_parameters(net.unet)
        images, words = _random_batch(pictures, pretraining, random)
        conditions = _add_noise(table[words], pretraining.noise, random)[:, 0]
        dropped = torch.rand(len(conditions), generator=random) < config.image_generator.silence
        return net.losses(images, conditions.masked_fill(dropped[:, None], 0.0).to(net.device), random).mean()

    _optimise(list(net.parameters()), loss, pretraining, "pretraining the image generator", progress)
    net.unet.load_state_dict(averaged.module.state_dict())
    net.eval().requires_grad_(requires_grad=False)


class _WordTable(nn.Module):
    """The table's rows for all words: (classes * orientations, 1, width), class by class."""

    def __init__(self, classes: int, width: int, random: torch.Generator) -> None:
        super().__init__()
        self.classes = nn.Parameter(INIT_STD * torch.randn(classes, width, generator=random))
        self.orientations = nn.Parameter(INIT_STD * torch.randn(4, width, generator=random))
        self.places: Tensor
        self.register_buffer("places", matrices(SHOWN).flatten(1))

    def forward(self) -> Tensor:
        rows = self.classes[:, None] + (self.places @ self.orientations)[None]
        return rows.flatten(0, 1)[:, None]


def _words(classes: Sequence[str]) -> Iterator[str]:
    """All words in the order of the rows."""
    return (orientation_word(name, orientation) for name in classes for orientation in SHOWN)


def _vocabulary(classes: Sequence[str]) -> WordVocabulary:
    return WordVocabulary(list(_words(classes)))


def _random_batch(pictures: ImageSet, config: PretrainConfig, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of public pictures, each in an orientation, and the index of its word: int64 (b,)."""
    count, places = config.batch, matrices(SHOWN)
    chosen = torch.randint(len(pictures), (count,), generator=random)
    ways = torch.randint(len(SHOWN), (count,), generator=random)
    zoom, *shift = config.jitter * (2 * torch.rand(3, count, generator=random) - 1)
    images = transformed(pictures.images[chosen], places[ways] * (1 + zoom)[:, None, None], torch.stack(shift, 1))
    return images, pictures.labels[chosen] * len(SHOWN) + ways


def _add_noise(words: Tensor, noise: float, random: torch.Generator) -> Tensor:
    return words + noise * torch.randn(words.shape, generator=random).to(words.device)


def _optimise(
    parameters: list[nn.Parameter],
    loss: Callable[[int], Tensor],
    config: PretrainConfig,
    phase: str,
    progress: Progress,
) -> None:
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=config.steps)
    for step in range(config.steps):
        measured = loss(step)
        if not math.isfinite(float(measured.detach())):
            raise ModelError(f"{phase} diverges (loss {float(measured.detach())}): lower its lr")
        optimiser.zero_grad()
        measured.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        progress.report(phase, step + 1, config.steps, loss=float(measured.detach()))

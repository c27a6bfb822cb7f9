"""Pictures generated from pseudo-words: equally many of each class, divided among its words. Trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from fednet.api import Progress
from fednet.methods.cmtii.backend import ImageGenerator

GeneratedShape = tuple[int, int, int]


def generate_images(
    net: ImageGenerator,
    words: Mapping[int, Sequence[Tensor]],
    count: int,
    shape: GeneratedShape,
    *,
    random: Generator,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Generates `count` pictures of every class.

    Args:
        net: generates.
        words: the words of each class, at least one, each (tokens, width).
        count: pictures a class; the first words have one more where it cannot be divided evenly.
        shape: channels, height and width that the pictures are brought to.
        random: a CPU generator.
        progress: told of every word.

    Returns:
        Pictures float32 (n, *shape) in [-1, 1] and their classes int64 (n,), class by class.

    Raises:
        ModelError: a word cannot be read, or the pictures are not finite.
        Stopped: `progress` asks for the end.
    """
    images, labels = [torch.zeros(0, *shape)], []
    for done, (label, several) in enumerate(words.items()):
        for index, word in enumerate(several):
            share = count // len(several) + (index < count % len(several))
            if share:
                images.append(resize_to_shape(net.generate(word, share, random), shape))
                labels += [label] * share
        progress.report("generating pictures", done + 1, len(words))
    return torch.cat(images), torch.tensor(labels, dtype=torch.int64)


def resize_to_shape(images: Tensor, shape: GeneratedShape) -> Tensor:
    """Pictures (n, c, h, w) in [-1, 1] brought to a shape: its size, and grey where it is grey."""
    if shape[0] == 1 and images.shape[1] == 3:
        images = images.mean(1, keepdim=True)
    if tuple(images.shape[2:]) != shape[1:]:
        images = interpolate(images, shape[1:], mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)
    return images.expand(-1, shape[0], -1, -1)

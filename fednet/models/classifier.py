"""A small convolutional classifier: the judge of samples, and a model for federated training of classifiers.

Four 3 x 3 convolutions with group normalisation (no running statistics: a picture is judged the same alone or in
a batch, and averaging of models needs no special case), a halving, and one more where pictures are larger than 12
pixels, pooling to 4 x 4, and a narrow feature layer whose activations are the space of the Frechet distance. Any
square picture of 4 x 4 or more fits. Knows no data.
"""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 32
"""Width of the feature layer; a Frechet distance needs more samples than this."""


class Classifier(nn.Module):
    """Maps pictures (n, channels, side, side) in [-1, 1] to logits (n, classes)."""

    def __init__(self, channels: int, side: int, classes: int, width: int = 32, features: int = FEATURES) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(channels, width),
            *([nn.MaxPool2d(2)] if side > 12 else []),
            *_block(width, width),
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            *_block(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(2 * width * 16, features),
            nn.SiLU(),
        )
        self.head = nn.Linear(features, classes)

    def features(self, images: Tensor) -> Tensor:
        """The activations (n, features) before the last layer."""
        activations: Tensor = self.body(images)
        return activations

    def forward(self, images: Tensor) -> Tensor:
        """The logits (n, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _block(inward: int, outward: int) -> list[nn.Module]:
    return [nn.Conv2d(inward, outward, 3, padding=1), nn.GroupNorm(8, outward), nn.SiLU()]

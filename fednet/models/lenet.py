"""The classifier of the novelty method: a LeNet of 30,840 parameters for grey pictures of ten classes.

Two 5 x 5 convolutions (10 and 20 maps), each with max pooling and a ReLU, then 500 - 50 - classes with dropout before
the last layer. It is made for 32 x 32 pixels and MNIST's mean and deviation: pictures of any other side are resized
inside, pictures of any channels are shifted and scaled by the same two numbers. No normalisation layer, so an average
of models needs no special case. Knows no data and no training.

Source: "Federated learning with Detector and Classifier", after LeCun et al. 1998.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

SIDE = 32
"""Height and width that the convolutions see."""
MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's pixels in [0, 1]."""


class LeNet(nn.Module):
    """Maps pictures (n, channels, h, w) in [-1, 1] to logits (n, classes)."""

    def __init__(self, channels: int = 1, classes: int = 10, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.hidden = nn.Linear(20 * 5 * 5, 50)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(50, classes)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The activations of the layers: (n, 10, 14, 14), (n, 20, 5, 5) and (n, 50), before the dropout."""
        first = relu(max_pool2d(self.conv1(_prepared(images)), 2))
        second = relu(max_pool2d(self.conv2(first), 2))
        return first, second, relu(self.hidden(second.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """The logits (n, classes)."""
        logits: Tensor = self.head(self.dropout(self.features(images)[-1]))
        return logits

    def as_layers(self) -> nn.Sequential:
        """The same network, with the same weights, as plain layers of torch; of prepared pictures, see `SIDE`."""
        first, second = (nn.Sequential(layer, nn.MaxPool2d(2), nn.ReLU()) for layer in (self.conv1, self.conv2))
        return nn.Sequential(*first, *second, nn.Flatten(), self.hidden, nn.ReLU(), self.dropout, self.head)


def _prepared(images: Tensor) -> Tensor:
    """Pictures of 32 x 32 pixels with MNIST's mean at 0 and its deviation at 1."""
    if images.shape[-2:] != (SIDE, SIDE):
        images = interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    return ((images + 1) / 2 - MEAN) / DEVIATION

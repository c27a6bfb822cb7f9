"""A model of one's own for `model: {kind: python}`: the denoiser of a kernel density estimate over a folder of images.

With data that are one of n images plus Gaussian noise of a small width h, E[data | data + sigma z = y] is a mean of the
images, weighted by exp(-|y - image|^2 / 2(h^2 + sigma^2)) and drawn to y by h^2 / (h^2 + sigma^2): nothing is trained,
and what it draws are its images. Imports nothing of fednet: it is what a site brings along.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


class KernelDenoiser(nn.Module):
    """D(y, sigma) of the density estimate.

    Args:
        images: (n, c, h, w) in [-1, 1].
        width: of the kernel, in the same units.
    """

    images: Tensor

    def __init__(self, images: Tensor, width: float) -> None:
        super().__init__()
        self.register_buffer("images", images)
        self.width = width

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        """The mean of clean data (b, c, h, w) given y = data + sigma z."""
        kernel, noise = self.width**2, sigma**2
        distances = torch.cdist(y.flatten(1), self.images.flatten(1)).square()
        weights = torch.softmax(-distances / (2 * (kernel + noise)), 1)
        near = (weights @ self.images.flatten(1)).view_as(y)
        return (kernel * y + noise * near) / (kernel + noise)


def make(folder: str, width: float = 0.1) -> KernelDenoiser:
    """The denoiser of all images in a folder and its folders, in colour."""
    files = sorted(Path(folder).rglob("*.png"))
    values = np.stack([np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) for file in files])
    return KernelDenoiser(torch.from_numpy(values).permute(0, 3, 1, 2) / 127.5 - 1, width)

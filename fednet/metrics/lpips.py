"""LPIPS with its published weights, for whoever has them: a learned perceptual distance on AlexNet.

The weights are read from a local safetensors file that holds `lpips.LPIPS(net="alex").state_dict()` of the authors'
package (`safetensors.torch.save_file(...)`, once, where that package and its weights are); nothing is downloaded and
no pickle is opened. Pictures of less than 64 pixels are enlarged to 64, below which AlexNet has no fifth layer; grey
ones are repeated in three channels. Knows no detector.

Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1, with the scaling of their code.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, relu

from fednet.errors import MeasureError, ModelError
from fednet.metrics.distances import Distance

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for pixels in [-1, 1]."""
LEAST = 64
"""Pixels an edge."""
WIDTHS = (3, 64, 192, 384, 256, 256)
LAYERS = ("net.slice1.0", "net.slice2.3", "net.slice3.6", "net.slice4.8", "net.slice5.10")
"""AlexNet's convolutions as the authors' code names them."""
KERNELS, STRIDES, PADDINGS = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOLED = (1, 2)
"""Layers that see the pooled activations of the one before."""


def lpips(path: Path) -> Distance:
    """The distance that the weights in a file make.

    Returns:
        Two batches of pictures (n, c, h, w) in [-1, 1], c 1 or 3 -> (n,), at least 0.

    Raises:
        ModelError: the file is not such a file; the message says which part is missing.
    """
    weights = _read(path)

    @torch.no_grad()
    def distance(a: Tensor, b: Tensor) -> Tensor:
        if a.ndim != 4 or a.shape != b.shape or a.shape[1] not in (1, 3):
            raise MeasureError(f"LPIPS compares (n, 1 or 3, h, w) of one shape; got {[*a.shape]} and {[*b.shape]}")
        total = torch.zeros(len(a))
        layers = zip(_features(a, weights), _features(b, weights), strict=True)
        for index, (one, two) in enumerate(layers):
            apart = (_unit(one) - _unit(two)).square()
            total = total + conv2d(apart, weights[f"lin{index}.model.1.weight"]).mean((1, 2, 3))
        return total

    return distance


def _features(images: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """The activations of AlexNet's five layers."""
    x = (images.expand(-1, 3, -1, -1) - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
    if min(x.shape[-2:]) < LEAST:
        x = interpolate(x, [max(LEAST, side) for side in x.shape[-2:]], mode="bilinear", align_corners=False)
    features: list[Tensor] = []
    for index, name in enumerate(LAYERS):
        if index in POOLED:
            x = max_pool2d(x, 3, 2)
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = relu(conv2d(x, kernel, bias, stride=STRIDES[index], padding=PADDINGS[index]))
        features.append(x)
    return features


def _unit(activations: Tensor) -> Tensor:
    return activations / (activations.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _read(path: Path) -> dict[str, Tensor]:
    wanted: dict[str, tuple[int, ...]] = {}
    for index, name in enumerate(LAYERS):
        inward, outward, kernel = WIDTHS[index], WIDTHS[index + 1], KERNELS[index]
        wanted[f"{name}.weight"] = (outward, inward, kernel, kernel)
        wanted[f"{name}.bias"] = (outward,)
        wanted[f"lin{index}.model.1.weight"] = (1, outward, 1, 1)
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            weights = {name: file.get_tensor(name) for name in wanted if name in there}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} holds no LPIPS weights that can be read ({error}): see fednet.metrics.lpips"
        ) from error
    odd = [
        name
        for name, shape in wanted.items()
        if name not in weights or tuple(weights[name].shape) != shape or not weights[name].is_floating_point()
    ]
    if odd:
        raise ModelError(f"{path} lacks LPIPS weights for AlexNet: {', '.join(odd[:3])} ({len(odd)} in all)")
    return {name: value.float() for name, value in weights.items()}

"""LoRA files of peft and of diffusers, added to the weights that they adapt: W + (alpha / rank) B A.

Nothing of a file is looked up by its name but weights of the network; what fits none is refused. Source: Hu et al. 2021
(arXiv 2106.09685), eq. 3. Knows no site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.models.diffusers_folder import read_json_object

PEFT_CONFIG = "adapter_config.json"
_PREFIX = re.compile(r"^(base_model\.model\.|unet\.)+")
_DOWN = (".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", ".lora_linear_layer.down.weight")
_UP = (".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight", ".lora_linear_layer.up.weight")
_ALPHA = (".alpha",)


def add_lora(network: nn.Module, path: Path, what: str) -> None:
    """Adds a LoRA to a network's weights, in place.

    Args:
        network: float32.
        path: a safetensors file; peft's `adapter_config.json` beside it says alpha, where the file does not.
        what: the key of the configuration that names the file, for messages.

    Raises:
        ModelError: it is no such file, or adapts another network.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(f"{what}: {path} is no safetensors file, and no other format is opened, since it may run code")
    try:
        tensors = {_PREFIX.sub("", name): value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{what}: {path} cannot be read ({error})") from error
    downs, ups, alphas = (_ending(tensors, ends) for ends in (_DOWN, _UP, _ALPHA))
    weights = dict(network.named_parameters())
    odd = len(tensors) - len(downs) - len(ups) - len(alphas)
    if odd or not downs or downs.keys() != ups.keys() or not alphas.keys() <= downs.keys():
        raise ModelError(f"{what}: {path} holds no pairs of LoRA matrices of a UNet ({odd} other tensors)")
    default = _peft_alpha(path, what)
    for name, down in downs.items():
        weight = weights.get(f"{name}.weight")
        rank = len(down)
        alpha = float(alphas[name]) if name in alphas else default if default is not None else float(rank)
        change = _product(ups[name], down) * (alpha / rank)
        if weight is None or weight.numel() != change.numel() or len(weight) != len(change):
            raise ModelError(f"{what}: {path} adapts {name[:80]}, which the network does not have in this shape")
        with torch.no_grad():
            weight.add_(change.view_as(weight))


def _ending(tensors: Mapping[str, Tensor], ends: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors with one of these ends, by their names without."""
    return {name.removesuffix(end): value for name, value in tensors.items() for end in ends if name.endswith(end)}


def _product(up: Tensor, down: Tensor) -> Tensor:
    """B A, also of 1 x 1 and k x k convolutions, whose up matrix is 1 x 1."""
    return up.flatten(1) @ down.flatten(1)


def _peft_alpha(path: Path, what: str) -> float | None:
    beside = path.with_name(PEFT_CONFIG)
    if not beside.is_file():
        return None
    alpha = read_json_object(beside, what).get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ModelError(f"{what}: {beside} says no lora_alpha")
    return float(alpha)

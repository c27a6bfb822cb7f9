"""The score network: a diffusers UNet that is told the noise level properly and predicts the noise.

`ScoreNet.noise` is the noise in x_t, `ScoreNet.score` is -noise / std(t). Inside, the UNet sees x_t scaled to unit
size and predicts only what a Gaussian of the data's scale does not already explain, so that at high noise the score
is right from the first step on; the responsibilities of a mixture are decided there. Checkpoints are safetensors
files that carry a description of their network, and a network refuses the weights of another one.

Source: the network of Ho et al. 2020 (arXiv 2006.11239) as diffusers builds it; the scaling is that of Karras et al.
2022 (arXiv 2206.00364), table 1 and appendix B.6, written for any alpha(t) and std(t) instead of for alpha = 1.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.sde import SDE, over
from fednet.errors import ModelError
from fednet.files import write_whole
from fednet.models.config import UNetConfig

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel


class ScoreNet(nn.Module):
    """Predicts the noise in x_t; conditional on class labels where its configuration says so (a `ScoreExpert`).

    Attributes:
        classes: number of class labels that it knows; 0 for an unconditional network. The label `classes` itself
            stands for "any class".
    """

    def __init__(self, config: UNetConfig, sde: SDE, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        _check(config, shape)
        self.config, self.sde, self.shape = config, sde, shape
        self.classes = classes if config.conditional else 0
        self.unet = _unet(config, shape, self.classes)

    def noise(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise in x_t.

        Args:
            x: noisy images (n, c, h, w), float32.
            t: times (n,) or a scalar, in [eps, 1].
            labels: int64 (n,) in 0..classes, `classes` for "any class"; none given means "any class" for all.
        """
        t = t.expand(len(x))
        alpha, std = self.sde.marginal(t)
        signal = (alpha * self.config.data_scale) ** 2
        size = signal + std**2
        inner: Tensor = self.unet(
            over(size.rsqrt(), x) * x,
            self.sde.condition(t),
            class_labels=self._labels(labels, x),
            return_dict=False,
        )[0]
        return over(std / size, x) * x + over((signal / size).sqrt(), x) * inner.float()

    def score(self, x: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """The score of x_t, of x's shape.

        Args:
            x: as for `noise`.
            t: as for `noise`.
            labels: as for `noise`.
            guidance: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598):
                any + guidance (labelled - any); 1 is the plain conditional score.
        """
        noise = self.noise(x, t, labels)
        if labels is not None and guidance != 1.0:
            free = self.noise(x, t, None)
            noise = free + guidance * (noise - free)
        _, std = self.sde.marginal(t)
        return -noise / over(std, x)

    @property
    def card(self) -> ExpertCard:
        """What it is."""
        return ExpertCard(
            kind="unet", network="ScoreNet", prediction="epsilon", schedule=f"the SDE {type(self.sde).__name__}"
        )

    def _labels(self, labels: Tensor | None, x: Tensor) -> Tensor | None:
        if not self.classes:
            return None
        return torch.full((len(x),), self.classes, device=x.device) if labels is None else labels

    def describe(self) -> dict[str, object]:
        """What the weights of this network fit: its configuration, image shape, classes and SDE."""
        return {
            "network": "unet",
            **self.config.model_dump(mode="json", exclude={"kind"}),
            "shape": list(self.shape),
            "classes": self.classes,
            "sde": self.sde.model_dump(mode="json"),
        }


def digest(description: object) -> str:
    """Twelve hexadecimal digits that name a description (anything that JSON can say)."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def save(net: ScoreNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Writes the weights and the description of `net`, and `notes` beside them, all or nothing."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    description = json.dumps(net.describe(), sort_keys=True)
    write_whole(path, _ordered(serialize(tensors, {**(notes or {}), "architecture": description})))


def _ordered(file: bytes) -> bytes:
    """A safetensors file with its notes in sorted order, so that equal content is equal bytes; they come in any."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + file[start:]


def restore(net: ScoreNet, path: Path) -> dict[str, str]:
    """Reads weights into `net` and returns the notes beside them.

    Raises:
        ModelError: the file is no checkpoint, or one of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
        stored = json.loads(notes.pop("architecture", "null"))
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not a readable checkpoint ({error}): remove it to train again") from error
    if stored != (wanted := json.loads(json.dumps(net.describe()))):
        raise ModelError(_mismatch(path, stored, wanted))
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path} does not hold the weights that it names: remove it to train again") from error
    return notes


def _mismatch(path: Path, stored: object, wanted: dict[str, object]) -> str:
    if not isinstance(stored, dict):
        return f"{path} does not say which network it belongs to: expected architecture {digest(wanted)}"
    keys = sorted(key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key))
    detail = "; ".join(f"{key}: {stored.get(key)} there, {wanted.get(key)} here" for key in keys)
    return (
        f"{path} holds the weights of architecture {digest(stored)}, the configuration asks for {digest(wanted)} "
        f"({detail}): change the configuration or remove the file to train again"
    )


def _check(config: UNetConfig, shape: tuple[int, int, int]) -> None:
    unfit = [width for width in config.channels if width % config.groups]
    if unfit:
        raise ModelError(f"model.groups {config.groups} must divide every one of model.channels, not {unfit}")
    factor = 2 ** (len(config.channels) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ModelError(
            f"{len(config.channels)} levels (model.channels) need sides divisible by {factor}, the images are "
            f"{shape[1]} x {shape[2]}: use fewer levels or another data.size"
        )


def _unet(config: UNetConfig, shape: tuple[int, int, int], classes: int) -> UNet2DModel:
    from diffusers.models.unets.unet_2d import UNet2DModel  # noqa: PLC0415 - seconds that a configuration need not wait

    levels = len(config.channels)
    lowest = "Attn" if config.attention else ""
    net = UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=config.channels,
        down_block_types=("DownBlock2D",) * (levels - 1) + (f"{lowest}DownBlock2D",),
        up_block_types=(f"{lowest}UpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        layers_per_block=config.layers,
        norm_num_groups=config.groups,
        add_attention=config.attention,
        num_class_embeds=classes + 1 if classes else None,
    )
    nn.init.zeros_(net.conv_out.weight)
    nn.init.zeros_(net.conv_out.bias)
    return net

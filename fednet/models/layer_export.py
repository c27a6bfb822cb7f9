"""Networks that no library has a class for, as folders that torch and safetensors load without fednet.

They consist of layers of `torch.nn`, one after another: `config.json` names them with their arguments, and
`model.safetensors` has their weights. So a generator of a GAN and the LeNet are a `torch.nn.Sequential` to whoever
loads them. Knows no site.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import nn

from fednet.models.codec import Decoder
from fednet.models.exported_folder import ModelCard, json_bytes, weight_bytes, write_exported
from fednet.models.gan import Generator
from fednet.models.lenet import DEVIATION, MEAN, SIDE, LeNet

CONFIG, WEIGHTS = "config.json", "model.safetensors"
ARGUMENTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.BatchNorm2d: ("num_features", "eps"),
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.ConvTranspose2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.Dropout: ("p",),
    nn.Flatten: (),
    nn.GroupNorm: ("num_groups", "num_channels", "eps"),
    nn.LeakyReLU: ("negative_slope",),
    nn.Linear: ("in_features", "out_features"),
    nn.MaxPool2d: ("kernel_size",),
    nn.ReLU: (),
    nn.Tanh: (),
    nn.Unflatten: ("dim", "unflattened_size"),
}
"""The layers that there are, and which attributes are arguments of theirs; `bias` is one more of those with weights."""
LOAD = """
import json, torch
from safetensors.torch import load_model

layers = json.load(open("config.json"))["layers"]
net = torch.nn.Sequential(*(getattr(torch.nn, kind)(**arguments) for kind, arguments in layers)).eval()
load_model(net, "model.safetensors")
"""
HONESTLY = """
No library has a class for this network. `config.json` names its layers, all of `torch.nn`, and safetensors loads their
weights in one line, `load_model(net, "model.safetensors")`; nothing of fednet is needed.
"""


def layers_of(net: nn.Sequential) -> list[tuple[str, dict[str, object]]]:
    """The layers of a network, each by the name of its class and with its arguments.

    Raises:
        TypeError: one is of a class that is not in `ARGUMENTS`.
    """
    return [_layer(part) for part in net]


def export_generator(
    net: Generator | Decoder,
    folder: Path,
    *,
    trained: str,
    latents: str = "",
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Writes a generator as a folder.

    Args:
        net: it maps latent vectors to pictures in [-1, 1].
        folder: where to.
        trained: how it was trained, and what that has cost, for the card.
        latents: lines of Python that make `latents` (16, latent); by default they are standard normal.
        files: what else belongs to it.

    Raises:
        OSError: it cannot be written.
    """
    channels, height, width = net.shape
    latents = latents or f"latents = torch.randn(16, {net.latent})"
    card = ModelCard(
        title="The generator of a GAN",
        library="pytorch",
        tags=("gan", "image-generation"),
        text=f"Maps {net.latent} numbers to pictures {channels} x {height} x {width} in [-1, 1]. {trained}\n{HONESTLY}",
        code=f"{LOAD}\n{latents}\nwith torch.no_grad():\n    pictures = net(latents)",
    )
    write_exported(folder, {**_files(net.as_layers(), latent=net.latent, shape=net.shape), **files}, card)


def export_classifier(
    net: LeNet, folder: Path, *, shape: tuple[int, ...], classes: tuple[str, ...], trained: str
) -> None:
    """Writes a LeNet as a folder.

    Args:
        net: the classifier.
        folder: where to.
        shape: channels, height and width of a picture.
        classes: what its logits are of.
        trained: as for `export_generator`.

    Raises:
        OSError: it cannot be written.
    """
    channels, height, width = shape
    card = ModelCard(
        title="A classifier of pictures",
        library="pytorch",
        tags=("image-classification",),
        text=f"A LeNet for pictures {channels} x {height} x {width} in [-1, 1]; the classes stand in `config.json`. "
        f"{trained}\n{HONESTLY}",
        code=f"""{LOAD}
from torch.nn.functional import interpolate

pictures = torch.zeros(16, {channels}, {height}, {width})
seen = interpolate(pictures, ({SIDE}, {SIDE}), mode="bilinear", antialias=True)
with torch.no_grad():
    logits = net(((seen + 1) / 2 - {MEAN}) / {DEVIATION})
""",
    )
    write_exported(folder, _files(net.as_layers(), shape=shape, classes=classes), card)


def _files(net: nn.Sequential, **facts: object) -> dict[str, bytes]:
    return {CONFIG: json_bytes({"layers": layers_of(net), **facts}), WEIGHTS: weight_bytes(net.state_dict())}


def _layer(part: nn.Module) -> tuple[str, dict[str, object]]:
    names = ARGUMENTS.get(type(part))
    if names is None:
        raise TypeError(f"{type(part).__name__} cannot be exported: add its arguments to layer_export.ARGUMENTS")
    arguments = {name: getattr(part, name) for name in names}
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        arguments["bias"] = part.bias is not None
    return type(part).__name__, arguments

"""Generators and classifiers leave as folders that torch and safetensors load alone, with the same results."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fednet.models.codec import Decoder
from fednet.models.config import CodecConfig, GanConfig
from fednet.models.gan import Generator
from fednet.models.layer_export import export_classifier, export_generator, layers_of
from fednet.models.lenet import LeNet

CLASSES = ("cat", "dog")


def run_card(folder: Path, given: str, value: Tensor, wanted: str) -> Tensor:
    """What the lines of a card make in its folder, with a value in the place of what they make up."""
    card = (folder / "README.md").read_text()
    lines = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    ") or not line)
    assert given in lines
    assert "fednet" not in lines
    with chdir(folder):
        names: dict[str, Any] = {"given": value}
        exec(lines.replace(given, "given"), names)  # noqa: S102 - our own text
    result: Tensor = names[wanted]
    return result


def generator(kind: str) -> Generator | Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "decoder":
            return Decoder(CodecConfig(latent=6, width=8), (1, 8, 8)).eval()
        return Generator(GanConfig.model_validate({"kind": kind, "latent": 6, "width": 8}), (3, 16, 16)).eval()


@pytest.mark.parametrize("kind", ["mlp", "dcgan", "dp-dcgan", "decoder"])
def test_a_generator_is_loaded_by_torch_alone_and_draws_the_same(kind: str, tmp_path: Path) -> None:
    net = generator(kind)
    export_generator(net, tmp_path, trained="Trained by a.")
    latents = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    pictures = run_card(tmp_path, "torch.randn(16, 6)", latents, "pictures")
    with torch.no_grad():
        torch.testing.assert_close(pictures, net(latents))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_a_classifier_is_loaded_by_torch_alone_and_says_the_same(shape: tuple[int, int, int], tmp_path: Path) -> None:
    net = LeNet(shape[0], len(CLASSES)).eval()
    export_classifier(net, tmp_path, shape=shape, classes=CLASSES, trained="Trained by a.")
    images = torch.rand(16, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    logits = run_card(tmp_path, f"torch.zeros(16, {', '.join(map(str, shape))})", images, "logits")
    with torch.no_grad():
        torch.testing.assert_close(logits, net(images))
    assert json.loads((tmp_path / "config.json").read_text())["classes"] == list(CLASSES)


def test_a_layer_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="Softplus cannot be exported"):
        layers_of(nn.Sequential(nn.Softplus()))

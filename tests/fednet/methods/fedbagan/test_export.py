"""The best generator is loaded by torch and safetensors alone, and draws the classes that a site had."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from fednet.methods.fedbagan.checkpoint import CheckpointDescription, GeneratorCheckpoint
from fednet.methods.fedbagan.export import export_checkpoint
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.models.codec import Decoder
from fednet.models.config import CodecConfig


def test_the_lines_of_its_card_draw_what_the_checkpoint_draws(tmp_path: Path) -> None:
    config, random = CodecConfig(latent=4, width=8), torch.Generator().manual_seed(0)
    mean, factor = torch.randn(3, 4, generator=random), torch.randn(3, 4, 4, generator=random).tril()
    gaussians = ClassGaussians(mean, factor, torch.tensor([True, False, True]))
    about = CheckpointDescription(model=config, shape=(1, 8, 8), classes=("a", "b", "c"), round=7)
    checkpoint = GeneratorCheckpoint(Decoder(config, (1, 8, 8)).eval(), gaussians, about)
    export_checkpoint(checkpoint, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "7 rounds" in card
    assert "0 a, 1 b, 2 c" in card
    lines = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    ") or not line)
    assert "fednet" not in lines
    names: dict[str, Any] = {}
    with chdir(tmp_path):
        exec(lines, names)  # noqa: S102 - our own text
    assert names["labels"].tolist() == [0, 2] * 8
    torch.testing.assert_close(names["pictures"], checkpoint.draw(names["labels"], names["noise"]))
    assert json.loads((tmp_path / "config.json").read_text())["shape"] == [1, 8, 8]

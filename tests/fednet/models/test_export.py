"""What is trained here is loaded by diffusers alone, gives the same scores, and is a site's model again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.models.config import DiffusersModelConfig, UNetConfig
from fednet.models.diffusers_expert import DiffusersFolder
from fednet.models.export import export
from fednet.models.unet import ScoreNet
from fednet.seeds import generator

CLASSES = ("cat", "dog")


def network(sde: SDE, *, conditional: bool = False, scale: float = 0.8) -> ScoreNet:
    config = UNetConfig(channels=(8,), groups=4, attention=False, conditional=conditional, data_scale=scale)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ScoreNet(config, sde, (1, 4, 4), 2)
        torch.nn.init.normal_(net.unet.conv_out.weight, std=0.3)
    return net.eval().requires_grad_(requires_grad=False)


def exported(net: ScoreNet, folder: Path) -> Path:
    export(net, folder / "model", classes=CLASSES, trained="Trained on 7 pictures.")
    return folder / "model"


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda sde: sde.kind)
def test_diffusers_alone_sees_the_same_clean_pictures(sde: SDE, tmp_path: Path) -> None:
    net = network(sde)
    folder, x = exported(net, tmp_path), torch.randn(3, 1, 4, 4, generator=generator(0, "x"))
    unet, scheduler = UNet2DModel.from_pretrained(folder / "unet"), DDIMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(1001)
    for t in (0.05, 0.4, 0.9):
        step = round(float(sde.condition(torch.tensor(t, dtype=torch.float64))))
        low, high = (float(sde.log_ratio(torch.tensor(end, dtype=torch.float64))) for end in (sde.eps, 1.0))
        sigma = torch.tensor(low + step * (high - low) / 1000).exp() / 0.8
        y = x / (1 + sigma**2).sqrt()
        with torch.no_grad():
            velocity = unet(y, step).sample
        signal = scheduler.alphas_cumprod[step]
        clean = 0.8 * (signal.sqrt() * y - (1 - signal).sqrt() * velocity)
        at = _time(sde, step)
        alpha, std = (float(value) for value in sde.marginal(at))
        noisy = 0.8 * alpha * x
        truth = (noisy + std**2 * net.score(noisy, at.float())) / alpha
        torch.testing.assert_close(clean, truth, rtol=2e-3, atol=2e-3)


def _time(sde: SDE, step: int) -> torch.Tensor:
    """The time of the SDE at which its network is told a whole step."""
    low, high = torch.tensor(sde.eps, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if float(sde.condition(middle)) < step else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("scale", [0.8, 1.0])
def test_a_site_that_takes_it_answers_as_the_one_that_trained_it(
    tmp_path: Path, scale: float, *, conditional: bool
) -> None:
    sde = VP()
    net = network(sde, conditional=conditional, scale=scale)
    more: dict[str, Any] = {"classes": CLASSES} if conditional else {}
    config = DiffusersModelConfig.model_validate({"kind": "diffusers", "path": exported(net, tmp_path), **more})
    expert = DiffusersFolder(config).load(sde, "cpu", CLASSES if conditional else ())
    x, labels = torch.randn(3, 1, 4, 4, generator=generator(0, "x")), torch.tensor([0, 1, 1]) if conditional else None
    for t in (torch.tensor(value) for value in (0.002, 0.05, 0.37, 0.99)):
        std = float(sde.marginal(t)[1])
        for guidance in (1.0, 2.0) if conditional else (1.0,):
            answers = [each.score(x, t, labels, guidance) * std for each in (expert, net)]
            torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


def test_the_model_card_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the card are run as they stand there, with fewer steps."""
    folder = exported(network(VP(), conditional=True), tmp_path)
    card = (folder / "README.md").read_text()
    assert "library_name: diffusers" in card
    assert "Trained on 7 pictures." in card
    assert "0 cat, 1 dog; 2 any class" in card
    lines = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    "))
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(re.sub(r"set_timesteps\(100\)", "set_timesteps(4)", lines), names)  # noqa: S102 - our own text
    assert names["pictures"].shape == (16, 1, 4, 4)
    assert float(names["pictures"].abs().max()) <= 1.0001

"""A trained score network as a folder of diffusers: UNet2DModel, DDIMScheduler and a model card.

Inside, the network sees y = x_t / size(t), which is a variance-preserving diffusion of the data divided by their scale
d: y = a x_0 / d + b z with a = alpha d / size, b = std / size, size^2 = (alpha d)^2 + std^2. It predicts v = a z - b
x_0 / d, and is told 0..1000 evenly in log(std / alpha) (`fednet.models.unet`, `fednet.diffusion.sde.SDE.condition`). So
it is the UNet2DModel of a discrete model of 1001 steps with the signals a^2 at them, predicting v, of data in [-1/d,
1/d], whatever the SDE. Whoever loads the folder multiplies samples by d; the folder says it as `clip_sample_range`,
which is 1/d.

Source: Salimans and Ho 2022 (arXiv 2202.00512) for v. Knows no site.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from fednet.diffusion.parametrisation import levels_of_signals
from fednet.models.diffusers_folder import NETWORK_CONFIG, SCHEDULER_CONFIG
from fednet.models.exported_folder import ModelCard, weight_bytes, write_exported
from fednet.models.unet import ScoreNet

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = 1001
"""Of the exported schedule: the network's own times 0, 1, ..., 1000."""


def export(
    net: ScoreNet,
    folder: Path,
    *,
    classes: tuple[str, ...],
    trained: str,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Writes the folder; its model card comes last.

    Args:
        net: the network, trained.
        folder: where to.
        classes: the names of its labels; the label after them is "any class".
        trained: how it was trained, a sentence for the card.
        files: what else belongs to it.

    Raises:
        OSError: it cannot be written.
    """
    own = {
        f"unet/{NETWORK_CONFIG}": net.unet.to_json_string().encode(),
        f"unet/{WEIGHTS}": weight_bytes(net.unet.state_dict()),
        f"scheduler/{SCHEDULER_CONFIG}": schedule(net).to_json_string().encode(),
    }
    write_exported(folder, {**own, **files}, _card(net, classes if net.classes else (), trained))


def schedule(net: ScoreNet) -> DDIMScheduler:
    """The noise of the network's own times as a scheduler of diffusers."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler  # noqa: PLC0415 - seconds that only exports need

    ends = torch.tensor([net.sde.eps, 1.0], dtype=torch.float64)
    low, high = (float(value) for value in net.sde.log_ratio(ends))
    log_ratios = torch.linspace(low, high, STEPS, dtype=torch.float64)
    signals = 1 / (1 + (log_ratios.exp() / net.config.data_scale) ** 2)
    levels_of_signals(signals)  # it rises
    before = torch.cat([torch.ones(1, dtype=torch.float64), signals[:-1]])
    return DDIMScheduler(
        num_train_timesteps=STEPS,
        trained_betas=(1 - signals / before).tolist(),
        prediction_type="v_prediction",
        clip_sample=True,
        clip_sample_range=1 / net.config.data_scale,
        timestep_spacing="trailing",
    )


def _card(net: ScoreNet, classes: tuple[str, ...], trained: str) -> ModelCard:
    channels, height, width = net.shape
    scale = net.config.data_scale
    labels = f", class_labels=torch.full((16,), {net.classes})" if net.classes else ""
    names = (
        f"\nLabels: {', '.join(f'{label} {name}' for label, name in enumerate(classes))}; {net.classes} any class.\n"
    )
    again = f"model: {{kind: diffusers, path: .{f', classes: {list(classes)}' if classes else ''}}}"
    return ModelCard(
        title="A score network",
        library="diffusers",
        tags=("diffusion", "score-based"),
        text=f"Pictures {channels} x {height} x {width} in [-1, 1], {type(net.sde).__name__} SDE. {trained}"
        f"\n{names if classes else ''}",
        code=f"""
import torch
from diffusers import DDIMScheduler, UNet2DModel

unet, scheduler = UNet2DModel.from_pretrained("unet"), DDIMScheduler.from_pretrained("scheduler")
scheduler.set_timesteps(100)
y = torch.randn(16, {channels}, {height}, {width})
with torch.no_grad():
    for step in scheduler.timesteps:
        y = scheduler.step(unet(y, step{labels}).sample, step, y).prev_sample
pictures = {scale:g} * y
""",
        notes=f"The network works on pictures divided by {scale:g}, their root mean square (`clip_sample_range` in "
        f"scheduler/).\nA site of fednet takes it as `{again}`.",
    )

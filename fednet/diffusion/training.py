"""Denoising score matching: trains a score network on one agent's images, deterministically from a seed.

The loss is the squared error of the network's inner prediction, that is of the noise, weighted by
size / signal = 1 + (std / (alpha scale))^2, which makes every t count alike. `train` is a whole training; `resume`
continues one from given weights and a given running average of them, as federated rounds need it, and `joint_state` is
the state that such rounds average.

Source: Song et al. 2021 (arXiv 2011.13456), eq. 7; the weighting is that of Karras et al. 2022 (arXiv 2206.00364),
table 1; the growing decay of the average of the weights is that of their appendix and of TensorFlow's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fednet.api import Progress
from fednet.diffusion.config import ScoreTrainConfig
from fednet.diffusion.sde import over
from fednet.errors import MethodError, ModelError
from fednet.models.unet import ScoreNet
from fednet.seeds import generator


@dataclass(frozen=True)
class TrainedScoreModel:
    """The result of a training: number of steps, and the loss at its start and end (mean over a tenth of the steps)."""

    steps: int
    first_loss: float
    last_loss: float


def train(
    net: ScoreNet, images: Tensor, labels: Tensor | None, config: ScoreTrainConfig, *, seed: int, progress: Progress
) -> TrainedScoreModel:
    """Trains `net` in place, on the device it is on; ends with the averaged weights in it.

    Args:
        net: the network; its own SDE is the one trained for.
        images: (n, c, h, w) float32 in [-1, 1].
        labels: int64 (n,) in 0..classes-1, for a conditional network only.
        config: budget and step sizes.
        seed: decides the order of the data, the times and the noise.
        progress: receives every batch.

    Raises:
        MethodError: there are no images, or the loss is not finite.
        Stopped: `progress` stops the training.
    """
    steps = config.batches(max(1, len(images)))
    average = copy.deepcopy(net).requires_grad_(False)
    trained = _fit(
        net, average, images, labels, config, pace=lambda step: _pace(step, steps), seed=seed, progress=progress
    )
    net.load_state_dict(average.state_dict())
    net.eval()
    return trained


def resume(
    net: ScoreNet,
    average: ScoreNet,
    images: Tensor,
    labels: Tensor | None,
    config: ScoreTrainConfig,
    *,
    before: int,
    seed: int,
    progress: Progress,
) -> TrainedScoreModel:
    """Trains `net` and its running average further, both in place: a stretch of a training without a known end.

    The step size rises over the first tenth of the stretch, since Adam begins anew, and then stays at `config.lr`.

    Args:
        net: the network as it stands, raw weights.
        average: the running average of its weights; `joint_state` holds both.
        images: as for `train`.
        labels: as for `train`.
        config: the budget of this stretch, and step sizes.
        before: steps that were taken before; the decay of the average depends on it.
        seed: decides the order of the data, the times and the noise; another one for every stretch.
        progress: receives every batch.

    Raises:
        MethodError: there are no images, or the loss is not finite.
        Stopped: `progress` stops the training.
    """
    rise = max(1, config.batches(max(1, len(images))) // 10)
    average.requires_grad_(False)
    trained = _fit(
        net,
        average,
        images,
        labels,
        config,
        pace=lambda step: min(1.0, (step + 1) / rise),
        seed=seed,
        progress=progress,
        before=before,
    )
    net.eval()
    average.eval()
    return trained


def joint_state(net: ScoreNet, average: ScoreNet) -> dict[str, Tensor]:
    """Raw and averaged weights as one state for federated rounds: names begin with "raw." and "average."."""
    both = {"raw": net.state_dict(), "average": average.state_dict()}
    return {f"{which}.{name}": value.detach() for which, state in both.items() for name, value in state.items()}


def load_joint_state(net: ScoreNet, average: ScoreNet, state: Mapping[str, Tensor]) -> None:
    """Copies a `joint_state` into two networks.

    Raises:
        ModelError: it is of another network; neither network is changed.
    """
    wanted = {name: value.shape for name, value in joint_state(net, average).items()}
    if {name: value.shape for name, value in state.items()} != wanted:
        odd = sorted(
            name for name in wanted.keys() | state.keys() if name not in state or state[name].shape != wanted.get(name)
        )
        raise ModelError(f"this state is not of this score network: {', '.join(odd[:3])} ({len(odd)} in all) differ")
    for which, part in (("raw.", net), ("average.", average)):
        part.load_state_dict({name.removeprefix(which): v for name, v in state.items() if name.startswith(which)})


def _fit(
    net: ScoreNet,
    average: ScoreNet,
    images: Tensor,
    labels: Tensor | None,
    config: ScoreTrainConfig,
    *,
    pace: Callable[[int], float],
    seed: int,
    progress: Progress,
    before: int = 0,
) -> TrainedScoreModel:
    """The loop of `train` and `resume`; `pace` is the fraction of the peak step size at a step."""
    if not len(images):
        raise MethodError("no training images: give every site a share of the data")
    steps = config.batches(len(images))
    device = next(net.parameters()).device
    optimiser = torch.optim.Adam(net.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, pace)
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda" and config.precision == "float16")
    random = generator(seed, "batches")
    losses: list[float] = []
    net.train()
    for step, chosen in enumerate(_order(len(images), config.batch, steps, random)):
        batch = images[chosen].to(device)
        conditions = _conditioning_labels(net, labels, chosen, config.label_dropout, random)
        with torch.autocast(device.type, _dtype(config), enabled=_autocasts(device, config)):
            loss = score_matching_loss(net, batch, conditions, random)
        _descend(net, optimiser, scaler, loss, config.clip)
        schedule.step()
        _blend(average, net, min(config.ema, (1 + before + step) / (10 + before + step)))
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise MethodError(f"training loss is {losses[-1]} at step {step + 1}: lower train.lr (now {config.lr})")
        progress.report("training", step + 1, steps, loss=losses[-1])
    tenth = max(1, steps // 10)
    return TrainedScoreModel(steps, sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth)


def score_matching_loss(net: ScoreNet, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Tensor:
    """The weighted squared error of the predicted noise, a scalar; 1 for a network that predicts nothing.

    The times are spread evenly over [eps, 1] with one random shift (Kingma et al. 2021, arXiv 2107.00630,
    appendix I.1), which steadies the loss of a small batch.
    """
    count = len(images)
    spread = (torch.arange(count) + torch.rand(1, generator=random)) / count
    t = (net.sde.eps + (1 - net.sde.eps) * spread).to(images.device)
    noise = torch.randn(images.shape, generator=random).to(images.device)
    x = net.sde.noised(images, t, noise)
    alpha, std = net.sde.marginal(t)
    weight = 1 + (std / (alpha * net.config.data_scale)) ** 2
    error = (net.noise(x, t, labels) - noise) ** 2
    return (over(weight, error) * error).mean()


def _order(count: int, batch: int, steps: int, random: torch.Generator) -> Iterator[Tensor]:
    """Yields `steps` index batches from an endless shuffled pass after pass; all of one size."""
    pool = torch.empty(0, dtype=torch.int64)
    size = min(batch, count)
    for _ in range(steps):
        while len(pool) < size:
            pool = torch.cat([pool, torch.randperm(count, generator=random)])
        yield pool[:size]
        pool = pool[size:]


def _conditioning_labels(
    net: ScoreNet, labels: Tensor | None, chosen: Tensor, dropout: float, random: torch.Generator
) -> Tensor | None:
    """The class labels of a batch, with a share of them replaced by "any class"; None for an unconditional network."""
    if not net.classes or labels is None:
        return None
    hidden = torch.rand(len(chosen), generator=random) < dropout
    conditions = labels[chosen].masked_fill(hidden, net.classes)
    return conditions.to(next(net.parameters()).device)


def _pace(step: int, steps: int) -> float:
    """The share of the peak step size at a step: a linear rise, then a cosine to zero."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _descend(
    net: ScoreNet, optimiser: torch.optim.Adam, scaler: torch.amp.GradScaler, loss: Tensor, clip: float
) -> None:
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    scaler.unscale_(optimiser)
    nn.utils.clip_grad_norm_(net.parameters(), clip)
    scaler.step(optimiser)
    scaler.update()


@torch.no_grad()
def _blend(average: ScoreNet, net: ScoreNet, decay: float) -> None:
    for kept, new in zip(average.parameters(), net.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def _autocasts(device: torch.device, config: ScoreTrainConfig) -> bool:
    return device.type == "cuda" and config.precision != "float32"


def _dtype(config: ScoreTrainConfig) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.precision]

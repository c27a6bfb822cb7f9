"""Training learns, replays and stops."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fednet.api import NullProgress, Progress, Stopped
from fednet.diffusion.config import ScoreTrainConfig
from fednet.diffusion.sde import SDE, VE, VP
from fednet.diffusion.training import joint_state, load_joint_state, resume, score_matching_loss, train
from fednet.errors import MethodError, ModelError
from fednet.models.config import UNetConfig
from fednet.models.unet import ScoreNet
from fednet.seeds import generator

SHAPE = (1, 4, 4)


def network(conditional: bool = False, sde: SDE | None = None) -> ScoreNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = UNetConfig(channels=(8,), groups=4, attention=False, conditional=conditional)
        return ScoreNet(config, sde or VP(), SHAPE, 2)


def stripes(count: int = 40) -> tuple[Tensor, Tensor]:
    """Two classes of pictures: bright left, bright right."""
    labels = torch.arange(count) % 2
    images = -torch.ones(count, *SHAPE)
    images[labels == 0, :, :, :2] = 1
    images[labels == 1, :, :, 2:] = 1
    return images, labels


def fit(config: ScoreTrainConfig, seed: int = 0, progress: Progress | None = None, net: ScoreNet | None = None) -> Any:
    net = net or network()
    images, labels = stripes()
    done = train(net, images, labels if net.classes else None, config, seed=seed, progress=progress or NullProgress())
    return net, done


@pytest.mark.parametrize("sde", [VP(), VE()], ids=lambda sde: sde.kind)
def test_training_lowers_the_loss(sde: SDE) -> None:
    net, done = fit(ScoreTrainConfig(steps=150, lr=1e-2), net=network(sde=sde))
    assert done.steps == 150
    assert done.last_loss < 0.75 * done.first_loss
    images, _ = stripes()
    with torch.no_grad():
        after = float(score_matching_loss(net, images, None, generator(1, "check")))
        before = float(score_matching_loss(network(sde=sde), images, None, generator(1, "check")))
    assert after < 0.75 * before


def test_labels_are_learned_and_any_class_stays_known() -> None:
    net, _ = fit(ScoreTrainConfig(steps=80, lr=2e-2, label_dropout=0.3), net=network(conditional=True))
    x, t = torch.randn(64, *SHAPE, generator=generator(0, "x")), torch.tensor(0.9)
    with torch.no_grad():
        left, right = (net.score(x, t, torch.full((64,), label)).mean(0) for label in (0, 1))
        either = net.score(x, t).mean(0)
    assert float((left - right)[:, :, :2].mean()) > 0
    assert float((left - right)[:, :, 2:].mean()) < 0
    assert float((either - (left + right) / 2).abs().max()) < float((left - right).abs().max())


def test_the_same_seed_trains_the_same_network_and_another_does_not() -> None:
    one, two, three = (fit(ScoreTrainConfig(steps=5), seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], three[key]) for key in one)


def test_training_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    fit(ScoreTrainConfig(steps=2))
    assert torch.equal(state, torch.get_rng_state())


def test_the_budget_is_epochs_or_steps() -> None:
    assert ScoreTrainConfig(steps=7).batches(1000) == 7
    assert ScoreTrainConfig(epochs=3, batch=16).batches(100) == math.ceil(300 / 16)
    assert ScoreTrainConfig(epochs=3, batch=16).batches(5) == 3
    with pytest.raises(ValidationError, match="not both"):
        ScoreTrainConfig(epochs=1, steps=1)


def test_progress_is_reported_and_can_end_the_training() -> None:
    heard: list[tuple[str, int, int]] = []

    class Impatient:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            heard.append((phase, done, total))
            if done == 3:
                raise Stopped

    with pytest.raises(Stopped):
        fit(ScoreTrainConfig(steps=10), progress=Impatient())
    assert heard == [("training", 1, 10), ("training", 2, 10), ("training", 3, 10)]


def test_a_diverging_loss_and_missing_images_are_refused() -> None:
    images, _ = stripes()
    with pytest.raises(MethodError, match=r"train\.lr"):
        train(network(), images * math.inf, None, ScoreTrainConfig(steps=2), seed=0, progress=NullProgress())
    with pytest.raises(MethodError, match="no training images"):
        train(network(), images[:0], None, ScoreTrainConfig(steps=2), seed=0, progress=NullProgress())


def stretch(
    state: Mapping[str, Tensor] | None = None, *, before: int = 0, seed: int = 0, **settings: Any
) -> tuple[ScoreNet, ScoreNet]:
    """A stretch of training from a joint state, or from the beginning."""
    net = network()
    average = copy.deepcopy(net)
    if state is not None:
        load_joint_state(net, average, state)
    config = ScoreTrainConfig(**{"steps": 20, "lr": 1e-2, **settings})
    resume(net, average, stripes()[0], None, config, before=before, seed=seed, progress=NullProgress())
    return net, average


def same(one: ScoreNet, two: ScoreNet) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_rounds_of_stretches_train_the_raw_and_the_averaged_weights() -> None:
    images = stripes()[0]
    state: Mapping[str, Tensor] | None = None
    for number in range(6):
        net, average = stretch(state, before=20 * number, seed=number)
        state = joint_state(net, average)
    with torch.no_grad():
        losses = [float(score_matching_loss(one, images, None, generator(1, "check"))) for one in (net, average)]
        fresh = float(score_matching_loss(network(), images, None, generator(1, "check")))
    assert max(losses) < 0.75 * fresh
    assert not same(net, average)
    assert not net.training


def test_a_stretch_replays_from_its_joint_state_and_its_seed() -> None:
    state = joint_state(*stretch())
    one, two, three = (stretch(state, before=20, seed=seed) for seed in (1, 1, 2))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert not same(one[0], three[0])


def test_the_average_follows_at_once_without_memory_and_slowly_after_many_steps() -> None:
    assert same(*stretch(ema=0.0))
    start = network().state_dict()
    moved = {}
    for before in (0, 100_000):
        average = stretch(before=before, ema=0.9999)[1].state_dict()
        moved[before] = sum(float((average[name] - start[name]).norm()) for name in start)
    assert moved[100_000] < 0.1 * moved[0]


def test_a_joint_state_comes_back_bit_for_bit_and_another_is_refused() -> None:
    net, average = stretch()
    state = {name: value.clone() for name, value in joint_state(net, average).items()}
    other, slow = network(), network()
    load_joint_state(other, slow, state)
    assert same(other, net)
    assert same(slow, average)
    name = "average.unet.conv_in.weight"
    for bad in ({**state, "raw.more": state[name]}, {**state, name: state[name][:1]}, {name: state[name]}):
        with pytest.raises(ModelError, match="not of this score network"):
            load_joint_state(other, slow, bad)
    assert same(other, net)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_on_a_device_lowers_the_loss(precision: str) -> None:
    config = ScoreTrainConfig.model_validate({"steps": 150, "lr": 1e-2, "precision": precision})
    _, done = fit(config, net=network().to("cuda"))
    assert done.last_loss < 0.75 * done.first_loss

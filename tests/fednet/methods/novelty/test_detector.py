"""The detector: what a score depends on, what it tells apart, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import NullProgress, Stopped
from fednet.diffusion.config import ScoreTrainConfig
from fednet.diffusion.masks import masks
from fednet.diffusion.sde import VP
from fednet.diffusion.training import train
from fednet.errors import MeasureError, ModelError
from fednet.methods.novelty.config import DetectorConfig
from fednet.methods.novelty.detector import Detector, lowest_scores, median_distance
from fednet.metrics.distances import mse, perceptual, ssim
from fednet.metrics.novelty import auroc
from fednet.models.config import UNetConfig
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet
from fednet.seeds import generator

SHAPE = (1, 8, 8)
QUICK = {"reconstructions": 3, "steps": 4}


def network(channels: tuple[int, ...] = (8,)) -> ScoreNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ScoreNet(UNetConfig(channels=channels, groups=4, attention=False), VP(), SHAPE, 0)
        torch.nn.init.normal_(net.unet.conv_out.weight, std=0.1)
    return net


def classifier() -> LeNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LeNet()


def detector(seed: int = 0, **settings: Any) -> Detector:
    return Detector(network(), DetectorConfig(**{**QUICK, **settings}), seed=seed, classifier=classifier())


def pictures(count: int = 7) -> Tensor:
    return 2 * torch.rand(count, *SHAPE, generator=generator(0, "pictures")) - 1


def stripes(count: int, which: str) -> Tensor:
    """Pictures of which each pixel follows from its left neighbour: stripes, here or there, faint or strong."""
    chance = generator(0, which)
    rows = 0.5 + 0.4 * torch.rand(count, 1, 8, 1, generator=chance)
    sign = 2.0 * torch.randint(0, 2, (count, 1, 8, 1), generator=chance) - 1
    return (rows * sign).expand(count, *SHAPE).contiguous()


def test_the_score_is_the_median_distance_to_the_reconstructions() -> None:
    for name, distance in (("mse", mse), ("ssim", ssim), ("perceptual", perceptual(classifier().eval().features))):
        one, x = detector(distance=name), pictures()
        drawn = one.reconstruct(x)
        assert drawn.shape == (7, 3, *SHAPE)
        rows = torch.stack([distance(x, drawn[:, k]) for k in range(3)], 1)
        torch.testing.assert_close(one.distances(x), rows)
        torch.testing.assert_close(one.score(x), rows.sort(1).values[:, 1])


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert median_distance(torch.tensor([[4.0, 1.0, 2.0, 10.0], [1.0, 1.0, 1.0, 1.0]])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("mask", ["alternating", "checkerboard", "centre", "random"])
def test_reconstructions_keep_what_they_were_told_and_lie_in_range(mask: Any) -> None:
    x = pictures()
    drawn = detector(mask=mask, seed=3).reconstruct(x)
    known = masks(mask, 3, (8, 8), seed=3)
    for k in range(3):
        assert torch.equal(drawn[:, k, :, known[k]], x[:, :, known[k]])
        assert not torch.isclose(drawn[:, k, :, ~known[k]], x[:, :, ~known[k]]).all()
    assert float(drawn.abs().max()) <= 1.0


@pytest.mark.parametrize("batch", [1, 4, 128])
def test_a_score_depends_neither_on_the_batch_nor_on_the_order(batch: int) -> None:
    x = pictures()
    whole = detector().score(x)
    other = detector(batch=batch)
    torch.testing.assert_close(other.score(x), whole)
    torch.testing.assert_close(other.score(x[4:5]), whole[4:5])
    torch.testing.assert_close(other.score(x.flip(0)), whole.flip(0))


def test_more_reconstructions_begin_with_the_fewer() -> None:
    torch.testing.assert_close(
        detector(reconstructions=5).distances(pictures())[:, :3], detector().distances(pictures())
    )


def test_scores_replay_and_another_seed_draws_others() -> None:
    x = pictures()
    assert torch.equal(detector().score(x), detector().score(x))
    assert not torch.isclose(detector().score(x), detector(seed=1).score(x)).any()
    state = torch.get_rng_state()
    detector().score(x)
    assert torch.equal(state, torch.get_rng_state())


def test_a_trained_detector_tells_what_it_knows_from_what_it_does_not() -> None:
    net = network()
    train(net, stripes(200, "train"), None, ScoreTrainConfig(steps=100, lr=1e-2), seed=0, progress=NullProgress())
    one = Detector(net, DetectorConfig(reconstructions=3, steps=10))
    inside, outside = stripes(40, "test"), stripes(40, "test").transpose(2, 3)
    bound = one.calibrate(stripes(60, "held out"))
    low, high = one.score(inside), one.score(outside)
    assert auroc(low, high) > 0.95
    assert int(one.novel(low).sum()) <= 6
    assert torch.equal(one.novel(low), low > bound)
    assert int(one.novel(high).sum()) >= 30


def test_a_detector_without_a_threshold_says_so() -> None:
    with pytest.raises(ModelError, match="calibrate"):
        detector().novel(torch.zeros(1))
    with pytest.raises(MeasureError, match="at least 19"):
        detector().calibrate(pictures())


def test_pictures_of_another_kind_are_refused() -> None:
    for bad in (torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 8, 8), 3 * pictures(), torch.zeros(0, *SHAPE)):
        with pytest.raises(MeasureError):
            detector().score(bad)


def test_a_network_that_has_diverged_gives_no_score() -> None:
    broken = detector()
    with torch.no_grad():
        broken.net.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(MeasureError, match="not finite"):
        broken.score(pictures())


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match="classifier"):
        Detector(network(), DetectorConfig(distance="perceptual"))
    with pytest.raises(ModelError, match="weights"):
        Detector(network(), DetectorConfig(distance="lpips"), classifier=classifier())
    with pytest.raises(ModelError, match="does not fit"):
        Detector(network(), DetectorConfig(blocks=9))


def test_every_step_is_told_and_may_end_it() -> None:
    reported: list[tuple[str, int, int]] = []

    class Impatient:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            reported.append((phase, done, total))
            if done == 6:
                raise Stopped

    with pytest.raises(Stopped):
        detector(batch=10).score(pictures(), Impatient())
    assert reported == [("scoring", done, 12) for done in range(1, 7)]


def test_a_saved_detector_is_the_same_detector_and_the_same_bytes(tmp_path: Path) -> None:
    one, x = detector(seed=5, distance="perceptual", mask="random"), pictures()
    one.threshold = 0.1 + 0.2
    paths = [tmp_path / "deep" / f"{name}.safetensors" for name in "abc"]
    one.save(paths[0])
    two = Detector.load(paths[0])
    assert (two.config, two.threshold, two.seed) == (one.config, one.threshold, one.seed)
    assert torch.equal(two.score(x), one.score(x))
    assert torch.equal(two.reconstruct(x), one.reconstruct(x))
    two.save(paths[1])
    Detector.load(paths[1]).save(paths[2])
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_detector_without_threshold_or_classifier_comes_back_without(tmp_path: Path) -> None:
    Detector(network(), DetectorConfig(**QUICK)).save(tmp_path / "d.safetensors")
    found = Detector.load(tmp_path / "d.safetensors")
    assert found.threshold is None
    assert found.classifier is None


def test_a_distance_whose_weights_lie_elsewhere_is_given_again(tmp_path: Path) -> None:
    path, x = tmp_path / "d.safetensors", pictures()
    one = Detector(network(), DetectorConfig(**QUICK, distance="lpips"), lpips=lambda a, b: 3 * mse(a, b))
    torch.testing.assert_close(one.score(x), 3 * detector().score(x))
    one.save(path)
    assert torch.equal(Detector.load(path, lpips=lambda a, b: 3 * mse(a, b)).score(x), one.score(x))
    with pytest.raises(ModelError, match="weights"):
        Detector.load(path)


def test_the_lowest_score_is_that_of_the_agent_that_knows_best() -> None:
    scores = {"b": torch.tensor([1.0, 5.0]), "a": torch.tensor([2.0, 0.5])}
    assert lowest_scores(scores).tolist() == [1.0, 0.5]
    assert torch.equal(lowest_scores({"a": scores["a"]}), scores["a"])
    for bad in ({}, {"a": torch.zeros(2), "b": torch.zeros(3)}):
        with pytest.raises(MeasureError, match="one shape"):
            lowest_scores(bad)

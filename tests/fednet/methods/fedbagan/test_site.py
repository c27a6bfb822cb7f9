"""A site: what it contributes to which round, what it draws, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, RoundPlan, RoundTask
from fednet.errors import DataError, MethodError, ModelError
from fednet.federated.config import Federation as Rule
from fednet.federated.state import digest, unpack
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, INITIALISE, MOMENTS, PLAIN_GAN, SUM, TRAIN

Make = Callable[..., Any]


def founded(made: Any) -> None:
    """The first two stages, and the GAN of them."""
    for model, work in ((AUTOENCODER, TRAIN), (MOMENTS, SUM), (GAN, INITIALISE)):
        made.network.run_rounds(RoundPlan(f"{model}-{work}", model, work, 1, Rule()))


def state(site: Any, model: str) -> dict[str, torch.Tensor]:
    return unpack(site.answer(Question("model", {}, {"model": model}))["content"].numpy().tobytes())


def test_everybody_begins_with_the_same_bytes(federation: Make) -> None:
    sites = federation().sites
    for model in (AUTOENCODER, MOMENTS, GAN, PLAIN_GAN):
        assert len({digest(site.initial_state(model)) for site in sites.values()}) == 1
    with pytest.raises(MethodError, match=r"unknown model .*expected one of autoencoder, moments, gan, plain"):
        sites["a1"].initial_state("else")


@pytest.mark.parametrize("model", [AUTOENCODER, PLAIN_GAN])
def test_the_same_task_gives_the_same_contribution_and_another_round_another(federation: Make, model: str) -> None:
    site = federation().sites["a1"]
    base = site.initial_state(model)
    first, again, other = (site.contribute(RoundTask(model, TRAIN, n), base, NullProgress()) for n in (1, 1, 2))
    assert digest(first.state) == digest(again.state) != digest(other.state)
    assert first.weight == 20.0


def test_the_sum_of_the_sites_moments_is_that_of_all_their_pictures(federation: Make) -> None:
    made = federation()
    founded(made)
    models = made.sites["a2"].loaded.models
    shares = [site.loaded.images for site in made.sites.values()]
    with torch.no_grad():
        latents = models.autoencoder().encoder(torch.cat([share.images for share in shares])).double()
    labels, found = torch.cat([share.labels for share in shares]), models.gaussians()
    for label in range(3):
        mean = latents[labels == label].mean(0)
        assert float((found.mean[label] - mean).abs().max()) <= 1e-5
    again = ClassGaussians.of(state(made.sites["a3"], MOMENTS), made.config.gaussians.shrinkage)
    assert torch.equal(again.factor, found.factor)


def test_the_gan_is_made_of_the_autoencoder(federation: Make) -> None:
    made = federation()
    founded(made)
    site = made.sites["a1"]
    autoencoder, gan = state(site, AUTOENCODER), state(site, GAN)
    for name, value in gan.items():
        part, _, rest = name.partition(".")
        if part in ("generator", "average"):
            torch.testing.assert_close(value, autoencoder[f"decoder.{rest}"], rtol=0, atol=1e-6)
        elif rest.startswith("trunk"):
            torch.testing.assert_close(value, autoencoder[f"encoder.{rest}"], rtol=0, atol=1e-6)
    assert gan["discriminator.head.weight"].shape[0] == 4  # three classes and "drawn"


def test_in_the_first_rounds_the_generator_rests(federation: Make) -> None:
    made = federation(gan={"first": 1, "rounds": 2})
    founded(made)
    generators = []
    for key in ("one", "two"):
        made.network.run_rounds(RoundPlan(key, GAN, TRAIN, 1, Rule()))
        generators.append(state(made.sites["a1"], GAN)["generator.body.0.weight"])
    before = state(made.sites["a1"], AUTOENCODER)["decoder.body.0.weight"]
    torch.testing.assert_close(generators[0], before, rtol=0, atol=1e-6)
    assert float((generators[1] - before).abs().max()) > 1e-5


def test_it_draws_the_classes_that_are_asked_for(federation: Make) -> None:
    made = federation()
    founded(made)
    labels, noise = torch.tensor([0, 2, 2]), torch.randn(3, 4)
    drawn = [
        site.answer(Question("draw", {"labels": labels, "noise": noise}))["images"] for site in made.sites.values()
    ]
    assert drawn[0].shape == (3, 1, 8, 8)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][1], drawn[0][2])


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "labels must be int64"),
        ({"labels": torch.zeros(2)}, "labels must be int64"),
        ({"labels": torch.tensor([0, 3]), "noise": torch.zeros(2, 4)}, r"labels must lie in 0\.\.2, got 0\.\.3"),
        ({"labels": torch.tensor([0, -1]), "noise": torch.zeros(2, 4)}, "labels must lie in"),
        ({"labels": torch.tensor([0])}, "noise must be float32"),
        ({"labels": torch.tensor([0]), "noise": torch.zeros(1, 5)}, "noise must be float32"),
        ({"labels": torch.tensor([0]), "noise": torch.full((1, 4), torch.inf)}, "finite"),
        ({"labels": torch.zeros(20_001, dtype=torch.int64), "noise": torch.zeros(20_001, 4)}, "1 to 20000"),
    ],
)
def test_what_it_does_not_draw(federation: Make, inputs: dict[str, torch.Tensor], reason: str) -> None:
    made = federation()
    founded(made)
    with pytest.raises(MethodError, match=reason):
        made.sites["a1"].answer(Question("draw", inputs))


def test_what_it_refuses(federation: Make) -> None:
    site = federation().sites["a1"]
    with pytest.raises(ModelError, match="no moments have been summed yet"):
        site.answer(Question("draw", {"labels": torch.tensor([0]), "noise": torch.zeros(1, 4)}))
    with pytest.raises(MethodError, match="unknown question 'else'; expected one of draw, model"):
        site.answer(Question("else", {}))
    with pytest.raises(MethodError, match="unknown model"):
        site.answer(Question("model", {}, {"model": "else"}))
    for model, work in ((GAN, "else"), (MOMENTS, TRAIN), ("else", TRAIN)):
        with pytest.raises(MethodError, match="expected one of train autoencoder, sum moments"):
            site.contribute(RoundTask(model, work, 1), {}, NullProgress())
    with pytest.raises(ModelError):
        site.adopt(GAN, 1, {"x": torch.zeros(1)})
    with pytest.raises(DataError, match=r"a1 has 20 pictures and gan\.batch is 21"):
        federation(gan={"batch": 21})

"""NLL and CEL are one loss; the two games say what they are said to say."""

from __future__ import annotations

import math

import pytest
import torch

from fednet.methods.fedbagan.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    make_optimiser,
    pairwise_loss,
    realness,
)


@pytest.fixture
def logits() -> torch.Tensor:
    return 5 * torch.randn(64, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(64) % 10


def test_nll_and_cel_are_the_same_loss_with_the_same_gradient(logits: torch.Tensor, labels: torch.Tensor) -> None:
    values, gradients = [], []
    for loss in LOSSES.values():
        given = logits.clone().requires_grad_(True)
        value = loss(given, labels)
        gradients.append(torch.autograd.grad(value, given)[0])
        values.append(value.detach())
    assert set(LOSSES) == {"nll", "cel"}
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-14)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-14)
    wrong = LOSSES["nll"](logits, (labels + 1) % 10)
    assert not torch.isclose(values[0], wrong)  # so that their equality means something


def test_realness_is_the_log_odds_of_not_being_drawn(logits: torch.Tensor, labels: torch.Tensor) -> None:
    drawn = logits.softmax(1)[:, -1]
    torch.testing.assert_close(realness(logits, None).sigmoid(), 1 - drawn)
    of_class = realness(logits, labels)
    torch.testing.assert_close(of_class, logits[torch.arange(64), labels] - logits[:, -1])


@pytest.mark.parametrize("loss", list(LOSSES.values()))
def test_a_choice_is_the_logistic_loss_of_the_difference(loss: object) -> None:
    this, that = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    expected = sum(math.log1p(math.exp(b - a)) for a, b in ((2.0, 0.5), (-1.0, 3.0))) / 2
    assert float(pairwise_loss(loss, this, that)) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [True, False])
def test_who_cannot_tell_loses_the_log_of_two(plain: bool) -> None:
    same, labels = torch.zeros(4, 11), torch.arange(4)
    for game in ("relativistic", "softmax"):
        loss = discriminator_loss(game, LOSSES["cel"], same, same, labels, plain=plain)
        expected = math.log(2) if game == "relativistic" else 2 * math.log(11)
        assert float(loss) == pytest.approx(expected)
    fooled = generator_loss("relativistic", LOSSES["cel"], same, same, None if plain else labels)
    assert float(fooled) == pytest.approx(math.log(2))


def test_the_generator_gains_where_its_pictures_look_more_real_than_real_ones(
    logits: torch.Tensor, labels: torch.Tensor
) -> None:
    more = logits.clone()
    more[torch.arange(64), labels] += 3
    for of in (labels, None):
        better = generator_loss("relativistic", LOSSES["nll"], more, logits, of)
        worse = generator_loss("relativistic", LOSSES["nll"], logits, more, of)
        assert better < worse
    plain = generator_loss("softmax", LOSSES["nll"], logits, logits, None)
    torch.testing.assert_close(plain, -(1 - logits.softmax(1)[:, -1]).log().mean())


def test_the_optimisers_have_the_sources_momentum() -> None:
    weights = torch.nn.Linear(2, 2)
    assert make_optimiser("sgd", weights.parameters(), 0.1).defaults["momentum"] == 0.5
    assert make_optimiser("adam", weights.parameters(), 0.1).defaults["betas"][0] == 0.5

"""DP-SGD against a plain loop over rows, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from fednet.errors import ModelError, PrivacyError
from fednet.models.config import GanConfig, GanKind
from fednet.models.gan import Discriminator, Generator
from fednet.models.lenet import LeNet
from fednet.privacy.dp_sgd import PrivateTrainer, clipped_sum, require_supported
from fednet.privacy.noise import NoiseSource

SHAPE = (1, 8, 8)


def discriminator(kind: GanKind = "dp-dcgan", side: int = 16) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(GanConfig(kind=kind, width=8), (1, side, side))


def descent(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def trainer(net: nn.Module, noise: float = 0.0, clip: float = 0.5, expected: float = 1.0) -> PrivateTrainer:
    source = NoiseSource.seeded(0)
    return PrivateTrainer(net, descent, clip=clip, noise=noise, expected=expected, source=source, name="net")


def by_loop(net: nn.Module, rows: torch.Tensor, clip: float) -> dict[str, torch.Tensor]:
    """The sum of clipped gradients, one backward pass a row."""
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for row in rows:
        net.zero_grad()
        softplus(net(row[None])).sum().backward()
        norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()  # type: ignore[union-attr]
        for name, parameter in net.named_parameters():
            total[name] += parameter.grad * min(1.0, clip / float(norm))  # type: ignore[operator]
    net.zero_grad()
    return total


@pytest.mark.parametrize("kind", ["mlp", "dp-dcgan"])
@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_the_clipped_sum_is_that_of_a_plain_loop(kind: GanKind, clip: float) -> None:
    net, rows = discriminator(kind), torch.randn(7, 1, 16, 16)
    wanted, before = by_loop(net, rows, clip), {n: p.detach().clone() for n, p in net.named_parameters()}
    private = trainer(net, clip=clip)
    private.step(softplus(private.rows(rows)))
    for name, parameter in net.named_parameters():
        assert (before[name] - parameter.detach() - wanted[name]).abs().max() <= 1e-5


def test_one_row_more_moves_the_sum_by_the_clipping_norm_at_most() -> None:
    """The sensitivity that the accountant counts on, with rows of absurd size and two that are not finite."""
    gradients = {"a": torch.randn(5, 3) * 1e4, "b": torch.randn(5, 2, 2) * 1e-3}
    gradients["b"][2, 1, 1] = torch.nan
    gradients["a"][4, 0] = torch.inf
    whole = clipped_sum(gradients, 0.7)
    for row in range(5):
        rest = clipped_sum({k: torch.cat([v[:row], v[row + 1 :]]) for k, v in gradients.items()}, 0.7)
        moved = torch.cat([(whole[k] - rest[k]).flatten() for k in whole]).norm()
        assert moved <= 0.7 + 1e-5
    assert all(value.isfinite().all() for value in whole.values())


def test_noise_has_the_deviation_that_is_accounted_whatever_the_rows() -> None:
    net = discriminator("mlp")
    before = torch.cat([p.detach().flatten() for p in net.parameters()]).clone()
    private = trainer(net, noise=2.0, clip=0.5, expected=4.0)
    private.step_without_rows()
    moved = torch.cat([p.detach().flatten() for p in net.parameters()]) - before
    assert float(moved.double().std()) == pytest.approx(2.0 * 0.5 / 4.0, rel=0.02)


def test_the_sum_is_divided_by_the_expected_number_of_rows() -> None:
    """Not by the number that came: that is secret, and would make the noise depend on it."""
    rows, moved = torch.randn(6, 1, 16, 16), []
    for expected in (1.0, 10.0):
        net = discriminator()
        before = torch.cat([p.detach().flatten() for p in net.parameters()]).clone()
        private = trainer(net, expected=expected)
        private.step(softplus(private.rows(rows)))
        moved.append((torch.cat([p.detach().flatten() for p in net.parameters()]) - before) * expected)
    assert torch.allclose(moved[0], moved[1], rtol=1e-4, atol=1e-6)


def test_a_generator_learns_through_it_and_leaves_no_trace() -> None:
    """A step of the generator between two of the discriminator changes nothing of what the second one does."""
    torch.manual_seed(0)
    generator = Generator(GanConfig(width=8, latent=5), (1, 16, 16))
    rows, found = torch.randn(4, 1, 16, 16), []
    for between in (False, True):
        net = discriminator()
        private = trainer(net)
        private.step(softplus(private.rows(rows)))
        if between:
            generator.zero_grad()
            with private.held() as held:
                softplus(-held(generator(torch.randn(3, 5)))).mean().backward()
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())
            assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in net.parameters())
        private.step(softplus(private.rows(rows)))
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(found[0], found[1])


def test_two_passes_in_one_step_are_refused() -> None:
    private = trainer(discriminator())
    private.rows(torch.randn(2, 1, 16, 16))
    with pytest.raises(PrivacyError, match="a second pass through net"):
        private.rows(torch.randn(2, 1, 16, 16))


def test_losses_that_are_not_of_the_rows_are_refused() -> None:
    private = trainer(discriminator())
    with pytest.raises(PrivacyError, match="of the rows just passed"):
        private.step(torch.zeros(3))
    with pytest.raises(PrivacyError, match="of the rows just passed"):
        private.step(softplus(private.rows(torch.randn(2, 1, 16, 16))).mean())
    private.drop()
    outputs = private.rows(torch.randn(4, 1, 16, 16))
    with pytest.raises(PrivacyError, match=r"gradients of 4 rows where 2 rows"):
        private.step(outputs[:2])


def test_a_classifier_too() -> None:
    torch.manual_seed(0)
    net = LeNet(1, 10, dropout=0.0)
    private = trainer(net, noise=1.0)
    before = [p.detach().clone() for p in net.parameters()]
    labels = torch.arange(3)
    private.step(cross_entropy(private.rows(torch.rand(3, 1, 8, 8) - 0.5), labels, reduction="none"))
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    private.close()
    assert not any(hasattr(p, "grad_sample") for p in net.parameters())


def test_unsupported_modules_are_named_with_the_fix() -> None:
    with pytest.raises(PrivacyError, match=r"discriminator\.body\.3 is a BatchNorm2d: .*use GroupNorm"):
        require_supported(discriminator("dcgan"), "discriminator")
    silent = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False, track_running_stats=False))
    with pytest.raises(PrivacyError, match=r"net\.1 is a BatchNorm1d"):
        require_supported(silent, "net")
    with pytest.raises(PrivacyError, match=r"net\.0 is a LSTM: use opacus\.layers\.DPLSTM"):
        require_supported(nn.Sequential(nn.LSTM(3, 3)), "net")
    with pytest.raises(PrivacyError, match=r"net is a MultiheadAttention: use opacus\.layers\.DPMultiheadAttention"):
        require_supported(nn.MultiheadAttention(4, 2), "net")
    with pytest.raises(PrivacyError, match=r"net\.1 is a ReLU: .*inplace=False"):
        require_supported(nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)), "net")
    with pytest.raises(PrivacyError, match="no parameters to train"):
        require_supported(nn.Flatten(), "net")


@pytest.mark.parametrize(("clip", "noise", "expected"), [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0)])
def test_numbers_that_make_no_sense_are_refused(clip: float, noise: float, expected: float) -> None:
    with pytest.raises(PrivacyError, match="above 0"):
        trainer(discriminator(), noise=noise, clip=clip, expected=expected)


def test_a_step_that_diverges_is_an_error() -> None:
    net = discriminator()
    private = trainer(net)
    private._deviation = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        private.step_without_rows()

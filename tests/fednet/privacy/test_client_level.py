"""Privacy of whole clients: clipping, the noise of the sum, and what it costs."""

from __future__ import annotations

import pytest
import torch

from fednet.errors import ModelError, PrivacyError
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.client_level import ClientLevel, clip_and_noise, clip_change
from fednet.privacy.noise import NoiseSource

BASE = {"w": torch.zeros(3, 2), "b": torch.ones(2, dtype=torch.float64), "n": torch.tensor(4)}


def moved(by: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), by), "b": torch.ones(2, dtype=torch.float64) + by, "n": torch.tensor(9)}


def norm(state: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([(state[k].double() - BASE[k].double()).flatten() for k in ("w", "b")]).norm())


def test_a_small_change_stays_and_a_large_one_keeps_its_direction() -> None:
    small, was = clip_change(moved(0.1), BASE, 1.0)
    assert was == pytest.approx(0.1 * 8**0.5, rel=1e-6)
    assert torch.equal(small["w"], moved(0.1)["w"])
    large, was = clip_change(moved(50.0), BASE, 1.0)
    assert was == pytest.approx(50.0 * 8**0.5)
    assert norm(large) == pytest.approx(1.0, rel=1e-6)
    assert torch.allclose(large["w"], torch.full((3, 2), 8**-0.5))
    assert int(large["n"]) == 4  # a counter would tell what no noise covers
    assert clip_change(dict(BASE), BASE, 1.0)[1] == 0.0


def test_the_sum_of_the_least_number_of_clients_has_the_noise_that_is_accounted() -> None:
    config, source = ClientLevel(clip=2.0, noise=1.5, least=4), NoiseSource.seeded(0)
    base = {"w": torch.zeros(20_000)}
    total = sum(clip_and_noise(base, base, config, source)["w"].double() for _ in range(4))
    assert isinstance(total, torch.Tensor)
    assert float(total.std()) == pytest.approx(2.0 * 1.5, rel=0.02)


def test_a_change_by_itself_is_protected_less_than_the_sum() -> None:
    config = ClientLevel(noise=2.0, least=4)
    assert config.expense_of_sum(3) == Expense(1.0, 2.0, 3)
    assert config.expense_of_change(3) == Expense(1.0, 1.0, 3)
    assert epsilon([config.expense_of_change()], 1e-5) > epsilon([config.expense_of_sum()], 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PrivacyError, match="clipped to a norm above 0"):
        clip_change(moved(1.0), BASE, 0.0)
    with pytest.raises(ModelError, match="missing"):
        clip_change({"w": torch.zeros(3, 2)}, BASE, 1.0)
    with pytest.raises(ModelError, match="not finite"):
        clip_change(moved(float("nan")), BASE, 1.0)


def test_running_statistics_are_refused() -> None:
    net = torch.nn.BatchNorm1d(3)
    state = {**BASE, **net.state_dict()}
    with pytest.raises(PrivacyError, match=r"running_mean, 2 in all.*GroupNorm"):
        clip_and_noise(state, state, ClientLevel(), NoiseSource.seeded(0, "test"))

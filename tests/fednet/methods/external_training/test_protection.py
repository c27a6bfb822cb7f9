"""A loop's contributions with client-level privacy: clipped, noisy, equal, paid for before they leave, and once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import ModelState, SiteContext, Stopped, Update
from fednet.errors import MethodError, PrivacyError
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.protection import ClientProtection
from fednet.privacy.accounting import Expense, epsilon

BASE: ModelState = {"w": torch.zeros(1000)}


def protection(folder: Path, federation: dict[str, Any] | None = None, **terms: Any) -> ClientProtection:
    config = ExternalTrainingConfig.model_validate({"rounds": 4, "privacy": terms, "federation": federation or {}})
    assert config.privacy is not None
    return ClientProtection(config.privacy, config, SiteContext("a1", 0, 3, 0, "cpu", folder))


def trained() -> Update:
    return Update({"w": torch.full((1000,), 5.0)}, 77.0, {"loss": 0.25})


def entries(folder: Path) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = json.loads((folder / "ledgers" / "a1.json").read_text())["entries"]
    return kept


def test_what_leaves_is_clipped_and_noisy_and_tells_no_weight_and_no_loss(tmp_path: Path) -> None:
    update = protection(tmp_path, noise=0.01, clip=2.0).contribution("k", BASE, trained)
    change = update.state["w"]
    assert float(change.norm()) == pytest.approx(2.0, rel=0.2), "the change's own norm is 158"
    assert float(change.std()) == pytest.approx(0.02, rel=0.2), "noise * clip in every number"
    assert update.weight == 1.0
    cost = epsilon([Expense(1.0, 0.01, 1)], 1e-5)
    assert update.values["epsilon_rdp"] == update.values["epsilon_alone"] == pytest.approx(cost)
    assert "loss" not in update.values


def test_a_secure_sum_of_its_quorum_shares_the_noise(tmp_path: Path) -> None:
    federation = {"secure": {"clip": 16}, "quorum": 4}
    update = protection(tmp_path, federation, noise=1.0, clip=2.0).contribution("k", BASE, trained)
    assert float(update.state["w"].std()) == pytest.approx(1.0, rel=0.1), "noise * clip / sqrt(4)"
    assert update.values["epsilon_alone"] > update.values["epsilon_rdp"]


def test_a_round_is_paid_for_before_its_loop_trains_and_released_before_it_leaves(tmp_path: Path) -> None:
    def train() -> Update:
        (entry,) = entries(tmp_path)
        assert not entry["released"]
        return trained()

    protection(tmp_path).contribution("k", BASE, train)
    (entry,) = entries(tmp_path)
    assert entry["released"]


def test_work_of_which_nothing_was_seen_is_paid_for_once(tmp_path: Path) -> None:
    def stopped() -> Update:
        raise Stopped

    with pytest.raises(Stopped):
        protection(tmp_path).contribution("k", BASE, stopped)
    protection(tmp_path).contribution("k", BASE, trained)  # the script was started again
    assert len(entries(tmp_path)) == 1
    protection(tmp_path).contribution("k", BASE, trained)  # and again, after its contribution had left
    assert len(entries(tmp_path)) == 2


def test_a_loop_that_declines_has_told_something(tmp_path: Path) -> None:
    def declining() -> Update:
        raise MethodError("my loss is infinite")

    with pytest.raises(MethodError):
        protection(tmp_path).contribution("k", BASE, declining)
    assert entries(tmp_path)[0]["released"]


def test_a_site_whose_budget_is_spent_trains_no_more(tmp_path: Path) -> None:
    cost = epsilon([Expense(1.0, 1.0, 1)], 1e-5)
    site = protection(tmp_path, noise=1.0, budget=cost * 1.01)
    site.contribution("1", BASE, trained)
    with pytest.raises(PrivacyError, match="the privacy budget is spent"):
        site.contribution("2", BASE, lambda: pytest.fail("it trains"))
    assert site.spent()["epsilon_rdp"] == pytest.approx(cost)

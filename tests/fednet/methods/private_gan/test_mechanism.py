"""The mechanism of a configuration: the noise of a target, a budget that buys nothing, where noise comes from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.errors import DataError, PrivacyError
from fednet.federated.floors import floor_of
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.mechanism import check, privacy_mechanism
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.mechanism import PrivacyMechanism


def config(**keys: Any) -> PrivateGanConfig:
    return PrivateGanConfig.model_validate(keys)


def mechanism(**keys: Any) -> PrivacyMechanism:
    made = privacy_mechanism(config(**keys))
    assert made is not None
    return made


def test_a_budget_below_the_cost_of_one_step_is_refused_with_the_cost() -> None:
    cost = epsilon([Expense(0.05, 1.0, 1)], 1e-5)
    with pytest.raises(PrivacyError, match=rf"budget 0\.5 is below epsilon {cost:.4g}"):
        check(config(privacy={"budget": 0.5}))
    check(config(privacy={"budget": cost * 1.001}))
    with pytest.raises(PrivacyError, match="the cost of one round"):
        check(config(privacy={"level": "client", "budget": 0.5}, share={"weight": "equal"}))


@pytest.mark.parametrize("level", ["example", "client"])
def test_a_target_gives_the_noise_that_spends_it_on_the_whole_plan(level: str) -> None:
    made = config(rounds=5, train={"steps": 10}, privacy={"level": level, "epsilon": 6.0}, share={"weight": "equal"})
    terms = privacy_mechanism(made)
    assert terms is not None
    assert terms.budget.epsilon == 6.0
    steps = 5 if level == "client" else 50
    assert made.planned() == steps
    assert 5.9 < epsilon([terms.expense(steps)], 1e-5) <= 6.0
    assert privacy_mechanism(config(privacy={"level": "none"})) is None


def test_data_that_does_not_exist_is_refused_before_anything_runs() -> None:
    with pytest.raises(DataError):
        check(config(), {"data": {"name": "nope"}})


def test_at_client_level_noise_is_shared_only_in_a_secure_round() -> None:
    client = {"privacy": {"level": "client"}, "share": {"weight": "equal"}}
    assert mechanism(**client, federation={"quorum": 3, "secure": {"clip": 8}}).client_level().least == 3
    assert mechanism(**client, federation={"quorum": 3}).client_level().least == 1
    assert mechanism(**client).expense(4) == Expense(1.0, mechanism(**client).noise, 4)


@pytest.mark.parametrize("survivors", [59, 30, 3, 1])
def test_at_client_level_no_plan_has_a_sum_of_fewer_than_share_the_noise(survivors: int) -> None:
    """Of 3 in place of 60 the sum would cost 35 in 20 rounds, and the ledger say 5.4."""
    client = {"privacy": {"level": "client", "noise": 4.0}, "share": {"weight": "equal"}, "rounds": 20}
    made = config(**client, federation={"quorum": 60, "secure": {"clip": 8}})
    own = mechanism(**client, federation={"quorum": 60, "secure": {"clip": 8}})
    would_be = Expense(1.0, own.noise * math.sqrt(survivors / own.least), 20)
    assert epsilon([would_be], 1e-5) > epsilon([own.expense(20)], 1e-5)
    fewer = made.federation.model_copy(update={"quorum": survivors})
    assert floor_of(made).undercut_by(fewer, 40) == f"a quorum of {survivors} was asked for, and this site's is 60"


@pytest.mark.parametrize("seeded", [True, False])
def test_only_seeded_noise_can_be_drawn_again(seeded: bool) -> None:
    made = mechanism(privacy={"seeded": seeded})
    one, other = (made.source(0, "a1").gaussian(50) for _ in range(2))
    assert torch.equal(one, other) is seeded


def test_the_ledger_is_of_the_unit_that_is_protected(tmp_path: Path) -> None:
    example = mechanism()
    example.ledger(tmp_path / "a1.json").reserve("k", example.expense(1), example.budget, private=True)
    with pytest.raises(PrivacyError):
        _ = mechanism(privacy={"level": "client"}, share={"weight": "equal"}).ledger(tmp_path / "a1.json").entries

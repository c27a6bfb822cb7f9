"""What is refused before anything runs, and which noise a target needs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.errors import PrivacyError
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.mechanism import check, privacy_mechanism
from fednet.privacy.accounting import Expense, epsilon


def config(**keys: Any) -> PrivateGanConfig:
    return PrivateGanConfig.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"privacy": {"noise": 1.0, "epsilon": 8.0}}, "not both"),
        ({"privacy": {"level": "none", "noise": 1.0}}, "level none has no noise"),
        ({"privacy": {"epsilon": 8.0, "budget": 4.0}}, "below privacy.epsilon"),
        ({"model": {"kind": "dcgan"}}, "has BatchNorm.*dp-dcgan"),
        ({"privacy": {"level": "client"}}, "share.weight: equal"),
        ({"privacy": {"level": "client"}, "federation": {"rule": {"kind": "median"}}}, "median is none"),
        ({"privacy": {"level": "client"}, "share": {"weight": "equal", "clip": 1.0}}, "leave share.clip out"),
        ({"rounds": 0}, "nothing is trained"),
    ],
)
def test_what_contradicts_itself_is_refused(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**keys)


def test_batch_norm_is_fine_where_no_picture_is_protected() -> None:
    config(model={"kind": "dcgan"}, privacy={"level": "none"})
    config(model={"kind": "dcgan"}, privacy={"level": "client"}, share={"weight": "equal"})


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

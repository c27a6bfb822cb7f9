"""A plan may be stricter than a site's configuration and never laxer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from fednet.federated.config import Federation, Momentum, Replace, Secure
from fednet.federated.floors import Floor, floor_of
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.private_gan.config import PrivateGanConfig

USUAL = 7
"""The usual threshold of ten contributors."""

AVERAGING = Floor(Secure(), audit=1 / 16, participation=1.0, servers=(Replace(),))
"""Of a site whose own plans average behind a secure sum."""


def federation(**settings: Any) -> Federation:
    return Federation.model_validate(settings)


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ({}, {}),
        ({}, {"secure": {}, "quorum": 9}),
        ({"quorum": 3}, {"quorum": 4}),
        ({"secure": {}}, {"secure": {"clip": 1.0, "threshold": 8}}),
        ({"secure": {"threshold": 6}}, {"secure": {}}),
        ({"rule": {"kind": "median"}}, {}),
    ],
)
def test_a_plan_may_be_as_strict_or_stricter(own: dict[str, Any], asked: dict[str, Any]) -> None:
    assert Floor.of(federation(**own)).undercut_by(federation(**asked), USUAL) is None


@pytest.mark.parametrize(
    ("own", "asked", "says"),
    [
        ({"quorum": 3}, {"quorum": 2}, "a quorum of 2 was asked for, and this site's is 3"),
        ({"secure": {}}, {}, "behind a secure sum only"),
        ({"secure": {"clip": 4.0}}, {"secure": {"clip": 64.0}}, "clip 64 was asked for, and this site's is 4"),
        ({"secure": {}}, {"secure": {"threshold": 6}}, "threshold 6 was asked for, and this site's is 7"),
        (
            {"secure": {}},
            {"secure": {}, "participation": 0.8},
            "participation of 0.8 was asked for, and this site's is 1",
        ),
        (
            {"secure": {}, "server": {"kind": "momentum"}},
            {"secure": {}, "server": {"kind": "momentum", "rate": 1e-7}},
            "another server optimiser (momentum) was asked for",
        ),
        ({"secure": {"threshold": 9}}, {"secure": {}}, "threshold 7 was asked for, and this site's is 9"),
    ],
)
def test_a_laxer_plan_is_told_in_one_sentence(own: dict[str, Any], asked: dict[str, Any], says: str) -> None:
    undercut = Floor.of(federation(**own)).undercut_by(federation(**asked), USUAL)
    assert undercut is not None
    assert says in undercut


def test_a_floor_is_what_all_of_a_methods_own_plans_meet() -> None:
    one = federation(secure={"clip": 1.0, "threshold": 5}, quorum=4)
    other = federation(secure={"clip": 64.0}, quorum=2, participation=0.5, server={"kind": "momentum"})
    both = Floor(Secure(clip=64.0), 2, audit=1 / 16, participation=0.5, servers=(Replace(), Momentum()))
    assert Floor.of(one, other) == both
    assert Floor.of(one) == replace(AVERAGING, secure=Secure(clip=1.0, threshold=5), quorum=4)
    assert Floor.of() == Floor()


def test_a_site_audits_as_much_as_any_of_its_own_plans() -> None:
    assert Floor.of(federation(audit="1/4"), federation(audit=0.5)).audit == 0.5
    assert Floor.of(federation(secure={})).audit == 1 / 16


def test_it_is_found_wherever_a_method_keeps_a_federation() -> None:
    class Deep(BaseModel):
        federation: Federation

    class Settings(BaseModel):
        rounds: int
        deep: Deep

    settings = Settings(rounds=1, deep=Deep(federation=federation(secure={}, quorum=3)))
    assert floor_of(settings) == replace(AVERAGING, quorum=3)


def test_a_methods_own_plans_pass_at_its_sites() -> None:
    config = FedBaganConfig.model_validate({"federation": {"secure": {}, "quorum": 3}})
    for plan in (config.federation, config.summing):
        assert floor_of(config).undercut_by(plan, USUAL) is None


def test_where_contributions_carry_noise_no_plan_clips_it_off() -> None:
    floor = Floor(Secure(clip=8.0), shares_noise=True)
    assert floor.undercut_by(federation(secure={"clip": 8.0}), USUAL) is None
    for clip, says in (
        (7.9, "cut off the noise in this site's contributions: its own is 8"),
        (8.1, "this site's is 8"),
    ):
        assert says in (floor.undercut_by(federation(secure={"clip": clip}), USUAL) or "")
    assert Floor(Secure(clip=8.0)).undercut_by(federation(secure={"clip": 7.9}), USUAL) is None


def test_at_client_level_all_count_the_same() -> None:
    client = {"privacy": {"level": "client"}, "share": {"weight": "equal"}, "federation": {"secure": {}, "quorum": 5}}
    assert floor_of(PrivateGanConfig.model_validate(client)) == replace(AVERAGING, quorum=5, shares_noise=True)
    assert not floor_of(PrivateGanConfig()).shares_noise

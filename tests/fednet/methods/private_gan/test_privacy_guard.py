"""The privacy of one site: what is reserved, what may be disclosed, and what it states of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import SiteContext
from fednet.errors import PrivacyError
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.privacy_guard import PrivacyGuard
from fednet.privacy.accounting import Expense, epsilon

DELTA = 1e-5
CLIENT = {"privacy": {"level": "client", "noise": 50.0, "clip": 0.01, "seeded": True}, "share": {"weight": "equal"}}
Make = Callable[..., PrivacyGuard]


def budget(steps: int) -> float:
    """The epsilon of so many steps, and next to nothing more."""
    return epsilon([Expense(0.2, 1.0, steps)], DELTA) + 1e-6


@pytest.fixture
def guard(tmp_path: Path) -> Make:
    def make(*, disclosed: bool = False, **keys: Any) -> PrivacyGuard:
        config = PrivateGanConfig.model_validate({"train": {"rate": 0.2}, **keys})
        return PrivacyGuard(
            config, SiteContext("a1", 0, 2, 0, "cpu", tmp_path), tmp_path / "privacy", lambda: disclosed
        )

    return make


def test_as_many_steps_are_reserved_as_the_budget_buys(guard: Make) -> None:
    site = guard(privacy={"budget": budget(5)})
    assert site.affordable_rounds(3, wanted=9) == 2
    first, second = site.reserve("one", 3), site.reserve("two", 3)
    assert (first.steps, second.steps) == (3, 2)
    with pytest.raises(PrivacyError, match="budget is spent"):
        site.reserve("three", 3)
    assert site.values()["epsilon_rdp"] <= budget(5)
    assert site.affordable_rounds(3, wanted=9) == 0


def test_the_same_work_is_reserved_once_until_it_is_released(guard: Make) -> None:
    site = guard()
    first = site.reserve("one", 3)
    again = guard().reserve("one", 3)  # in a new process, which takes it over
    assert again.steps == first.steps == 3
    assert site.values()["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 3)], DELTA)
    site.release(again.entry)
    site.reserve("one", 3)
    assert site.values()["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 6)], DELTA)


def test_progress_shows_what_the_steps_so_far_cost(guard: Make) -> None:
    site = guard()
    site.release(site.reserve("one", 3).entry)
    running = site.running(site.reserve("two", 3), 1)
    assert running == {"epsilon": epsilon([Expense(0.2, 1.0, 3), Expense(0.2, 1.0, 1)], DELTA)}


def test_without_protection_nothing_is_accounted_for(guard: Make) -> None:
    site = guard(privacy={"level": "none"})
    reservation = site.reserve("one", 3)
    site.release(reservation.entry)
    assert (reservation.steps, reservation.entry, site.running(reservation, 1)) == (3, None, {})
    assert (site.open, site.private, site.protection(), site.values()) == (True, False, None, {})
    assert site.affordable_rounds(3, wanted=9) == 9
    assert site.statement().level == "none"
    assert site.releasable_losses({"loss": 1.0}) == {"loss": 1.0}


def test_seeded_noise_makes_what_came_before_and_after_not_private(guard: Make) -> None:
    assert guard().private
    guard(privacy={"seeded": True}).reserve("one", 3)
    assert not guard().private
    assert not guard().statement().private


def test_a_statement_has_the_terms_and_what_was_spent(guard: Make) -> None:
    site = guard(privacy={"budget": budget(5), "clip": 0.7})
    site.reserve("one", 3)
    stated = site.statement()
    assert (stated.level, stated.noise, stated.rate, stated.clip) == ("example", 1.0, 0.2, 0.7)
    assert (stated.budget, stated.epsilon_rdp) == (budget(5), epsilon([Expense(0.2, 1.0, 3)], DELTA))


def test_at_client_level_a_round_counts_once_and_losses_stay(guard: Make) -> None:
    site = guard(**CLIENT)
    assert (site.reserve("one", 30).steps, site.protection()) == (30, None)
    assert site.releasable_losses({"loss": 1.0}) == {}
    assert site.values()["epsilon_rdp"] == epsilon([Expense(1.0, 50.0, 1)], DELTA)


def test_at_client_level_the_update_is_noisy_and_otherwise_as_it_is(guard: Make) -> None:
    base, state = {"w": torch.zeros(1000)}, {"w": torch.full((1000,), 5.0)}
    noisy = guard(**CLIENT).released_state(state, base, "round", 1)["w"]
    assert float(noisy.norm()) == pytest.approx(0.01 * 50.0 * 1000**0.5, rel=0.2)
    assert torch.equal(guard().released_state(state, base)["w"], state["w"])
    clipped = guard(share={"clip": 0.5}).released_state(state, base)["w"]
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-3)


def test_only_protected_steps_are_drawn_from_a_secret_source(guard: Make) -> None:
    assert guard().source("round", 1).private
    assert not guard(privacy={"level": "none"}).source("round", 1).private
    assert not guard(privacy={"seeded": True}).source("round", 1).private


def test_whoever_tells_anything_without_noise_is_not_private(guard: Make) -> None:
    telling = guard(disclosed=True)
    assert telling.private is False
    assert (telling.statement().private, telling.statement().disclosed) == (False, True)
    assert guard().private is True

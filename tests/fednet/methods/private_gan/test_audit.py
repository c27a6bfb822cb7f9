"""Membership attacks on equally many members and non-members, and who may have a site try them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fednet.api import NullProgress, Question
from fednet.errors import MeasureError, MethodError
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.methods.private_gan.audit import membership_attacks


class Brightness(nn.Module):
    """A discriminator that takes bright pictures for real."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean((1, 2, 3))


def attack(members: Tensor, strangers: Tensor, samples: Tensor | None = None) -> Any:
    discriminator: Any = Brightness()
    return membership_attacks(discriminator, members, strangers, samples, torch.Generator().manual_seed(0))


def pictures(count: int, low: float, high: float) -> Tensor:
    return torch.linspace(low, high, count)[:, None, None, None].expand(-1, 1, 4, 4)


def test_members_whose_loss_is_lower_are_found() -> None:
    found = attack(pictures(6, 0.5, 1.0), pictures(4, -1.0, 0.0))
    assert (found.loss, found.nearest, found.count) == (1.0, None, 4)


def test_members_that_samples_repeat_are_found() -> None:
    members = pictures(4, 0.5, 1.0)
    assert attack(members, pictures(4, -1.0, 0.0), samples=members).nearest == 1.0


def test_the_same_pictures_on_both_sides_are_chance() -> None:
    both = pictures(5, -1.0, 1.0)
    assert attack(both, both).loss == 0.5


def test_an_attack_without_strangers_is_refused() -> None:
    with pytest.raises(MeasureError):
        attack(pictures(3, 0.0, 1.0), pictures(0, 0.0, 1.0))


AUDITED = {"audit": {"pictures": 2, "held_out": 0.3}}


def audit_of(site: Any, **inputs: Tensor) -> dict[str, Any]:
    return from_json_tensor(site.answer(Question("audit", inputs))["audit"])


def test_nobody_audits_where_it_is_off(federation: Callable[..., Any]) -> None:
    site = federation().sites["a1"]
    with pytest.raises(MethodError, match=r"does not answer 'audit'.*its owner may set disclose\.audit"):
        site.answer(Question("audit", {}))
    assert not site.disclosure_ledger.path.exists()


def test_an_audit_has_nothing_of_the_askers(federation: Callable[..., Any]) -> None:
    """What was compared with private pictures came from the asker, who read one of them by 910 questions."""
    site = federation(disclose=AUDITED).sites["a1"]
    plain = audit_of(site)
    probe = torch.full((1, 1, 8, 8), -0.5)
    assert audit_of(site, strangers=probe, drawn=probe) == plain
    assert plain["count"] == len(site.loaded.strangers) == 6


def test_an_audits_non_members_are_kept_from_training(federation: Callable[..., Any]) -> None:
    site, whole = federation(disclose=AUDITED).sites["a1"], federation().sites["a1"]
    assert site.parts() == {"train": 14, "audit": 6}
    train, strangers = site.loaded.images.images, site.loaded.strangers.images
    assert not any(torch.equal(one, other) for one in train for other in strangers)
    assert len(whole.loaded.images) == 20
    assert len(whole.loaded.strangers) == 0


def test_audits_are_counted_across_restarts_and_mark_the_site(federation: Callable[..., Any]) -> None:
    site = federation(disclose=AUDITED, privacy={"seeded": False}).sites["a1"]
    assert site.loaded.guard.statement().private is False
    for _ in range(3):
        audit_of(site)
    restarted = federation(disclose=AUDITED, privacy={"seeded": False}).sites["a1"]
    with pytest.raises(MethodError, match="was answered 3 times, and 3 are permitted"):
        audit_of(restarted)
    forbidden = federation(privacy={"seeded": False}).sites["a1"]
    assert forbidden.loaded.guard.statement().disclosed is True
    assert forbidden.loaded.guard.private is False
    assert "disclose.audit" in forbidden.prepare(NullProgress())


def test_too_few_pictures_are_not_audited(federation: Callable[..., Any]) -> None:
    site = federation(disclose={"audit": {"pictures": 7, "held_out": 0.3}}).sites["a1"]
    with pytest.raises(MethodError, match="from 7 pictures or more"):
        audit_of(site)

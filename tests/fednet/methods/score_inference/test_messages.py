"""Capabilities of sites: read by name in sorted order, and refused where the sites' models do not fit each other."""

from __future__ import annotations

import pytest

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.sde import VP
from fednet.errors import MethodError
from fednet.methods.score_inference.messages import ScoreCapabilities, read_score_capabilities


def card(**changes: object) -> ExpertCard:
    values = {"kind": "unet", "network": "ScoreNet", "prediction": "epsilon", "schedule": "the SDE vp"}
    return ExpertCard.model_validate(values | changes)


def capabilities(**changes: object) -> str:
    values = {
        "classes": ("one", "two"), "shape": (1, 4, 4),
        "pictures": 7, "histogram": (3, 4), "conditional": False, "sde": VP(),
        "expert": card(), "steps": 3, "loss": 0.5, "seconds": 0.0,
    }  # fmt: skip
    return ScoreCapabilities.model_validate(values | changes).model_dump_json()


def test_they_are_read_in_sorted_order() -> None:
    read = read_score_capabilities(
        {"b": capabilities(), "a": capabilities(histogram=(5, 0), expert=card(kind="diffusers"))}
    )
    assert list(read) == ["a", "b"]
    assert read["a"].histogram == (5, 0)


@pytest.mark.parametrize(
    "changes",
    [{"shape": (1, 8, 8)}, {"classes": ("one", "three")}, {"conditional": True}, {"sde": VP(beta_max=10.0)}],
)
def test_sites_that_do_not_fit_each_other_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MethodError, match=f"b and a differ in {next(iter(changes))}"):
        read_score_capabilities({"a": capabilities(), "b": capabilities(**changes)})


def test_models_of_pictures_and_of_latents_do_not_draw_together() -> None:
    texts = {"a": capabilities(), "b": capabilities(expert=card(space="latents"))}
    with pytest.raises(MethodError, match=r"b and a differ in space \(latents and pixels\)"):
        read_score_capabilities(texts)


@pytest.mark.parametrize(("texts", "reason"), [({}, "no site answers"), ({"a": "{}"}, "a has no capabilities")])
def test_what_is_missing_or_malformed_is_refused(texts: dict[str, str], reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        read_score_capabilities(texts)

"""The models of a site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, SiteContext
from fednet.errors import ModelError
from fednet.federated.state import digest
from fednet.methods.novelty.local_models import LocalClassifier, LocalDetector, TrainBudget

SHAPE = (1, 8, 8)


def site(name: str = "a1", folder: Path = Path()) -> SiteContext:
    return SiteContext(name, 0, 2, 0, "cpu", folder)


def classifier(config: Any, name: str = "a1") -> LocalClassifier:
    return LocalClassifier(config, site(name), SHAPE, 4)


def test_shared_models_begin_alike_everywhere_and_own_ones_do_not(small_config: Callable[..., Any]) -> None:
    config = small_config()
    assert digest(classifier(config).initial_state()) == digest(classifier(config, "a2").initial_state())
    one, other = (LocalDetector(config, site(name), SHAPE) for name in ("a1", "a2"))
    assert digest(one.initial_state()) == digest(other.initial_state())
    one, other = (LocalDetector(config, site(name), SHAPE, alone=True) for name in ("a1", "a2"))
    assert digest(one.initial_state()) != digest(other.initial_state())


@pytest.mark.parametrize("alone", [None, False, True])
def test_learning_repeats_and_leaves_the_model_alone(
    small_config: Callable[..., Any], pictures: Callable[..., Any], alone: Any
) -> None:
    config = small_config()
    model = classifier(config) if alone is None else LocalDetector(config, site(), SHAPE, alone=alone)
    before, base = digest(model.state()), digest(model.initial_state())
    updates = [
        model.train(model.initial_state(), pictures(0, 1), TrainBudget(), seed=3, progress=NullProgress())
        for _ in range(2)
    ]
    assert digest(updates[0].state) == digest(updates[1].state) != base
    assert digest(model.state()) == before
    assert digest(model.initial_state()) == base
    model.take(updates[0].state, "what was learnt")
    assert digest(model.state()) == digest(updates[0].state)


def test_a_budget_goes_before_the_configuration(small_config: Callable[..., Any], pictures: Callable[..., Any]) -> None:
    model = classifier(small_config())
    update = model.train(model.initial_state(), pictures(0, 1), TrainBudget(steps=2), seed=0, progress=NullProgress())
    assert update.values["steps"] == 2
    assert (
        model.train(model.initial_state(), pictures(0, 1), TrainBudget(), seed=0, progress=NullProgress()).values[
            "steps"
        ]
        == 4 * 4
    )


@pytest.mark.parametrize("spoil", ["shape", "name", "nan"])
def test_a_state_that_does_not_fit_changes_nothing(small_config: Callable[..., Any], spoil: Any) -> None:
    model = classifier(small_config())
    before, state = digest(model.state()), dict(model.state())
    if spoil == "shape":
        state["head.bias"] = torch.zeros(7)
    elif spoil == "name":
        state["other"] = state.pop("head.bias")
    else:
        state["head.bias"] = torch.full_like(state["head.bias"], torch.nan)
    with pytest.raises(ModelError, match="the given one"):
        model.take(state, "the given one")
    assert digest(model.state()) == before


def test_a_new_state_has_no_threshold(small_config: Callable[..., Any]) -> None:
    model = LocalDetector(small_config(), site(), SHAPE)
    model.threshold = 0.5
    model.take(model.state(), "itself")
    assert model.threshold is None


def test_both_the_weights_and_their_average_are_trained_in_rounds(
    small_config: Callable[..., Any], pictures: Callable[..., Any]
) -> None:
    model = LocalDetector(small_config(), site(), SHAPE)
    base = model.initial_state()
    state = model.train(base, pictures(0), TrainBudget(steps=5), seed=0, progress=NullProgress()).state
    moved = {name for name in state if not torch.equal(state[name], base[name])}
    assert {name.split(".")[0] for name in moved} == {"raw", "average"}
    assert any(not torch.equal(state[f"raw.{n}"], state[f"average.{n}"]) for n in (m.split(".", 1)[1] for m in moved))


def test_a_detector_begins_with_a_checkpoint(
    small_config: Callable[..., Any], pictures: Callable[..., Any], tmp_path: Path
) -> None:
    first = LocalDetector(small_config(), site(), SHAPE)
    first.take(
        first.train(first.initial_state(), pictures(0), TrainBudget(), seed=0, progress=NullProgress()).state, "first"
    )
    first.threshold = 0.25
    path = tmp_path / "detector.safetensors"
    first.detector(classifier(small_config()).net).save(path)
    config = small_config(detector={"checkpoint": str(path)})
    second = LocalDetector(config, site("a2"), SHAPE)
    assert second.threshold == 0.25
    average = {name: value for name, value in first.state().items() if name.startswith("average.")}
    assert all(torch.equal(second.state()[name], value) for name, value in average.items())
    assert digest(second.initial_state()) == digest(LocalDetector(config, site("a3"), SHAPE).initial_state())


def test_a_checkpoint_of_another_network_is_refused(small_config: Callable[..., Any], tmp_path: Path) -> None:
    first = LocalDetector(small_config(), site(), SHAPE)
    path = tmp_path / "detector.safetensors"
    first.detector(classifier(small_config()).net).save(path)
    other = {"channels": [16], "groups": 4, "attention": False}
    with pytest.raises(ModelError, match=r"another network: channels"):
        LocalDetector(small_config(detector={"checkpoint": str(path), "unet": other}), site(), SHAPE)


def test_a_device_that_is_not_there_is_refused(small_config: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="cannot use the device"):
        LocalClassifier(small_config(), SiteContext("a1", 0, 1, 0, "cuda:77", Path()), SHAPE, 4)

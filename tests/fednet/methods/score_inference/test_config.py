"""What a configuration accepts and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fednet.diffusion.sampler_config import ODE, EulerMaruyama
from fednet.errors import DataError, ModelError
from fednet.methods.score_inference.config import (
    ArmConfig,
    RulePhase,
    SamplesConfig,
    ScoreInferenceConfig,
    check,
    require_drawable,
    site_model,
)
from fednet.models.config import DiffusersModelConfig, UNetConfig


def test_the_default_compares_mean_and_mixture() -> None:
    config = ScoreInferenceConfig()
    assert [arm.phases()[0].rule.kind for arm in config.arms.values()] == list(config.arms) == ["mean", "mixture"]
    assert config.samples.count == 300
    assert config.model == UNetConfig(conditional=False)


def test_an_arm_may_bring_its_own_sampler() -> None:
    config = ScoreInferenceConfig.model_validate(
        {"arms": {"a": {}, "b": {"sampler": {"kind": "ode", "method": "rk4"}}}}
    )
    assert config.sampler_of("a") == EulerMaruyama()
    assert config.sampler_of("b") == ODE(method="rk4")


def test_a_schedule_of_rules() -> None:
    phases = [{"below": 1, "rule": "mean", "sites": ["a1"]}, {"below": 0.4, "rule": "mixture"}]
    arm = ArmConfig.model_validate({"rule": phases})
    assert arm.phases() == (RulePhase(below=1, rule="mean", sites=("a1",)), RulePhase(below=0.4, rule="mixture"))
    assert not arm.needs_labels()
    assert ArmConfig.model_validate({"rule": [*phases, {"below": 0.1, "rule": "label-count"}]}).needs_labels()
    assert ArmConfig(rule="median").phases() == (RulePhase(below=1, rule="median"),)


@pytest.mark.parametrize("starts", [[], [0.5], [1.0, 0.4, 0.4], [1.0, 0.2, 0.4]])
def test_a_schedule_covers_all_times_in_order(starts: list[float]) -> None:
    with pytest.raises(ValidationError, match="below: 1"):
        ArmConfig.model_validate({"rule": [{"below": start, "rule": "mean"} for start in starts]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": {}}, "arms"),
        ({"arms": {"Not A Name": {}}}, "arms"),
        ({"arms": {"x": {"rule": "average"}}}, "average"),
        ({"sampler": {"kind": "ddim"}}, "ddim"),
        ({"stepz": 3}, "stepz"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScoreInferenceConfig.model_validate(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": {"labels": [1]}}, "model.conditional"),
        ({"samples": {"per_label": 2}}, "model.conditional"),
        ({"arms": {"x": {"rule": "label-count"}}}, "arms.x"),
        ({"arms": {"x": {"rule": [{"below": 1, "rule": "label-count"}]}}}, "arms.x"),
        ({"arms": {"x": {"guidance": 2}}}, "arms.x"),
    ],
)
def test_labels_are_not_asked_of_models_without(given: dict[str, object], message: str) -> None:
    config = ScoreInferenceConfig.model_validate(given)
    with pytest.raises(ModelError, match=message):
        require_drawable(config, conditional=False)
    require_drawable(config, conditional=True)


def test_a_site_replaces_keys_of_the_model_or_the_whole(tmp_path: Path) -> None:
    config = ScoreInferenceConfig.model_validate({"model": {"conditional": True}})
    assert site_model(config, {}) is config
    assert site_model(config, {"model": {"channels": [8]}}).model == UNetConfig(conditional=True, channels=(8,))
    other = site_model(config, {"model": {"kind": "diffusers", "path": str(tmp_path)}}).model
    assert other == DiffusersModelConfig(kind="diffusers", path=tmp_path)
    with pytest.raises(ModelError, match="invalid model of a site"):
        site_model(config, {"model": {"kind": "diffusers", "path": str(tmp_path), "channels": [8]}})


def test_a_model_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder"):
        check(ScoreInferenceConfig(), {"model": {"kind": "diffusers", "path": str(tmp_path / "nowhere")}})


def test_labels_are_fine_for_conditional_models() -> None:
    given = {"model": {"conditional": True}, "samples": {"per_label": 2, "labels": [1]}, "arms": {"x": {"guidance": 2}}}
    assert ScoreInferenceConfig.model_validate(given).samples == SamplesConfig(per_label=2, labels=(1,))


def test_total_and_per_label_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        SamplesConfig(total=3, per_label=3)


def test_the_configuration_survives_json() -> None:
    config = ScoreInferenceConfig.model_validate(
        {"sde": {"kind": "sub-vp"}, "arms": {"x": {"rule": [{"below": 1, "rule": "mean"}]}}}
    )
    assert ScoreInferenceConfig.model_validate_json(config.model_dump_json()) == config


def test_the_check_looks_for_the_data_of_the_run_and_of_a_site(tmp_path: Path) -> None:
    config = ScoreInferenceConfig()
    check(config)
    with pytest.raises(DataError, match="is not a folder"):
        check(config, {"data": {"name": "mnist", "root": str(tmp_path / "nowhere")}})
    with pytest.raises(DataError, match="is not a folder"):
        check(ScoreInferenceConfig.model_validate({"data": {"name": "folder", "root": tmp_path / "nowhere"}}))


def test_top_k_is_refused_where_it_means_nothing() -> None:
    sparse = {"kind": "mixture", "top_k": 2}
    assert "dopri5 needs" in ArmConfig(rule=sparse).refused_by(ODE())
    assert ArmConfig(rule=sparse).refused_by(ODE(method="rk4")) == ""
    assert ArmConfig(rule="mixture").refused_by(ODE()) == ""
    with pytest.raises(ValidationError, match="no `top_k` in it"):
        ArmConfig(rule=[{"below": 1.0, "rule": sparse}])
    for wrong in ({"kind": "mixture", "top_k": 0}, {"kind": "median", "top_k": 2}):
        with pytest.raises(ValidationError):
            ArmConfig(rule=wrong)

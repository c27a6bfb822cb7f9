"""Sites with models that they bring along: no pictures are read, and different models draw together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from fednet.api import NullProgress, Question, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.local_network import local_network
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.job import run_job
from fednet.methods.score_inference.messages import read_score_capabilities
from fednet.methods.score_inference.site import ScoreInferenceSite

Make = Callable[..., Path]
CONFIG = ScoreInferenceConfig.model_validate(
    {"sampler": {"kind": "euler-maruyama", "steps": 3}, "samples": {"total": 4}, "measure": None}
)


def site(folder: Path, name: str = "a", config: ScoreInferenceConfig = CONFIG, **model: Any) -> ScoreInferenceSite:
    overrides = {"model": {"kind": "diffusers", **model}}
    return ScoreInferenceSite.from_overrides(config, SiteContext(name, 0, 1, 0, "cpu", folder), overrides)


def test_a_folder_is_a_site_without_data(
    diffusers_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site(tmp_path, path=str(diffusers_folder()), classes=["cat", "dog"], pictures={"cat": 5})
    monkeypatch.setattr(made, "read_images", lambda _progress: pytest.fail("pictures were read"))
    assert made.has_own_data()
    assert made.parts() == {}
    card = read_score_capabilities({"a": made.prepare(NullProgress())})["a"]
    assert (card.shape, card.classes, card.conditional, card.own) == ((1, 4, 4), ("cat", "dog"), False, True)
    assert (card.pictures, card.histogram, card.steps, card.loss) == (5, (5, 0), 0, None)
    assert card.expert.kind == "diffusers"


def test_a_site_answers_scores_and_divergences(diffusers_folder: Make, tmp_path: Path) -> None:
    made = site(tmp_path, path=str(diffusers_folder()))
    made.prepare(NullProgress())
    x = torch.randn(2, 1, 4, 4)
    options = {"t": 0.3, "divergence": True, "probe_seed": 7}
    answer = made.answer(Question("score", {"x": x}, options))
    assert (answer["score"].shape, answer["divergence"].shape) == (x.shape, (2,))
    torch.testing.assert_close(answer["score"], made.answer(Question("score", {"x": x}, {"t": 0.3}))["score"])


def test_different_networks_and_schedules_draw_together(diffusers_folder: Make, tmp_path: Path) -> None:
    cosine = {"beta_schedule": "squaredcos_cap_v2"}
    folders = {
        "a": diffusers_folder("a"),
        "b": diffusers_folder("b", diffusers.DDIMScheduler(**cosine, prediction_type="v_prediction")),
        "c": diffusers_folder("c", diffusers.EDMEulerScheduler(), block_out_channels=(8, 16)),
        "d": diffusers_folder("d", diffusers.FlowMatchEulerDiscreteScheduler()),
    }
    sites = {name: site(tmp_path, name, path=str(folder)) for name, folder in folders.items()}
    announcements = {name: one.announce() for name, one in sites.items()}
    for one in sites.values():
        one.agree(announcements)
    network = local_network(sites, {name: one.prepare(NullProgress()) for name, one in sites.items()})
    summary = run_job(CONFIG, network, tmp_path, 0, NullProgress())
    (models,) = (section for section in summary.sections if section.title == "Models")
    assert models.table
    assert [row[3] for row in models.table.rows] == ["epsilon", "v_prediction", "v_prediction", "flow_prediction"]
    account = summary.accounts["mixture"]
    assert all(node.contributed == account.steps for node in account.nodes.values())
    assert (tmp_path / "samples" / "mixture" / "grid.png").exists()


def test_models_that_do_not_fit_are_refused_by_name_before_anything_is_asked(
    diffusers_folder: Make, tmp_path: Path
) -> None:
    small = site(tmp_path, "a", path=str(diffusers_folder("a")), classes=["0", "1"])
    large = site(tmp_path, "b", path=str(diffusers_folder("b", sample_size=8)))
    with pytest.raises(MethodError, match="a 1 x 4 x 4; b 1 x 8 x 8"):
        small.agree({"a": small.announce(), "b": large.announce()})
    labelled = site(tmp_path, "c", path=str(diffusers_folder("c", num_class_embeds=2)))
    cards = {"a": small.prepare(NullProgress()), "c": labelled.prepare(NullProgress())}
    with pytest.raises(MethodError, match="c and a differ in conditional"):
        read_score_capabilities(cards)


def test_labels_are_not_asked_of_a_model_without(diffusers_folder: Make, tmp_path: Path) -> None:
    config = ScoreInferenceConfig.model_validate({"samples": {"per_label": 2}})
    with pytest.raises(ModelError, match="per_label need models with labels"):
        site(tmp_path, config=config, path=str(diffusers_folder())).prepare(NullProgress())
    labelled = site(tmp_path, "b", config, path=str(diffusers_folder("b", num_class_embeds=2)))
    labelled.prepare(NullProgress())


def test_a_model_without_a_class_of_the_others_says_which(diffusers_folder: Make, tmp_path: Path) -> None:
    one = site(tmp_path, "a", path=str(diffusers_folder("a", num_class_embeds=2)), classes=["cat", "dog"])
    other = site(tmp_path, "b", path=str(diffusers_folder("b", num_class_embeds=2)), classes=["dog", "elk"])
    one.agree({"a": one.announce(), "b": other.announce()})
    with pytest.raises(ModelError, match="knows no class 'elk' of the run"):
        one.prepare(NullProgress())

"""A site: what it answers, what it contributes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Participant, Question, Responder, RoundTask, Stopped
from fednet.errors import MethodError, ModelError
from fednet.federated.state import digest, unpack, with_slots
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.methods.novelty.messages import NoveltyCapabilities
from fednet.methods.novelty.site import NoveltySite


def asked(site: NoveltySite, ask: str, inputs: Any = None, **options: Any) -> Any:
    return site.answer(Question(ask, inputs or {}, options))


def now(site: NoveltySite, model: str = "classifier") -> str:
    return from_json_tensor(asked(site, "status")["status"])[model]["digest"]


def test_it_is_both_and_shows_what_it_has(cluster: Any) -> None:
    site = cluster.sites["a1"]
    participant: Participant = site
    responder: Responder = site
    assert isinstance(participant, Participant)
    assert responder is not None
    capabilities = NoveltyCapabilities.model_validate_json(cluster.capabilities["a1"])
    assert (capabilities.histogram, capabilities.held_out, capabilities.shape) == (
        (12, 12, 12, 0),
        (4, 4, 4, 0),
        (1, 8, 8),
    )
    assert capabilities.labels() == (0, 1, 2)
    assert len(cluster.capabilities["a1"]) < 1000


def test_a_contribution_repeats_and_leaves_the_site_as_it_was(cluster: Any) -> None:
    site = cluster.sites["a1"]
    task, base, before = (
        RoundTask("classifier", "train", 1, {"labels": "0-2"}),
        site.initial_state("classifier"),
        now(site),
    )
    first, again = (site.contribute(task, base, NullProgress()) for _ in range(2))
    assert digest(first.state) == digest(again.state) != digest(base)
    assert first.weight == 36
    assert first.values["drift"] > 0
    assert now(site) == before
    later = site.contribute(RoundTask("classifier", "train", 2, {"labels": "0-2"}), base, NullProgress())
    assert digest(later.state) != digest(first.state)


def test_fedprox_without_a_pull_is_fedavg_bit_for_bit(cluster: Any) -> None:
    site = cluster.sites["a1"]
    base = site.initial_state("classifier")

    def at(**options: Any) -> Any:
        return digest(site.contribute(RoundTask("classifier", "train", 1, options), base, NullProgress()).state)

    assert at() == at(mu=0.0) == at(mu=0)
    assert at() != at(mu=1.0)


def test_the_server_s_slots_are_left_alone(cluster: Any) -> None:
    site = cluster.sites["a1"]
    base = site.initial_state("classifier")
    kept = with_slots(base, {name: torch.ones_like(value) for name, value in base.items()})
    task = RoundTask("classifier", "train", 1)
    plain, slotted = (site.contribute(task, state, NullProgress()).state for state in (base, kept))
    assert digest(plain) == digest(slotted)
    site.adopt("classifier", 1, kept)
    assert now(site) == digest(base)


def test_average_gives_what_the_site_has(cluster: Any) -> None:
    site = cluster.sites["a1"]
    asked(site, "train", labels="0-1")
    update = site.contribute(RoundTask("classifier", "average", 1), site.initial_state("classifier"), NullProgress())
    assert digest(update.state) == now(site)
    assert update.weight == 24


def test_a_fresh_training_begins_anew_and_another_goes_on(cluster: Any) -> None:
    site = cluster.sites["a1"]

    def trained(fresh: Any) -> Any:
        return from_json_tensor(asked(site, "train", labels="0-2", fresh=fresh)["trained"])["digest"]

    first = trained(fresh=True)
    assert trained(fresh=False) != first
    assert trained(fresh=True) == first


def test_validation_is_of_held_out_pictures_or_of_given_ones(cluster: Any, pictures: Callable[..., Any]) -> None:
    site = cluster.sites["a1"]
    asked(site, "train", labels="0-2", epochs=20)
    own = asked(site, "validate-held-out", labels="0,2")
    assert own["there"].tolist() == [4, 0, 4, 0]
    given = pictures(0, 1, 2, 3, seed=5)
    reply = asked(site, "validate", {"images": given.images, "labels": given.labels})
    assert reply["there"].tolist() == [16] * 4
    assert reply["right"].tolist()[3] == 0 < reply["right"].tolist()[0]


def test_a_model_comes_as_the_bytes_of_safetensors(cluster: Any) -> None:
    site = cluster.sites["a1"]
    content = asked(site, "model")["content"].numpy().tobytes()
    assert digest(unpack(content)) == now(site)


def test_a_detector_is_calibrated_and_scores_alike_in_any_batch(cluster: Any, pictures: Callable[..., Any]) -> None:
    site = cluster.sites["a1"]
    asked(site, "train", model="own-detector", labels="0-1")
    reply = asked(site, "calibrate")
    assert set(reply) == {"threshold"}
    images = pictures(0, 3, count=3).images
    whole = asked(site, "score", {"images": images}, model="own-detector", keep=True)
    assert whole["threshold"] == reply["threshold"]
    assert whole["reconstructions"].shape == (6, 2, 1, 8, 8)
    known = whole["known"]
    assert torch.equal(
        whole["reconstructions"][:, :, 0][:, known], images[:, 0].expand(2, 6, 8, 8).transpose(0, 1)[:, known]
    )
    alone = asked(site, "score", {"images": images[4:5]}, model="own-detector")
    torch.testing.assert_close(alone["scores"], whole["scores"][4:5], rtol=1e-4, atol=1e-6)


def test_pictures_for_this_site_go_before_pictures_for_all(cluster: Any, pictures: Callable[..., Any]) -> None:
    site = cluster.sites["a1"]
    one, other = pictures(0, count=2).images, pictures(1, count=3).images
    assert len(asked(site, "classify", {"images": one, "images.a1": other, "images.a2": one})["logits"]) == 3


def test_a_threshold_can_be_given_and_goes_with_a_new_model(cluster: Any) -> None:
    site = cluster.sites["a1"]
    asked(site, "set-threshold", model="detector", threshold=0.5)
    assert from_json_tensor(asked(site, "status")["status"])["detector"]["threshold"] == 0.5
    site.adopt("detector", 1, site.initial_state("detector"))
    assert from_json_tensor(asked(site, "status")["status"])["detector"]["threshold"] is None


def test_scores_alone_leave_the_threshold(cluster: Any) -> None:
    site = cluster.sites["a1"]
    reply = asked(site, "held-out-scores", model="detector", labels="0-2")
    assert reply["scores"].shape == (12,)
    assert from_json_tensor(asked(site, "status")["status"])["detector"]["threshold"] is None


def test_dropout_says_how_sure_it_is(cluster: Any, pictures: Callable[..., Any]) -> None:
    reply = asked(cluster.sites["a1"], "uncertainty", {"images": pictures(0, count=3).images}, passes=5)
    assert reply["logits"].shape == (3, 4)
    assert bool((reply["deviation"] > 0).all())


def test_its_own_detector_is_not_trained_twice(make_cluster: Callable[..., Any], tmp_path: Path) -> None:
    first = asked(make_cluster().sites["a1"], "train", model="own-detector", labels="0-1")
    again = asked(make_cluster().sites["a1"], "train", model="own-detector", labels="0-1")
    assert from_json_tensor(again["trained"])["recalled"] == 1
    assert "recalled" not in from_json_tensor(first["trained"])
    other = asked(make_cluster().sites["a1"], "train", model="own-detector", labels="0,2")
    assert "recalled" not in from_json_tensor(other["trained"])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("ask", "options", "message"),
    [
        ("dance", {}, "a1: unknown question 'dance'; expected one of status, train"),
        ("train", {"labels": "3"}, r"a1 has no pictures to train on of four"),
        ("train", {"labels": "7"}, r"labels lie in 0\.\.3"),
        ("train", {"labels.a2": "0"}, "has no labels in this task"),
        ("train", {"model": "other"}, "option model must be one of"),
        ("train", {"epochs": 0}, "whole number"),
        ("train", {"steps": True}, "whole number"),
        ("train", {"epochs": 1, "steps": 1}, "not both"),
        ("train", {"mu": -1.0}, "at least 0"),
        ("train", {"mu": float("nan")}, "at least 0"),
        ("validate-held-out", {"labels": "3"}, "no pictures held out of four"),
        ("model", {"model": "own-detector"}, "never leaves it"),
        ("layout", {"model": "own-detector"}, "never leaves it"),
        ("calibrate", {}, "did not train the own-detector"),
        ("set-threshold", {"threshold": "high"}, "at least 0"),
        ("set-threshold", {}, "takes the option threshold, or joint"),
        ("calibrate", {"model": "classifier", "labels": "0"}, "option model must be one of"),
        ("classify", {}, r"images must be float32 \(n, 1, 8, 8\), got nothing"),
        ("uncertainty", {"passes": 10**5}, "option passes must be a whole number from 1 to 10000"),
    ],
)
def test_what_cannot_be_answered_is_refused(cluster: Any, ask: Any, options: Any, message: Any) -> None:
    with pytest.raises(MethodError, match=message):
        asked(cluster.sites["a1"], ask, **options)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 1, 8, 9),
        torch.zeros(1, 3, 8, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.float64),
        torch.zeros(0, 1, 8, 8),
        torch.full((1, 1, 8, 8), torch.nan),
        torch.full((1, 1, 8, 8), 7.0),
    ],
)
@pytest.mark.parametrize("ask", ["classify", "score", "uncertainty", "validate"])
def test_pictures_that_do_not_fit_are_refused_and_the_site_lives_on(
    cluster: Any, pictures: Callable[..., Any], ask: Any, images: Any
) -> None:
    site = cluster.sites["a1"]
    with pytest.raises(MethodError):
        asked(site, ask, {"images": images, "labels": torch.zeros(len(images), dtype=torch.int64)})
    assert asked(site, "classify", {"images": pictures(0).images})["logits"].shape == (16, 4)


def test_labels_of_given_pictures_are_checked(cluster: Any, pictures: Callable[..., Any]) -> None:
    images = pictures(0, count=2).images
    for labels in (torch.tensor([0]), torch.tensor([0, 4]), torch.tensor([0.0, 1.0]), None):
        with pytest.raises(MethodError, match="labels must"):
            asked(cluster.sites["a1"], "validate", {"images": images} | ({} if labels is None else {"labels": labels}))


@pytest.mark.parametrize(
    ("model", "work", "options", "message"),
    [
        ("classifier", "train", {"labels": "3"}, "no pictures to train on"),
        ("classifier", "else", {}, "unknown task 'else'; expected one of train, average"),
        ("own-detector", "train", {}, "never leaves it"),
        ("other", "train", {}, "unknown model 'other'"),
    ],
)
def test_a_round_that_it_cannot_take_part_in_is_declined(
    cluster: Any, model: str, work: Any, options: Any, message: Any
) -> None:
    site = cluster.sites["a1"]
    with pytest.raises(MethodError, match=message):
        site.contribute(RoundTask(model, work, 1, options), site.initial_state("classifier"), NullProgress())


def test_a_model_of_another_shape_is_not_adopted(cluster: Any) -> None:
    site, before = cluster.sites["a1"], now(cluster.sites["a1"])
    with pytest.raises(ModelError, match="round 3 of classifier"):
        site.adopt("classifier", 3, {"weight": torch.zeros(3)})
    assert now(site) == before


def test_nothing_is_answered_before_it_is_prepared(cluster: Any) -> None:
    site = NoveltySite(cluster.config, cluster.contexts["a1"])
    with pytest.raises(MethodError, match="not prepared"):
        asked(site, "status")


def test_its_values_are_in_its_record(cluster: Any, tmp_path: Path) -> None:
    site = cluster.sites["a1"]
    site.contribute(RoundTask("classifier", "train", 4), site.initial_state("classifier"), NullProgress())
    lines = (tmp_path / "tensorboard" / "a1" / "scalars.jsonl").read_text().splitlines()
    assert {"classifier/loss", "classifier/drift"} <= {json.loads(line)["tag"] for line in lines}
    assert {json.loads(line)["step"] for line in lines} == {4}


def test_a_long_answer_is_told_and_ends_when_the_site_is_stopped(cluster: Any) -> None:
    site, phases = cluster.sites["a1"], []

    class Ending(NullProgress):
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            phases.append(phase)
            if phase == "training":
                raise Stopped

    site.prepare(Ending())
    before = now(site, "own-detector")
    with pytest.raises(MethodError, match="a1 was stopped before it could answer"):
        asked(site, "train", model="own-detector", labels="0-2")
    assert phases[-1] == "training"
    assert now(site, "own-detector") == before
    asked(site, "calibrate", model="own-detector", labels="0-2")
    assert phases[-1] == "scoring"


def test_it_knows_beforehand_what_it_will_hold_out(cluster: Any) -> None:
    card = json.loads(cluster.capabilities["a1"])
    assert cluster.sites["a1"].parts() == card["parts"] == {"train": 36, "held out": 12}
    assert (sum(card["histogram"]), sum(card["held_out"])) == (36, 12)


def test_a_joint_threshold_is_kept_beside_its_own(cluster: Any) -> None:
    site = cluster.sites["a1"]
    question = Question("set-threshold", {}, {"model": "own-detector", "joint": 0.5, "detectors": "d" * 100})
    assert float(site.answer(question)["threshold"]) == 0.5
    status = from_json_tensor(site.answer(Question("status", {}))["status"])
    assert status["own-detector"]["joint"] == [0.5, "d" * 64]
    assert status["own-detector"]["threshold"] is None

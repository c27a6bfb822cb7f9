"""What a picture is, and whether it belongs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, Replies
from fednet.errors import MethodError
from fednet.methods.novelty import services
from fednet.methods.novelty.inference import NoveltyDecision, infer
from fednet.methods.novelty.scoring import calibrate_jointly


@pytest.fixture
def ready(cluster: Any) -> Any:
    """A cluster with both kinds of detectors, calibrated."""
    services.train(cluster.network, {"a1": "0-2", "a2": "1-3"}, model="own-detector")
    services.calibrate(cluster.network)
    services.calibrate_together(cluster.network, "1-2", 0.3)
    return cluster


def test_a_picture_has_one_word_from_all(ready: Any, pictures: Callable[..., Any]) -> None:
    image = pictures(1, count=1).images
    found = infer(ready.network, image, keep=True)
    assert set(found.predictions) == {"a1", "a2"}
    assert {name: set(by_site) for name, by_site in found.verdicts.items()} == {
        "detector": {"a1", "a2"},
        "own-detector": {"a1", "a2"},
    }
    assert 0 < found.together.confidence <= 1
    assert found.together.deviation is None
    assert found.reconstructions["detector"]["a1"].pictures.shape == (2, 1, 8, 8)
    assert not found.missing


def test_the_smallest_ratio_decides(ready: Any, pictures: Callable[..., Any]) -> None:
    found = infer(ready.network, pictures(3, count=1).images)
    for name, by_site in found.verdicts.items():
        verdict = found.verdict(name)
        assert verdict.ratio == min(one.ratio for one in by_site.values())
        assert verdict.is_ood == all(one.is_ood for one in by_site.values())
        assert found.lowest[name] == min(one.score for one in by_site.values())
    together = found.verdicts["detector"]
    assert together["a1"] == together["a2"]


def test_the_probabilities_are_averaged(ready: Any, pictures: Callable[..., Any]) -> None:
    image = pictures(1, count=1).images
    services.train(ready.network, {"a1": "0-2", "a2": "1-3"})
    replies = ready.network.ask(Question("classify", {"images": image})).by_node
    mean = sum(reply["logits"][0].double().softmax(0) for reply in replies.values()) / 2
    found = infer(ready.network, image)
    assert found.together.prediction == int(mean.argmax())
    assert math.isclose(found.together.confidence, float(mean.max()))


def test_the_table_has_a_row_a_site_and_one_for_all(ready: Any, pictures: Callable[..., Any]) -> None:
    for passes in (None, 4):
        heads, rows = infer(ready.network, pictures(0, count=1).images, passes=passes).table()
        assert [row[0] for row in rows] == ["a1", "a2", "together"]
        assert {len(row) for row in rows} == {len(heads)}
        assert ("deviation" in heads) == (passes is not None)
        assert "own-detector: is_ood" in heads


def test_without_thresholds_only_the_classifiers_speak(cluster: Any, pictures: Callable[..., Any]) -> None:
    found = infer(cluster.network, pictures(0, count=1).images)
    assert found.verdicts == {}
    assert found.table()[0] == ("site", "prediction", "confidence")


def test_a_site_that_is_not_calibrated_is_not_asked(ready: Any, pictures: Callable[..., Any]) -> None:
    ready.sites["a2"].adopt("detector", 1, ready.sites["a2"].initial_state("detector"))
    found = infer(ready.network, pictures(0, count=1).images)
    assert set(found.verdicts["detector"]) == {"a1"}


def test_shared_detectors_that_differ_are_refused(ready: Any, pictures: Callable[..., Any]) -> None:
    site = ready.sites["a2"]
    site.answer(Question("train", {}, {"model": "detector", "labels": "1", "steps": 1}))
    site.answer(Question("set-threshold", {}, {"model": "detector", "threshold": 1.0}))
    with pytest.raises(MethodError, match="detectors differ"):
        infer(ready.network, pictures(0, count=1).images)


def test_a_picture_of_another_shape_is_refused(ready: Any) -> None:
    with pytest.raises(MethodError, match=r"\(n, 1, 8, 8\)"):
        infer(ready.network, torch.zeros(1, 1, 9, 9))


def test_above_the_threshold_it_is_novel() -> None:
    assert (NoveltyDecision(1.0, 2.0).is_ood, NoveltyDecision(2.0, 2.0).is_ood, NoveltyDecision(2.1, 2.0).is_ood) == (
        False,
        False,
        True,
    )


def test_the_joint_threshold_decides_where_all_of_its_detectors_answer(
    ready: Any, pictures: Callable[..., Any]
) -> None:
    """Three sites that each call a fifth of what is novel novel were silent about all of it."""
    belonging, image = pictures(1, 2, count=6, seed=5).images, pictures(0, count=1).images
    before = infer(ready.network, image)
    joint = calibrate_jointly(ready.network, belonging, 0.2, NullProgress())
    after = infer(ready.network, image)
    ratio = min(one.ratio for one in before.verdicts["own-detector"].values())
    assert (before.joint, after.joint) == (None, joint)
    assert before.verdict("own-detector").is_ood == (ratio > 1)
    assert after.verdict("own-detector").ratio == pytest.approx(ratio / joint)
    assert after.verdict("own-detector").is_ood == (ratio > joint)
    assert after.verdicts == before.verdicts
    assert after.verdict("detector") == before.verdict("detector")
    ready.sites["a2"].answer(Question("set-threshold", {}, {"model": "own-detector", "threshold": 9.0}))
    assert infer(ready.network, image).joint is None


def test_without_one_of_its_sites_the_joint_threshold_does_not_count(ready: Any, pictures: Callable[..., Any]) -> None:
    """The smallest of fewer ratios is larger: the joint threshold would raise more false alarms."""
    calibrate_jointly(ready.network, pictures(1, 2, count=6, seed=5).images, 0.2, NullProgress())

    class Losing:
        capabilities = ready.network.capabilities

        def ask(self, question: Question) -> Replies:
            replies: Replies = ready.network.ask(question)
            if question.task != "score":
                return replies
            return Replies({site: one for site, one in replies.by_node.items() if site == "a1"}, lost={"a2": "gone"})

    losing: Any = Losing()
    assert infer(losing, pictures(0, count=1).images).joint is None

"""What a picture is, and whether it belongs."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.api import Network, NullProgress, Question, Replies
from fednet.errors import MethodError
from fednet.methods.novelty import inference, services
from fednet.methods.novelty.inference import (
    NoveltyDecision,
    NoveltyScores,
    infer,
    joint_threshold,
    scores_by_site,
    shared_scores,
)


@pytest.fixture
def ready(cluster: Any) -> Any:
    """A cluster with both kinds of detectors, calibrated."""
    services.train(cluster.network, {"a1": "0-2", "a2": "1-3"}, model="own-detector")
    services.calibrate(cluster.network)
    services.calibrate_together(cluster.network, "1-2", 0.3)
    return cluster


class _Losing:
    """A network that loses a site after some questions about scores."""

    def __init__(self, network: Any, site: str, after: int) -> None:
        self._network, self._site, self._left = network, site, after
        self.capabilities = network.capabilities

    def ask(self, question: Question) -> Replies:
        replies = self._network.ask(question)
        if question.task != "score":
            return replies
        self._left -= 1
        if self._left >= 0:
            return replies
        by_node = {site: reply for site, reply in replies.by_node.items() if site != self._site}
        return Replies(by_node, lost={self._site: "gone"})


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


def losing(network: Network, site: str, after: int) -> Any:
    return _Losing(network, site, after)


def test_divided_work_is_what_any_site_would_say(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "CHUNK", 3)
    images = pictures(0, 3, count=5).images
    found = shared_scores(ready.network, images, NullProgress())
    whole = ready.network.ask(Question("score", {"images": images}, {"model": "detector"}, ("a2",))).by_node["a2"]
    torch.testing.assert_close(found.by_site["together"], whole["scores"], rtol=1e-4, atol=1e-6)
    assert found.thresholds == {"together": float(whole["threshold"])}


def test_the_others_do_the_work_of_one_that_is_lost(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "CHUNK", 3)
    images = pictures(0, 3, count=5).images
    whole = shared_scores(ready.network, images, NullProgress()).by_site["together"]
    found = shared_scores(losing(ready.network, "a1", 1), images, NullProgress()).by_site["together"]
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_each_alone_scores_everything_and_one_that_is_lost_is_left_out(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "CHUNK", 4)
    images = pictures(0, 3, count=5).images
    found = scores_by_site(ready.network, images, NullProgress())
    assert {site: len(scores) for site, scores in found.by_site.items()} == {"a1": 10, "a2": 10}
    assert torch.equal(found.lowest(), torch.minimum(found.by_site["a1"], found.by_site["a2"]))
    assert set(scores_by_site(losing(ready.network, "a1", 1), images, NullProgress()).by_site) == {"a2"}


def test_shared_detectors_that_differ_are_refused(ready: Any, pictures: Callable[..., Any]) -> None:
    site = ready.sites["a2"]
    site.answer(Question("train", {}, {"model": "detector", "labels": "1", "steps": 1}))
    site.answer(Question("calibrate", {}, {"model": "detector", "threshold": 1.0}))
    with pytest.raises(MethodError, match="detectors differ"):
        infer(ready.network, pictures(0, count=1).images)


def test_without_detectors_nothing_is_scored(cluster: Any, pictures: Callable[..., Any]) -> None:
    for scoring in (scores_by_site, shared_scores):
        with pytest.raises(MethodError, match="no site has a calibrated"):
            scoring(cluster.network, pictures(0).images, NullProgress())


def test_a_picture_of_another_shape_is_refused(ready: Any) -> None:
    with pytest.raises(MethodError, match=r"\(n, 1, 8, 8\)"):
        infer(ready.network, torch.zeros(1, 1, 9, 9))


def test_ratios_are_in_each_site_s_own_thresholds() -> None:
    scores = NoveltyScores({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([3.0, 1.0])}, {"a": 2.0, "b": 1.0})
    assert scores.ratio().tolist() == [0.5, 1.0]
    assert scores.lowest().tolist() == [1.0, 1.0]
    assert (NoveltyDecision(1.0, 2.0).is_ood, NoveltyDecision(2.0, 2.0).is_ood, NoveltyDecision(2.1, 2.0).is_ood) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize("sites", [1, 3, 10])
def test_a_joint_threshold_keeps_its_power_with_the_number_of_sites(sites: int) -> None:
    """Sites that know all pictures equally well, scores exp(N(0, 1)), novel ones e^2.5 times as high.

    At a ratio of 1 the false alarms are .05^K and the power .804^K: .80, .52, .11. At the joint threshold c the false
    alarms are P(z > c)^K = .05 and the power is P(z + 2.5 > c)^K: .80, .95, .99.
    """
    random = torch.Generator().manual_seed(0)

    def scored(count: int, shift: float) -> NoveltyScores:
        found = {f"a{k}": (shift + torch.randn(count, generator=random)).exp() for k in range(sites)}
        return NoveltyScores(found, dict.fromkeys(found, math.exp(1.645)))

    limit = joint_threshold(scored(2000, 0.0), 0.05)
    inside, outside = scored(20_000, 0.0).ratio(), scored(20_000, 2.5).ratio()
    assert float((outside > 1).float().mean()) == pytest.approx(0.804**sites, abs=0.02)
    assert float((inside > limit).float().mean()) == pytest.approx(0.05, abs=0.015)
    normal = NormalDist()
    power = normal.cdf(2.5 - normal.inv_cdf(1 - 0.05 ** (1 / sites))) ** sites
    assert float((outside > limit).float().mean()) == pytest.approx(power, abs=0.025)


@pytest.mark.parametrize("bad", [torch.full((1,), torch.nan), torch.zeros(3), None])
def test_scores_that_are_none_name_their_site(ready: Any, pictures: Callable[..., Any], bad: Any) -> None:
    """A site that answered NaN was asked again without end."""

    def ask(question: Question) -> Replies:
        replies: Replies = ready.network.ask(question)
        if question.task != "score":
            return replies
        spoilt = {**replies.by_node["a2"], **({} if bad is None else {"scores": bad})}
        if bad is None:
            del spoilt["scores"]
        return Replies({**replies.by_node, "a2": spoilt})

    odd: Any = SimpleNamespace(ask=ask, capabilities=ready.network.capabilities)
    images = pictures(0, 1, count=1).images
    for scoring, shown in ((scores_by_site, images[:1]), (shared_scores, images)):
        with pytest.raises(MethodError, match=r"a2 sent scores .*, expected 1 finite numbers"):
            scoring(odd, shown, NullProgress())

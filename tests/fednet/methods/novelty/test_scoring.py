"""Scores by one detector or by several, and the threshold of the smallest ratio of all."""

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
from fednet.methods.novelty import scoring, services
from fednet.methods.novelty.scoring import (
    NoveltyScores,
    calibrate_jointly,
    joint_threshold,
    known_joint_threshold,
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


def losing(network: Network, site: str, after: int) -> Any:
    return _Losing(network, site, after)


def test_divided_work_is_what_any_site_would_say(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 3)
    images = pictures(0, 3, count=5).images
    found = shared_scores(ready.network, images, NullProgress())
    whole = ready.network.ask(Question("score", {"images": images}, {"model": "detector"}, ("a2",))).by_node["a2"]
    torch.testing.assert_close(found.by_site["together"], whole["scores"], rtol=1e-4, atol=1e-6)
    assert found.thresholds == {"together": float(whole["threshold"])}


def test_the_others_do_the_work_of_one_that_is_lost(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 3)
    images = pictures(0, 3, count=5).images
    whole = shared_scores(ready.network, images, NullProgress()).by_site["together"]
    found = shared_scores(losing(ready.network, "a1", 1), images, NullProgress()).by_site["together"]
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_each_alone_scores_everything_and_one_that_is_lost_is_left_out(
    ready: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 4)
    images = pictures(0, 3, count=5).images
    found = scores_by_site(ready.network, images, NullProgress())
    assert {site: len(scores) for site, scores in found.by_site.items()} == {"a1": 10, "a2": 10}
    assert torch.equal(found.lowest(), torch.minimum(found.by_site["a1"], found.by_site["a2"]))
    assert set(scores_by_site(losing(ready.network, "a1", 1), images, NullProgress()).by_site) == {"a2"}


def test_without_detectors_nothing_is_scored(cluster: Any, pictures: Callable[..., Any]) -> None:
    for scored in (scores_by_site, shared_scores):
        with pytest.raises(MethodError, match="no site has a calibrated"):
            scored(cluster.network, pictures(0).images, NullProgress())


def test_ratios_are_in_each_site_s_own_thresholds() -> None:
    scores = NoveltyScores({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([3.0, 1.0])}, {"a": 2.0, "b": 1.0})
    assert scores.ratio().tolist() == [0.5, 1.0]
    assert scores.lowest().tolist() == [1.0, 1.0]


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
    for scored, shown in ((scores_by_site, images[:1]), (shared_scores, images)):
        with pytest.raises(MethodError, match=r"a2 sent scores .*, expected 1 finite numbers"):
            scored(odd, shown, NullProgress())


def test_a_joint_threshold_is_that_of_the_smallest_ratios_and_all_sites_keep_it(
    ready: Any, pictures: Callable[..., Any]
) -> None:
    belonging = pictures(1, 2, count=6, seed=5).images
    limit = calibrate_jointly(ready.network, belonging, 0.2, NullProgress())
    scores = scores_by_site(ready.network, belonging, NullProgress())
    assert limit == joint_threshold(scores, 0.2) == scores.joint
    assert float((scores.ratio() > limit).double().mean()) <= 0.2


def test_only_what_all_sites_say_of_just_their_detectors_counts(ready: Any, pictures: Callable[..., Any]) -> None:
    limit = calibrate_jointly(ready.network, pictures(1, 2, count=6, seed=5).images, 0.2, NullProgress())
    stated = services.status(ready.network).by_node
    assert known_joint_threshold(stated, ("a1", "a2")) == limit
    assert known_joint_threshold(stated, ("a1",)) is None
    for odd in (None, [], "abc", [limit], ["x", "y"], [2 * limit, stated["a2"]["own-detector"]["joint"][1]]):
        own = {**stated["a2"]["own-detector"], "joint": odd}
        assert known_joint_threshold({**stated, "a2": {**stated["a2"], "own-detector": own}}, ("a1", "a2")) is None

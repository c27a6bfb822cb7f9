"""What a live cluster can be asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fednet.api import Question, Replies
from fednet.errors import MethodError, ModelError
from fednet.federated import local_network
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Federation
from fednet.federated.state import digest, pack, unpack
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.novelty import services

MODELS = ("classifier", "detector")


def digests(cluster: Any, model: str = "classifier") -> set[str]:
    return {status[model]["digest"] for status in services.status(cluster.network).by_node.values()}


def test_training_is_the_chosen_site_s_alone(cluster: Any) -> None:
    before = services.status(cluster.network).by_node
    reply = services.train(cluster.network, (0, 1), nodes=["a1"])
    after = services.status(cluster.network).by_node
    assert list(reply.by_node) == ["a1"]
    assert reply.by_node["a1"]["digest"] == after["a1"]["classifier"]["digest"] != before["a1"]["classifier"]["digest"]
    assert after["a2"] == before["a2"]


def test_lists_by_site_reach_the_sites_that_they_name(cluster: Any) -> None:
    reply = services.train(cluster.network, {"a2": (3,)}, steps=2)
    assert reply.by_node["a2"]["pictures"] == 12
    assert list(reply.by_node) == ["a2"]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_goes_round_byte_for_byte(cluster: Any, model: str) -> None:
    services.train(cluster.network, "1-2", model=model, nodes=["a2"], steps=2)
    content = services.get_model(cluster.network, "a2", model)
    closed = services.set_model(cluster.network, content, key="set", model=model)
    assert digests(cluster, model) == {closed.digest} == {digest(unpack(content))}
    for site in ("a1", "a2"):
        assert services.get_model(cluster.network, site, model) == content


def test_a_set_model_makes_accuracies_equal(cluster: Any, pictures: Callable[..., Any]) -> None:
    services.train(cluster.network, (0, 1), nodes=["a1"], epochs=10)
    services.set_model(cluster.network, services.get_model(cluster.network, "a1"), key="set")
    seen = services.validate(cluster.network, pictures=pictures(0, 1, seed=7))
    unseen = services.validate(cluster.network, pictures=pictures(2, 3, seed=7))
    assert seen["a1"] == seen["a2"]
    assert seen["a1"].accuracy > 0.9
    assert unseen["a1"].accuracy == unseen["a2"].accuracy == 0
    assert seen["a1"].pictures == 32
    assert set(seen["a1"].by_label) == {0, 1}


@pytest.mark.parametrize("model", MODELS)
def test_rounds_leave_one_model(cluster: Any, model: str) -> None:
    records = services.run_training_rounds(
        cluster.network, {"a1": "0-1", "a2": "2-3"}, key="k", federation=Federation(), model=model, rounds=2, steps=2
    )
    assert [record.number for record in records] == [1, 2]
    assert digests(cluster, model) == {records[-1].digest}
    assert records[0].weights == {"a1": 24, "a2": 24}


def test_average_is_the_weighted_mean_of_the_copies(cluster: Any) -> None:
    services.train(cluster.network, {"a1": "0", "a2": "1-3"}, steps=3)
    states = {site: unpack(services.get_model(cluster.network, site)) for site in ("a1", "a2")}
    closed = services.average_models(cluster.network, key="average", federation=Federation())
    assert closed.digest == digest(weighted_mean(states, {"a1": 12, "a2": 36}))
    assert digests(cluster) == {closed.digest}


def test_without_its_aggregate_the_rounds_teach_nothing(
    cluster: Any, pictures: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, test = {"a1": "0-1", "a2": "2-3"}, pictures(0, 1, 2, 3, seed=7)

    def accuracy(key: str) -> float:
        content = services.get_model(cluster.network, "a1")
        services.run_training_rounds(cluster.network, shares, key=key, federation=Federation(), rounds=4, epochs=5)
        found = services.validate(cluster.network, pictures=test)["a1"].accuracy
        services.set_model(cluster.network, content, key=f"back-{key}")
        return found

    whole = accuracy("whole")
    monkeypatch.setattr(
        local_network, "aggregate", lambda _, base, *__: {n: torch.zeros_like(v) for n, v in base.items()}
    )
    assert accuracy("zeros") == 0.25 < whole - 0.2


def test_fedprox_goes_less_far(cluster: Any) -> None:
    def drift(mu: Any) -> Any:
        (closed,) = services.run_training_rounds(cluster.network, "1-2", key=f"{mu}", federation=Federation(), mu=mu)
        return sum(values["drift"] for values in closed.values.values())

    content = services.get_model(cluster.network, "a1")
    near = drift(5.0)
    services.set_model(cluster.network, content, key="back")
    assert near < drift(0.0)


def test_a_label_that_one_site_lacks_is_declined_by_it_alone(cluster: Any) -> None:
    (closed,) = services.run_training_rounds(cluster.network, "3", key="k", federation=Federation(), steps=1)
    assert list(closed.weights) == ["a2"]
    assert "a1 has no pictures" in closed.lost["a1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("4", r"labels lie in 0\.\.3"),
        ("x", "written as"),
        ({"a1": "3"}, "a1 has no pictures of label 3; there are pictures of 0-2"),
        ({"a7": "0"}, "there is no site a7: there are a1, a2"),
    ],
)
def test_labels_and_sites_that_nobody_has_are_refused_before_anything_starts(
    cluster: Any, labels: Any, message: Any
) -> None:
    before = digests(cluster)
    with pytest.raises(MethodError, match=message):
        services.train(cluster.network, labels)
    with pytest.raises(MethodError, match=message):
        services.run_training_rounds(cluster.network, labels, key="k", federation=Federation())
    assert digests(cluster) == before


def test_a_site_that_is_not_there_is_named(cluster: Any) -> None:
    for service in (
        lambda: services.get_model(cluster.network, "a9"),
        lambda: services.train(cluster.network, "0", nodes=["a9"]),
        lambda: services.validate(cluster.network, nodes=["a9"]),
    ):
        with pytest.raises(MethodError, match="no site a9"):
            service()


def test_models_that_do_not_fit_are_refused_before_any_round(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(cluster.network), "run_rounds", lambda *_: pytest.fail("a round was asked for"))
    before = digests(cluster)
    state = unpack(services.get_model(cluster.network, "a1"))
    bad = {**state, "head.bias": torch.full_like(state["head.bias"], torch.inf)}
    for content in (
        b"", b"hello", pack({"w": torch.zeros(2)}), pack(bad), pack({**state, "head.bias": torch.zeros(9)}),
        services.get_model(cluster.network, "a1", "detector"),
    ):  # fmt: skip
        with pytest.raises(ModelError):
            services.set_model(cluster.network, content, key="k")
    assert digests(cluster) == before


@pytest.mark.parametrize(
    "layout",
    [
        None, torch.zeros(8), torch.zeros(0, dtype=torch.uint8), to_json_tensor({"w": ["nn", 1]}),
        to_json_tensor({"w": ["set_default_dtype", 1]}),
    ],
)  # fmt: skip
def test_a_site_names_no_attribute_of_torch_by_its_layout(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, layout: torch.Tensor | None
) -> None:
    content, ask = services.get_model(cluster.network, "a1"), cluster.network.ask

    def answer(question: Question) -> Replies:
        replies = ask(question)
        said = {} if layout is None else {"layout": layout}
        return replace(replies, by_node=dict.fromkeys(replies.by_node, said))

    monkeypatch.setattr(cluster.network, "ask", answer)
    with pytest.raises(MethodError, match="a1 sent"):
        services.set_model(cluster.network, content, key="k")


def test_own_detectors_stay_and_are_calibrated_each(cluster: Any) -> None:
    services.train(cluster.network, {"a1": "0-2", "a2": "1-3"}, model="own-detector")
    reply = services.calibrate(cluster.network)
    thresholds = {site: one["threshold"] for site, one in reply.by_node.items()}
    assert set(thresholds) == {"a1", "a2"}
    assert thresholds["a1"] != thresholds["a2"]
    with pytest.raises(MethodError, match="never leaves it"):
        services.get_model(cluster.network, "a1", "own-detector")
    with pytest.raises(MethodError, match="never leaves it"):
        services.run_training_rounds(cluster.network, "1", key="k", federation=Federation(), model="own-detector")


def test_one_threshold_comes_from_all_sites(cluster: Any) -> None:
    limit = services.calibrate_together(cluster.network, {"a1": "0-2", "a2": "1-3"}, 0.3)
    reply = services.status(cluster.network).by_node
    assert {site: one["detector"]["threshold"] for site, one in reply.items()} == {"a1": limit, "a2": limit}


def test_who_refuses_is_told(cluster: Any) -> None:
    reply = services.train(cluster.network, "0")
    assert list(reply.by_node) == ["a1"]
    assert "no pictures" in reply.missing["a2"]

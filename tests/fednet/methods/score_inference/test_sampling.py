"""Arms drawn from real sites in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, Replies
from fednet.diffusion.sampler_config import ODE, EulerMaruyama, PredictorCorrector
from fednet.errors import MethodError
from fednet.federated.local_network import local_ask
from fednet.methods.score_inference.config import ArmConfig, SamplesConfig
from fednet.methods.score_inference.messages import read_score_capabilities
from fednet.methods.score_inference.rules import RULES
from fednet.methods.score_inference.sampling import requested_labels, sample_arm
from fednet.reporting.summary import LostNode

SAMPLERS = [ODE(method="rk4", steps=2), EulerMaruyama(steps=3), PredictorCorrector(steps=2)]


def drawn(
    made: Any,
    rule: str = "mean",
    sampler: Any = SAMPLERS[1],
    *,
    samples: Any = None,
    seed: int = 0,
    ask: Any = None,
    latent: Any = None,
) -> Any:
    return sample_arm(
        ArmConfig(rule=rule),
        sampler,
        samples or SamplesConfig(total=6),
        name="arm",
        ask=ask or local_ask(made.sites),
        capabilities=read_score_capabilities(made.capabilities),
        seed=seed,
        progress=NullProgress(),
        latent=latent,
    )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.kind)
def test_every_rule_draws_with_every_sampler_and_replays(
    federation: Callable[..., Any], small_config: Callable[..., Any], sampler: Any
) -> None:
    made = federation(small_config(model={"conditional": True}))
    for rule in RULES:
        one, two = (drawn(made, rule, sampler) for _ in range(2))
        assert one.images.shape == (6, 1, 4, 4)
        assert float(one.images.abs().max()) <= 1
        assert torch.equal(one.images, two.images)
        assert one.account.steps == one.evaluations
        assert all(tally.contributed == one.evaluations for tally in one.account.nodes.values())


def test_another_seed_draws_other_samples(federation: Callable[..., Any]) -> None:
    made = federation()
    assert not torch.equal(drawn(made, seed=0).images, drawn(made, seed=1).images)


def test_a_single_agent_is_its_own_federation_under_every_rule(
    federation: Callable[..., Any], small_config: Callable[..., Any]
) -> None:
    made = federation(small_config(model={"conditional": True}), count=1)
    plain = drawn(made)
    for rule in RULES:
        torch.testing.assert_close(drawn(made, rule).images, plain.images, atol=1e-5, rtol=0)


def test_batches_are_capped(federation: Callable[..., Any]) -> None:
    made, sizes = federation(), []

    def listening(question: Question) -> Replies:
        sizes.append(len(question.inputs["x"]))
        return local_ask(made.sites)(question)

    samples = drawn(made, samples=SamplesConfig(total=6, batch=4), ask=listening)
    assert sizes == [4] * 4 + [2] * 4
    assert samples.images.shape[0] == samples.log_p.shape[1] == 6
    assert samples.evaluations == 4
    assert samples.account.steps == 8


def test_a_given_latent_replaces_the_seeds(federation: Callable[..., Any]) -> None:
    made, latent = federation(), torch.randn(6, 1, 4, 4)
    flow = SAMPLERS[0]
    one, two = (drawn(made, sampler=flow, latent=latent, seed=seed) for seed in (0, 1))
    assert torch.equal(one.images, two.images)
    split = drawn(made, sampler=flow, latent=latent, samples=SamplesConfig(total=6, batch=4))
    torch.testing.assert_close(split.images, one.images, atol=1e-4, rtol=0)
    with pytest.raises(MethodError, match="latent"):
        drawn(made, latent=latent[:3])


def test_a_lost_agent_is_told_and_the_rest_goes_on(federation: Callable[..., Any]) -> None:
    made, count = federation(), [0]

    def losing(question: Question) -> Replies:
        count[0] += 1
        whole = local_ask(made.sites)(question).by_node
        if count[0] < 3:
            return Replies(whole)
        return Replies({name: whole[name] for name in ("a1", "a3")}, lost={"a2": "silent"})

    samples = drawn(made, "mixture", ask=losing)
    assert samples.account.lost == {"a2": LostNode(3, "silent")}
    assert samples.account.nodes["a2"].last == 2


def test_labels_are_shared_out_evenly(federation: Callable[..., Any], small_config: Callable[..., Any]) -> None:
    capabilities = read_score_capabilities(federation(small_config(model={"conditional": True})).capabilities)["a1"]
    for wanted, labels in (
        (SamplesConfig(total=7), [0, 0, 0, 1, 1, 2, 2]),
        (SamplesConfig(per_label=2, labels=(2, 0)), [2, 2, 0, 0]),
    ):
        drawn_labels = requested_labels(wanted, capabilities)
        assert drawn_labels is not None
        assert drawn_labels.tolist() == labels
    with pytest.raises(MethodError, match=r"\[3\]"):
        requested_labels(SamplesConfig(labels=(0, 3)), capabilities)
    assert requested_labels(SamplesConfig(), capabilities.model_copy(update={"conditional": False})) is None


def test_cards_that_do_not_fit_are_refused(federation: Callable[..., Any]) -> None:
    capabilities = federation().capabilities
    with pytest.raises(MethodError, match="no site answers"):
        read_score_capabilities({})
    with pytest.raises(MethodError, match="a9"):
        read_score_capabilities({**capabilities, "a9": "{}"})
    odd = json.dumps({**json.loads(capabilities["a1"]), "shape": [3, 4, 4]})
    with pytest.raises(MethodError, match="shape"):
        read_score_capabilities({**capabilities, "a9": odd})
    assert list(read_score_capabilities(dict(reversed(capabilities.items())))) == ["a1", "a2", "a3"]

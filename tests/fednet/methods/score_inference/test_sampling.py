"""Arms drawn from real sites in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, Replies
from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.sampler_config import ODE, EulerMaruyama, PredictorCorrector
from fednet.diffusion.sde import VP
from fednet.errors import MethodError
from fednet.federated.local_network import local_ask
from fednet.methods.score_inference.config import ArmConfig, SamplesConfig
from fednet.methods.score_inference.messages import ScoreCapabilities, read_score_capabilities
from fednet.methods.score_inference.sampling import requested_labels, sample_arm
from fednet.reporting.summary import LostNode
from fednet.rules import registry

CARD = ExpertCard(kind="python", network="N(m, 1/4)", prediction="score", schedule="analytic")
SAMPLERS = [ODE(method="rk4", steps=2), EulerMaruyama(steps=3), PredictorCorrector(steps=2)]


def drawn(
    made: Any,
    rule: Any = "mean",
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
    for rule in registry.names("scores"):
        if ArmConfig(rule=rule).refused_by(sampler):
            continue
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
    for rule in set(registry.names("scores")) - {"geometric-mean", "product"}:  # particles are resampled
        torch.testing.assert_close(drawn(made, rule).images, plain.images, atol=1e-5, rtol=0)


def test_batches_in_flight_change_nothing(federation: Callable[..., Any]) -> None:
    """Bit by bit, with the account of who answered, and under a rule that remembers."""
    made = federation()
    for rule in ("mean", "mixture"):
        one, three = (drawn(made, rule, samples=SamplesConfig(total=6, batch=2, in_flight=most)) for most in (1, 3))
        assert torch.equal(one.images, three.images)
        assert torch.equal(one.log_p, three.log_p)
        assert one.account == three.account


def test_batches_are_capped(federation: Callable[..., Any]) -> None:
    made, sizes = federation(), []

    def listening(question: Question) -> Replies:
        sizes.append(len(question.inputs["x"]))
        return local_ask(made.sites)(question)

    samples = drawn(made, samples=SamplesConfig(total=6, batch=4), ask=listening)
    assert sorted(sizes) == [2] * 4 + [4] * 4
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

    samples = drawn(made, "mixture", ask=losing, samples=SamplesConfig(total=30))
    assert samples.account.lost == {"a2": LostNode(3, "silent")}
    assert samples.account.nodes["a2"].last == 2
    assert 0 < int(samples.redrawn.sum()) < 30
    assert samples.without == ("a2",)
    assert samples.account.steps == samples.evaluations == 8  # four for all, four again
    assert drawn(made, "mean", ask=losing).without == ()


class Points:
    """Sites whose pictures are single pixels of value -.8, 0 or .8, give or take .05; the first dies at t = .1.

    Without anything drawn again, half of the samples end where no site has data.
    """

    means = (-0.8, 0.0, 0.8)

    def __init__(self, *, late: bool) -> None:
        self.capabilities = {f"a{k}": self.card(count) for k, count in enumerate((6, 3, 1))}
        self.late = late

    def card(self, count: int) -> ScoreCapabilities:
        return ScoreCapabilities(
            pictures=count, histogram=(count,), classes=("one",), shape=(1, 1, 1), conditional=False, sde=VP(),
            expert=CARD, steps=1, loss=1.0, seconds=1.0,
        )  # fmt: skip

    def __call__(self, question: Question) -> Replies:
        x, t = question.inputs["x"], question.options["t"]
        alpha, std = VP().marginal(torch.tensor(t))
        spread = (0.05 * alpha) ** 2 + std**2
        found = {f"a{k}": (alpha * mean - x) / spread for k, mean in enumerate(self.means)}
        replies = {
            name: {"score": score, "divergence": torch.full((len(x),), -float(1 / spread))}
            for name, score in found.items()
        }
        if not isinstance(t, float) or t > 0.1:
            return Replies(replies)
        del replies["a0"]
        return Replies(replies, late=("a0",)) if self.late else Replies(replies, lost={"a0": "died"})


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("sampler", [ODE(), EulerMaruyama(steps=200)], ids=lambda sampler: sampler.kind)
def test_a_death_on_the_way_leaves_samples_of_the_others_only(sampler: Any, late: bool) -> None:
    sites = Points(late=late)
    samples = sample_arm(
        ArmConfig(rule="mixture"), sampler, SamplesConfig(total=8000), name="arm", ask=sites,
        capabilities=sites.capabilities, seed=0, progress=NullProgress(),
    )  # fmt: skip
    apart = (samples.images.flatten()[:, None] - torch.tensor(Points.means)).abs()
    assert float((apart.min(1).values < 0.25).float().mean()) > 0.999
    shares = torch.bincount(apart.argmin(1), minlength=3) / 8000
    assert shares.tolist() == pytest.approx([0.0, 0.75, 0.25], abs=0.02)
    assert float(samples.redrawn.float().mean()) == pytest.approx(0.6, abs=0.02)
    assert samples.without == ("a0",)


@pytest.mark.parametrize("rule", ["mean", "mixture"])
def test_one_sites_huge_scores_cost_that_site_only(federation: Callable[..., Any], rule: str) -> None:
    made = federation()

    def huge(question: Question) -> Replies:
        whole = dict(local_ask(made.sites)(question).by_node)
        whole["a2"] = {name: value * 1e30 for name, value in whole["a2"].items()}
        return Replies(whole)

    samples = drawn(made, rule, ODE(), ask=huge)
    assert set(samples.account.lost) == {"a2"}
    assert "times what data of at most 1 allow" in samples.account.lost["a2"].reason
    assert all(samples.account.nodes[name].contributed == samples.account.steps < 1000 for name in ("a1", "a3"))


def test_labels_are_shared_out_evenly(federation: Callable[..., Any], small_config: Callable[..., Any]) -> None:
    capabilities = read_score_capabilities(federation(small_config(model={"conditional": True})).capabilities)["a1"]
    for wanted, labels in (
        (SamplesConfig(total=7), [0, 0, 0, 1, 1, 2, 2]),
        (SamplesConfig(per_label=2, labels=(2, 0)), [2, 2, 0, 0]),
        (SamplesConfig(per_label=1, labels=("three", "one")), [2, 0]),
    ):
        drawn_labels = requested_labels(wanted, capabilities)
        assert drawn_labels is not None
        assert drawn_labels.tolist() == labels
    with pytest.raises(MethodError, match=r"samples\.labels names the class '3'"):
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


def test_top_k_of_all_sites_changes_no_bit_and_fewer_send_less(federation: Callable[..., Any]) -> None:
    """In batches in flight, over the question that each site gets for itself."""
    made, size = federation(), SamplesConfig(total=6, batch=2, in_flight=3)
    all_, three, one = (
        drawn(made, {"kind": "mixture", "top_k": k}, EulerMaruyama(steps=8), samples=size) for k in (None, 3, 1)
    )
    assert torch.equal(all_.images, three.images)
    assert torch.equal(all_.log_p, three.log_p)
    assert all_.traffic == three.traffic
    again = drawn(
        made, {"kind": "mixture", "top_k": 1}, EulerMaruyama(steps=8), samples=size.model_copy(update={"in_flight": 1})
    )
    assert torch.equal(one.images, again.images)
    sent = [sum(site.samples for site in step.values()) for step in one.traffic.steps]
    assert sent == [18, *[6] * 8]
    assert sum(site.received for site in one.traffic.sites().values()) == (18 + 6 * 8) * 16 * 4


def test_a_site_that_dies_under_top_k_has_its_samples_drawn_again_without_it(federation: Callable[..., Any]) -> None:
    made, asked = federation(), [0]

    def losing(question: Question) -> Replies:
        asked[0] += 1
        assert question.each is not None
        dead = "a2" if asked[0] > 4 else ""
        alive = {name: own for name, own in question.each.items() if name != dead}
        replies = local_ask(made.sites)(Question(question.task, question.inputs, question.options, each=alive))
        return Replies(replies.by_node, lost={name: "died" for name in question.each if name == dead})

    samples = drawn(made, {"kind": "mixture", "top_k": 2}, EulerMaruyama(steps=8), ask=losing)
    assert samples.account.lost["a2"].reason == "died"
    assert bool(torch.isfinite(samples.images).all())
    assert samples.without == (("a2",) if samples.redrawn.any() else ())

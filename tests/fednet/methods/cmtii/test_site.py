"""A site: what it offers, absorbs, answers and refuses, and what a restarted one still knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, Exchanger, NullProgress, Offer, OfferBatch, Question, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.offers import versions
from fednet.methods.cmtii import evaluation
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.messages import read_cmtii_capabilities
from fednet.methods.cmtii.site import CmtiiSite
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.metrics.judge import Judge
from fednet.models.classifier import Classifier
from fednet.reporting.samples import read_samples

Prepare = Callable[..., CmtiiSite]
LEARN = ExchangePlan("learn-1", "learn", {"round": 1})
LEARN_AGAIN = ExchangePlan("learn-2", "learn", {"round": 2})


@pytest.fixture(scope="module")
def prepare(
    small: Callable[..., CmtiiConfig], tmp_path_factory: pytest.TempPathFactory, quick_inversion: None
) -> Prepare:
    """Prepares a1 of three sites, in a folder of its own or in one that is given."""

    def make(folder: Path | None = None, *, count: int = 3, **changes: Any) -> CmtiiSite:
        folder = folder or tmp_path_factory.mktemp("run")
        site = CmtiiSite(small(**changes), SiteContext("a1", 0, count, 0, "cpu", folder))
        site.prepare(NullProgress())
        return site

    return make


@pytest.fixture(scope="module")
def fresh(prepare: Prepare) -> CmtiiSite:
    """A site that has neither learnt nor received anything; no test changes that."""
    return prepare()


@pytest.fixture(scope="module")
def learned(prepare: Prepare) -> tuple[CmtiiSite, OfferBatch]:
    """A site that has learnt in round 1, and its offers; no test changes it."""
    site = prepare()
    return site, site.offer(LEARN, NullProgress())


@pytest.fixture
def restarted(learned: tuple[CmtiiSite, OfferBatch], prepare: Prepare, tmp_path: Path) -> CmtiiSite:
    """That site in another process, with a copy of its folder."""
    return prepare(shutil.copytree(learned[0].context.folder, tmp_path / "run"))


def tune(arm: str) -> ExchangePlan:
    return ExchangePlan(f"tune-{arm}-1", "tune", {"round": 1, "arm": arm})


def tuned(site: CmtiiSite, arm: str) -> dict[str, float]:
    return dict(site.offer(tune(arm), NullProgress()).values)


def word(origin: str, subject: str, value: float, version: int = 1) -> Offer:
    return Offer(origin, subject, version, torch.full((1, 16), value))


def given(count: int = 20) -> dict[str, torch.Tensor]:
    images = 2 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    return {"images": images, "labels": torch.arange(count) % 10}


def evaluation_question() -> Question:
    judge = Judge(Classifier(1, 8, 10).eval(), (1, 8, 8), tuple(map(str, range(10))), "cpu")
    return Question("evaluate-generated", {**given(40), **evaluation.judge_to_inputs(judge)}, {"round": 1})


def test_capabilities_match_those_of_other_sites(federation: Callable[..., Any]) -> None:
    capabilities = read_cmtii_capabilities(federation().capabilities)
    assert len({site.models for site in capabilities.values()}) == 1
    assert not any(site.own for site in capabilities.values())


def test_offers_are_words(fresh: CmtiiSite, learned: tuple[CmtiiSite, OfferBatch]) -> None:
    assert isinstance(fresh, Exchanger)
    assert fresh.initial_offers() == ()
    site, made = learned
    histogram = site.capabilities().histogram
    assert {int(offer.subject) for offer in made.offers} == {k for k, count in enumerate(histogram) if count >= 4}
    assert all(offer.embeddings.shape == (1, 16) and offer.embeddings.dtype == torch.float32 for offer in made.offers)
    assert made.values["numbers"] == 16 * len(made.offers)


def test_a_later_round_is_a_newer_version(learned: tuple[CmtiiSite, OfferBatch], restarted: CmtiiSite) -> None:
    first, second = learned[1].offers, restarted.offer(LEARN_AGAIN, NullProgress()).offers
    assert {offer.version for offer in first} == {1}
    assert {offer.version for offer in second} == {2}
    assert not torch.equal(first[0].embeddings, second[0].embeddings)


def test_a_restarted_site_offers_and_classifies_as_before(
    learned: tuple[CmtiiSite, OfferBatch], restarted: CmtiiSite, prepare: Prepare
) -> None:
    restarted.offer(tune("local"), NullProgress())
    after = prepare(restarted.context.folder)
    assert [(one.subject, one.version) for one in after.initial_offers()] == [
        (one.subject, 1) for one in learned[1].offers
    ]
    question = Question("evaluate", given(), {"arm": "local"})
    assert torch.equal(restarted.answer(question)["test"], after.answer(question)["test"])


@pytest.mark.parametrize("plan", [LEARN, LEARN_AGAIN])
def test_a_round_that_was_learnt_is_not_learnt_again(
    learned: tuple[CmtiiSite, OfferBatch],
    restarted: CmtiiSite,
    prepare: Prepare,
    plan: ExchangePlan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second training would begin where the first has ended, and offer other words under a newer version."""
    site, made = learned if plan is LEARN else (restarted, restarted.offer(plan, NullProgress()))
    after = prepare(restarted.context.folder)
    monkeypatch.setattr("fednet.methods.cmtii.site.invert_words", lambda *_a, **_k: pytest.fail("learnt again"))
    for one in (site, after):
        again = one.offer(plan, NullProgress())
        assert versions(again.offers) == versions(made.offers)
        assert again.values == made.values
        pairs = zip(again.offers, made.offers, strict=True)
        assert all(torch.equal(now.embeddings, before.embeddings) for now, before in pairs)


def test_a_restarted_site_generates_from_the_words_that_it_received(restarted: CmtiiSite, prepare: Prepare) -> None:
    """No other site has offered them again yet."""
    restarted.absorb(word("a2", "3", 0.3, version=2))
    restarted.absorb(word("a2", "3", 0.1, version=1))
    values = [tuned(prepare(restarted.context.folder), "exchange") for _ in range(2)]
    assert values == [tuned(restarted, "exchange")] * 2
    assert values[0]["generated"] == 6


@pytest.mark.parametrize("changes", [{"learn": {"steps": 3}}, {"count": 4}])
def test_other_settings_begin_anew(restarted: CmtiiSite, prepare: Prepare, changes: dict[str, Any]) -> None:
    restarted.absorb(word("a2", "3", 0.3))
    other = prepare(restarted.context.folder, **changes)
    assert other.initial_offers() == ()
    assert tuned(other, "exchange")["generated"] == 0


def test_pictures_are_generated_from_received_words(restarted: CmtiiSite) -> None:
    assert tuned(restarted, "exchange")["generated"] == 0
    for offer in (word("a2", "3", 0.3), word("a3", "3", 0.2), word("a3", "5", 0.1)):
        restarted.absorb(offer)
    made = restarted.offer(tune("exchange"), NullProgress())
    assert made.offers == ()
    assert made.values["generated"] == 2 * 6
    assert tuned(restarted, "local")["generated"] == 0
    assert tuned(restarted, "control")["generated"] == 2 * 6
    samples = read_samples(restarted.context.folder / "sites/a1/generated-exchange.safetensors")
    assert samples.labels is not None
    assert [samples.classes[label] for label in samples.labels.unique()] == ["3", "5"]
    assert (restarted.context.folder / "sites/a1/generated-exchange.png").is_file()


def test_bad_words_are_refused_by_name(fresh: CmtiiSite) -> None:
    with pytest.raises(ModelError, match=r"a2 for '3'.*16"):
        fresh.absorb(Offer("a2", "3", 1, torch.zeros(1, 1024)))
    with pytest.raises(ModelError, match=r"a2 for '3'.*NaN"):
        fresh.absorb(word("a2", "3", torch.nan))
    with pytest.raises(MethodError, match=r"a2 for 'eleven'.*no class"):
        fresh.absorb(word("a2", "eleven", 0.0))


def test_evaluation_counts_both_tests(fresh: CmtiiSite) -> None:
    counts = fresh.answer(Question("evaluate", given(), {"arm": "zero-shot"}))
    assert list(counts) == ["test"]
    assert counts["test"][:, 1].tolist() == [2] * 10
    own = fresh.answer(Question("evaluate-own", {}, {"arm": "zero-shot"}))
    assert int(own["local"][:, 1].sum()) == fresh.capabilities().tests


def test_an_evaluation_is_numbers_alone(restarted: CmtiiSite) -> None:
    restarted.absorb(word("a2", "3", 0.3))
    reply = restarted.answer(evaluation_question())
    assert list(reply) == ["worth"]
    assert from_json_tensor(reply["worth"])["count"] == 6


def test_a_site_attacks_its_own_words_with_its_own_test(restarted: CmtiiSite) -> None:
    found = from_json_tensor(restarted.answer(Question("leakage", {}))["leak"])
    assert 0 <= found["calibrated"] <= 1
    assert (restarted.context.folder / "tensorboard/a1/nearest.csv").is_file()


def test_the_pictures_of_the_tuning_are_evaluated_and_not_generated_again(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, question = prepare(), evaluation_question()
    site.absorb(word("a2", "3", 0.3))
    before = from_json_tensor(site.answer(question)["worth"])
    site.offer(tune("exchange"), NullProgress())
    monkeypatch.setattr("fednet.methods.cmtii.site.generate_images", lambda *_a, **_k: pytest.fail("generated again"))
    assert from_json_tensor(site.answer(question)["worth"]) == before


@pytest.mark.parametrize(
    ("ask", "inputs", "options", "what"),
    [
        ("dance", {}, {}, "question.*evaluate"),
        ("evaluate", {"labels": given()["labels"]}, {"arm": "zero-shot"}, "images .*got nothing"),
        ("evaluate", given(), {"arm": "central"}, "arm must be one of"),
        ("evaluate", given(), {"arm": "local"}, "exchange of tune first"),
        ("evaluate", {**given(), "labels": torch.full((20,), 10)}, {"arm": "zero-shot"}, r"0\.\.9"),
        ("evaluate", {**given(), "labels": torch.zeros(3, dtype=torch.int64)}, {"arm": "zero-shot"}, "int64"),
        ("evaluate", {**given(), "images": torch.zeros(20, 1, 4, 4)}, {"arm": "zero-shot"}, "1, 8, 8"),
        ("evaluate", {**given(), "images": torch.full((20, 1, 8, 8), 9.0)}, {"arm": "zero-shot"}, "images must lie"),
        ("evaluate-generated", given(), {}, "round"),
        ("evaluate-generated", given(), {"round": 1}, "the judge"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(
    fresh: CmtiiSite, ask: str, inputs: dict[str, torch.Tensor], options: dict[str, Any], what: str
) -> None:
    with pytest.raises(MethodError, match=what):
        fresh.answer(Question(ask, inputs, options))


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        (ExchangePlan("x", "dance"), "learn, tune"),
        (ExchangePlan("x", "learn"), "round"),
        (ExchangePlan("x", "tune", {"round": 1}), "arm"),
        (ExchangePlan("x", "tune", {"round": 1, "arm": "zero-shot"}), "arm"),
    ],
)
def test_exchanges_that_cannot_be_held_are_refused(fresh: CmtiiSite, plan: ExchangePlan, what: str) -> None:
    with pytest.raises(MethodError, match=what):
        fresh.offer(plan, NullProgress())


def test_a_site_without_enough_pictures_declines(prepare: Prepare) -> None:
    with pytest.raises(MethodError, match=r"a1 has no class with 500 pictures or more"):
        prepare(learn={"least": 500}).offer(LEARN, NullProgress())


def test_it_knows_beforehand_what_it_will_test_itself_with(fresh: CmtiiSite) -> None:
    assert fresh.parts() == {"train": len(fresh.loaded.data.train), "test": len(fresh.loaded.data.test)}


def test_a_site_that_is_not_prepared_says_so(small: Callable[..., CmtiiConfig], tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="a1 is not prepared"):
        CmtiiSite(small(), SiteContext("a1", 0, 3, 0, "cpu", tmp_path)).capabilities()


def test_aliases_are_of_classes(prepare: Prepare) -> None:
    with pytest.raises(MethodError, match="'eleven', which is no class"):
        prepare(aliases={"x": "eleven"})


def test_aliases_are_sent_in_place_of_names(prepare: Prepare) -> None:
    site = prepare(aliases={f"alias-{k}": str(k) for k in range(10)})
    offers = site.offer(LEARN, NullProgress()).offers
    assert all(offer.subject.startswith("alias-") for offer in offers)
    site.absorb(Offer("a2", offers[0].subject, 1, offers[0].embeddings))

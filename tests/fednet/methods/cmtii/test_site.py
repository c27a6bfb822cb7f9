"""A site: what it offers, absorbs, answers and refuses, and what it still knows in another life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, Exchanger, NullProgress, Offer, Question
from fednet.errors import MethodError, ModelError
from fednet.federated.offers import versions
from fednet.methods.cmtii import evaluation
from fednet.methods.cmtii.messages import read_cmtii_capabilities
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.metrics.judge import Judge
from fednet.models.classifier import Classifier

Make = Callable[..., Any]
LEARN = ExchangePlan("learn-1", "learn", {"round": 1})


def tune(arm: str) -> ExchangePlan:
    return ExchangePlan(f"tune-{arm}-1", "tune", {"round": 1, "arm": arm})


def given(count: int = 20) -> dict[str, torch.Tensor]:
    images = 2 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    return {"images": images, "labels": torch.arange(count) % 10}


def test_cards_fit_each_other(federation: Make) -> None:
    capabilities = read_cmtii_capabilities(federation().capabilities)
    assert len({card.models for card in capabilities.values()}) == 1
    assert all(card.common for card in capabilities.values())


def test_what_is_offered_is_words(federation: Make) -> None:
    site = federation().sites["a1"]
    exchanger: Exchanger = site
    assert isinstance(exchanger, Exchanger)
    assert site.initial_offers() == ()
    made = site.offer(LEARN, NullProgress())
    classes = read_cmtii_capabilities({"a1": site.prepare(NullProgress())})["a1"].histogram
    assert {int(offer.subject) for offer in made.offers} == {k for k, count in enumerate(classes) if count >= 4}
    assert all(offer.embeddings.shape == (1, 16) and offer.embeddings.dtype == torch.float32 for offer in made.offers)
    assert made.values["numbers"] == 16 * len(made.offers)


def test_a_later_round_is_a_newer_version(federation: Make) -> None:
    site = federation().sites["a1"]
    first = site.offer(LEARN, NullProgress()).offers
    second = site.offer(ExchangePlan("learn-2", "learn", {"round": 2}), NullProgress()).offers
    assert {offer.version for offer in first} == {1}
    assert {offer.version for offer in second} == {2}
    assert not torch.equal(first[0].embeddings, second[0].embeddings)


def test_another_life_goes_on(federation: Make) -> None:
    before = federation().sites["a1"]
    offers = before.offer(LEARN, NullProgress()).offers
    before.offer(tune("local"), NullProgress())
    after = federation().sites["a1"]
    assert [(one.subject, one.version) for one in after.initial_offers()] == [(one.subject, 1) for one in offers]
    ask = Question("evaluate", given(), {"arm": "local"})
    assert torch.equal(before.answer(ask)["test"], after.answer(ask)["test"])


@pytest.mark.parametrize("round_", [1, 2])
def test_a_round_that_was_learnt_is_not_learnt_again(
    federation: Make, round_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second learning would begin where the first has ended, and offer other words under a newer version."""
    calls = [ExchangePlan(f"learn-{number}", "learn", {"round": number}) for number in range(1, round_ + 1)]
    before = federation().sites["a1"]
    made = [before.offer(call, NullProgress()) for call in calls][-1]
    after = federation().sites["a1"]
    monkeypatch.setattr("fednet.methods.cmtii.site.invert_words", lambda *_a, **_k: pytest.fail("learnt again"))
    for site in (before, after):
        again = site.offer(calls[-1], NullProgress())
        assert versions(again.offers) == versions(made.offers)
        assert again.values == made.values
        assert all(
            torch.equal(one.embeddings, two.embeddings) for one, two in zip(again.offers, made.offers, strict=True)
        )


def test_another_life_generates_from_what_it_has_received(federation: Make) -> None:
    """Nobody has told it again yet."""
    before = federation().sites["a1"]
    before.offer(LEARN, NullProgress())
    before.absorb(Offer("a2", "3", 2, torch.full((1, 16), 0.3)))
    before.absorb(Offer("a2", "3", 1, torch.full((1, 16), 0.1)))
    found = [federation().sites["a1"].offer(tune("exchange"), NullProgress()).values for _ in range(2)]
    assert found == [before.offer(tune("exchange"), NullProgress()).values] * 2
    assert found[0]["generated"] == 6


def test_other_settings_begin_anew(federation: Make) -> None:
    first = federation().sites["a1"]
    first.offer(LEARN, NullProgress())
    first.absorb(Offer("a2", "3", 1, torch.full((1, 16), 0.3)))
    for other in (federation(learn={"steps": 3}), federation(count=4)):
        assert other.sites["a1"].initial_offers() == ()
        assert other.sites["a1"].offer(tune("exchange"), NullProgress()).values["generated"] == 0


def test_pictures_are_generated_from_received_words(federation: Make) -> None:
    site = federation().sites["a1"]
    site.offer(LEARN, NullProgress())
    assert site.offer(tune("exchange"), NullProgress()).values["generated"] == 0
    site.absorb(Offer("a2", "3", 1, torch.full((1, 16), 0.3)))
    site.absorb(Offer("a3", "3", 1, torch.full((1, 16), 0.2)))
    site.absorb(Offer("a3", "5", 1, torch.full((1, 16), 0.1)))
    made = site.offer(tune("exchange"), NullProgress())
    assert made.offers == ()
    assert made.values["generated"] == 2 * 6
    assert site.offer(tune("local"), NullProgress()).values["generated"] == 0
    assert site.offer(tune("control"), NullProgress()).values["generated"] == 2 * 6
    assert (site.context.folder / "sites/a1/generated-exchange.png").is_file()


def test_bad_words_are_refused_by_name(federation: Make) -> None:
    site = federation().sites["a1"]
    with pytest.raises(ModelError, match=r"a2 for '3'.*16"):
        site.absorb(Offer("a2", "3", 1, torch.zeros(1, 1024)))
    with pytest.raises(ModelError, match=r"a2 for '3'.*NaN"):
        site.absorb(Offer("a2", "3", 1, torch.full((1, 16), torch.nan)))
    with pytest.raises(MethodError, match=r"a2 for 'eleven'.*no class"):
        site.absorb(Offer("a2", "eleven", 1, torch.zeros(1, 16)))


def test_evaluation_counts_both_tests(federation: Make) -> None:
    site = federation().sites["a1"]
    found = site.answer(Question("evaluate", given(), {"arm": "zero-shot"}))
    assert found["test"][:, 1].tolist() == [2] * 10
    assert int(found["local"][:, 1].sum()) == read_cmtii_capabilities({"a1": site.prepare(NullProgress())})["a1"].tests


def test_an_evaluation_is_numbers_alone(federation: Make) -> None:
    site = federation().sites["a1"]
    site.offer(LEARN, NullProgress())
    site.absorb(Offer("a2", "3", 1, torch.full((1, 16), 0.3)))
    judge = Judge(Classifier(1, 8, 10).eval(), (1, 8, 8), tuple(map(str, range(10))), "cpu")
    reply = site.answer(
        Question("evaluate-generated", {**given(40), **evaluation.judge_to_inputs(judge)}, {"round": 1})
    )
    assert list(reply) == ["evaluation"]
    found = from_json_tensor(reply["evaluation"])
    assert found["worth"]["count"] == 6
    assert 0 <= found["leak"]["calibrated"] <= 1
    assert (site.context.folder / "tensorboard/a1/nearest.csv").is_file()


def test_what_is_evaluated_is_what_was_tuned_on_and_generated_no_second_time(
    federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = federation(report={"leakage": False}).sites["a1"]
    site.absorb(Offer("a2", "3", 1, torch.full((1, 16), 0.3)))
    judge = Judge(Classifier(1, 8, 10).eval(), (1, 8, 8), tuple(map(str, range(10))), "cpu")
    question = Question("evaluate-generated", {**given(40), **evaluation.judge_to_inputs(judge)}, {"round": 1})
    before = from_json_tensor(site.answer(question)["evaluation"])
    site.offer(tune("exchange"), NullProgress())
    monkeypatch.setattr("fednet.methods.cmtii.site.generate_images", lambda *_a, **_k: pytest.fail("generated again"))
    assert from_json_tensor(site.answer(question)["evaluation"]) == before


@pytest.mark.parametrize(
    ("ask", "inputs", "options", "what"),
    [
        ("dance", {}, {}, "unknown question 'dance'; expected one of evaluate, evaluate-generated"),
        ("evaluate", {}, {"arm": "zero-shot"}, "got nothing"),
        ("evaluate", given(), {"arm": "central"}, "option arm must be one of"),
        ("evaluate", given(), {"arm": "local"}, "hold an exchange of tune first"),
        ("evaluate", {**given(), "labels": torch.full((20,), 10)}, {"arm": "zero-shot"}, r"0\.\.9"),
        ("evaluate", {**given(), "labels": torch.zeros(3, dtype=torch.int64)}, {"arm": "zero-shot"}, "int64"),
        ("evaluate", {**given(), "images": torch.zeros(20, 1, 4, 4)}, {"arm": "zero-shot"}, "1, 8, 8"),
        ("evaluate", {**given(), "images": torch.full((20, 1, 8, 8), 9.0)}, {"arm": "zero-shot"}, "images must lie"),
        ("evaluate-generated", given(), {}, "round"),
        ("evaluate-generated", given(), {"round": 1}, "the judge"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    federation: Make, ask: str, inputs: dict[str, torch.Tensor], options: dict[str, Any], what: str
) -> None:
    with pytest.raises(MethodError, match=what):
        federation(1, partition={"classes_per_client": 10}).sites["a1"].answer(Question(ask, inputs, options))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (ExchangePlan("x", "dance"), "learn, tune"),
        (ExchangePlan("x", "learn"), "round"),
        (ExchangePlan("x", "tune", {"round": 1}), "arm"),
        (ExchangePlan("x", "tune", {"round": 1, "arm": "zero-shot"}), "arm"),
    ],
)
def test_what_cannot_be_done_is_refused(federation: Make, call: ExchangePlan, what: str) -> None:
    with pytest.raises(MethodError, match=what):
        federation(1, partition={"classes_per_client": 10}).sites["a1"].offer(call, NullProgress())


def test_a_site_without_enough_pictures_declines(federation: Make) -> None:
    with pytest.raises(MethodError, match=r"a1 has no class with 500 pictures or more"):
        federation(learn={"least": 500}).sites["a1"].offer(LEARN, NullProgress())


def test_aliases_are_of_classes(federation: Make) -> None:
    with pytest.raises(MethodError, match="'eleven', which is no class"):
        federation(1, aliases={"x": "eleven"}, partition={"classes_per_client": 10})


def test_aliases_travel_in_place_of_names(federation: Make) -> None:
    made = federation(aliases={f"alias-{k}": str(k) for k in range(10)})
    offers = made.sites["a1"].offer(LEARN, NullProgress()).offers
    assert all(offer.subject.startswith("alias-") for offer in offers)
    made.sites["a2"].absorb(offers[0])

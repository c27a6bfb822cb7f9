"""A site: what it contributes, what that costs, and that nothing is ever paid or released twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from fednet.api import ModelState, NullProgress, Question, RoundPlan, RoundTask, Stopped
from fednet.errors import MethodError, ModelError, PrivacyError
from fednet.federated.config import Federation as Rule
from fednet.federated.state import digest
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, TRAIN, PrivateGanCapabilities
from fednet.privacy.accounting import Expense, Spent, epsilon
from fednet.privacy.ledger import PrivacyLedger

DELTA = 1e-5
Make = Callable[..., Any]


def task(number: int = 1, model: str = GAN) -> RoundTask:
    return RoundTask(model, TRAIN, number)


def ledger(made: Any, name: str = "a1") -> PrivacyLedger:
    return PrivacyLedger(made.folder / "privacy" / f"{name}.json")


def close(a: ModelState, b: ModelState) -> bool:
    return digest(a) == digest(b)


def test_everybody_begins_with_the_same_bytes(federation: Make) -> None:
    made = federation()
    for model in (GAN, CLASSIFIER):
        assert len({digest(site.initial_state(model)) for site in made.sites.values()}) == 1
    with pytest.raises(MethodError, match=r"unknown model .*expected one of gan, classifier"):
        made.sites["a1"].initial_state("else")


def test_the_same_task_gives_the_very_same_contribution_and_costs_once(federation: Make) -> None:
    """With secret noise, in the same process and after a new start from the same folder."""
    made = federation(privacy={"seeded": False})
    site, base = made.sites["a1"], made.sites["a1"].initial_state(GAN)
    first = site.contribute(task(), base, NullProgress())
    again = site.contribute(task(), base, NullProgress())
    restarted = federation(privacy={"seeded": False}).sites["a1"].contribute(task(), base, NullProgress())
    assert close(first.state, again.state)
    assert close(first.state, restarted.state)
    assert first.values == restarted.values
    assert first.weight == restarted.weight == 20.0
    assert [entry.steps for entry in ledger(made).entries] == [3]
    assert first.values["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 3)], DELTA)
    assert first.values["epsilon_prv"] == epsilon([Expense(0.2, 1.0, 3)], DELTA, "prv")


def test_another_task_or_base_is_another_release_and_costs_again(federation: Make) -> None:
    made = federation()
    site, base = made.sites["a1"], made.sites["a1"].initial_state(GAN)
    one = site.contribute(task(1), base, NullProgress())
    site.contribute(task(2), base, NullProgress())
    other = site.contribute(task(1), one.state, NullProgress())
    assert not close(one.state, other.state)
    assert [entry.steps for entry in ledger(made).entries] == [3, 3, 3]


def test_secret_noise_differs_and_seeded_noise_does_not(federation: Make) -> None:
    for seeded in (True, False):
        states = []
        for folder in ("one", "two"):
            site = federation(folder=f"{folder}-{seeded}", privacy={"seeded": seeded}).sites["a1"]
            states.append(site.contribute(task(), site.initial_state(GAN), NullProgress()).state)
        assert close(states[0], states[1]) is seeded


class Dies:
    """A progress that ends the work at its second report, and keeps what was reported until then."""

    def __init__(self) -> None:
        self.reported: list[set[str]] = []

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.reported.append(set(values))
        if len(self.reported) == 2:
            raise Stopped


def test_work_that_was_interrupted_is_done_again_for_what_was_reserved(federation: Make) -> None:
    """Nothing of it that came of the pictures has left the site; a new start is no different."""
    made, progress = federation(privacy={"seeded": False}), Dies()
    base = made.sites["a1"].initial_state(GAN)
    with pytest.raises(Stopped):
        made.sites["a1"].contribute(task(), base, progress)
    assert progress.reported == [{"epsilon"}] * 2
    (entry,) = ledger(made).entries
    assert (entry.steps, entry.released) == (3, False)
    restarted = federation(privacy={"seeded": False}).sites["a1"]
    update = restarted.contribute(task(), base, NullProgress())
    assert update.values["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 3)], DELTA)
    (entry,) = ledger(made).entries
    assert (entry.steps, entry.released) == (3, True)


def test_what_was_kept_is_released_before_it_is_handed_out(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site dies with its contribution on the disk; whoever finds it releases what it costs."""
    made = federation()
    base = made.sites["a1"].initial_state(GAN)

    def dies(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(PrivacyLedger, "release", dies)
        with pytest.raises(Stopped):
            made.sites["a1"].contribute(task(), base, NullProgress())
    assert [entry.released for entry in ledger(made).entries] == [False]
    restarted = federation().sites["a1"]
    monkeypatch.setattr(restarted, "_trained_release", lambda *_: pytest.fail("made again"))
    restarted.contribute(task(), base, NullProgress())
    assert [entry.released for entry in ledger(made).entries] == [True]


def test_work_that_failed_stays_spent(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it has failed is reported, and may come of the pictures."""
    made = federation()
    site = made.sites["a1"]

    def diverges(*_: object) -> None:
        raise MethodError("it diverges")

    with monkeypatch.context() as patched:
        patched.setattr("fednet.methods.private_gan.site.train_gan", diverges)
        with pytest.raises(MethodError, match="diverges"):
            site.contribute(task(), site.initial_state(GAN), NullProgress())
    site.contribute(task(), site.initial_state(GAN), NullProgress())
    assert [(entry.steps, entry.released) for entry in ledger(made).entries] == [(3, True), (3, True)]


def test_a_release_whose_file_is_gone_is_paid_again(federation: Make) -> None:
    made = federation()
    site, base = made.sites["a1"], made.sites["a1"].initial_state(GAN)
    site.contribute(task(), base, NullProgress())
    for path in (made.folder / "releases" / "a1").glob("*.safetensors"):
        path.unlink()
    site.contribute(task(), base, NullProgress())
    assert [(entry.steps, entry.released) for entry in ledger(made).entries] == [(3, True), (3, True)]


def test_two_runs_that_share_a_ledger_pay_for_what_each_releases(federation: Make, tmp_path: Path) -> None:
    """Of one configuration, so that their work has one key: the one takes over what the other has reserved."""
    privacy = {"ledger": tmp_path / "shared"}
    one, other = (federation(folder=folder, privacy=privacy).sites["a1"] for folder in ("one", "other"))
    with pytest.raises(Stopped):
        one.contribute(task(), one.initial_state(GAN), Dies())
    for site in (other, one):
        site.contribute(task(), site.initial_state(GAN), NullProgress())
    entries = PrivacyLedger(tmp_path / "shared" / "a1.json").entries
    assert [(entry.steps, entry.released) for entry in entries] == [(3, True), (3, True)]


class Asks:
    """A progress that looks into the ledger at every step."""

    def __init__(self, made: Any) -> None:
        self.made, self.steps = made, list[int]()

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.steps.append(sum(entry.steps for entry in ledger(self.made).entries))


def test_the_ledger_is_written_before_the_first_step(federation: Make) -> None:
    made = federation()
    progress = Asks(made)
    made.sites["a1"].contribute(task(), made.sites["a1"].initial_state(GAN), progress)
    assert progress.steps == [3, 3, 3]


def test_nobody_has_a_site_look_further_ahead_than_all_its_rounds(
    federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epsilon of a hundred thousand steps takes seconds by PRV, of each number anew."""
    looked: list[int] = []

    def spent_on(expenses: Sequence[Expense], delta: float) -> Spent:
        looked.append(sum(expense.steps for expense in expenses))
        return Spent(1.0, 1.0, delta)

    monkeypatch.setattr("fednet.methods.private_gan.privacy_guard.spent", spent_on)
    site = federation(rounds=7).sites["a1"]
    for name in ("ahead", "rounds"):
        told = from_json_tensor(site.answer(Question("status", {}, {name: 1_000_000}))["status"])
        assert {"ahead": told["privacy"]["ahead"], "rounds": told["rounds"]}[name] == 7
    assert max(looked) == 7 * 3


def test_training_stops_before_the_step_that_would_exceed_the_budget(federation: Make) -> None:
    budget = epsilon([Expense(0.2, 1.0, 5)], DELTA) + 1e-6  # five steps: one round, and two thirds of another
    made = federation(privacy={"seeded": True, "budget": budget}, rounds=9)
    site = made.sites["a1"]
    assert from_json_tensor(site.answer(Question("status", {}, {"rounds": 9}))["status"])["rounds"] == 2
    steps = [site.contribute(task(n), site.initial_state(GAN), NullProgress()).values["steps"] for n in (1, 2)]
    assert steps == [3, 2]
    before = digest(site.initial_state(GAN))
    with pytest.raises(PrivacyError, match="budget is spent"):
        site.contribute(task(3), site.initial_state(GAN), NullProgress())
    assert digest(site.initial_state(GAN)) == before
    assert ledger(made).spent(DELTA).rdp <= budget
    restarted = federation(privacy={"seeded": True, "budget": budget}, rounds=9).sites["a1"]
    with pytest.raises(PrivacyError, match="budget is spent"):
        restarted.contribute(task(4), site.initial_state(GAN), NullProgress())


def test_classifier_and_gan_spend_from_one_budget(federation: Make) -> None:
    made = federation(classifier={"rounds": 1, "steps": 4})
    site = made.sites["a1"]
    site.contribute(task(), site.initial_state(GAN), NullProgress())
    update = site.contribute(task(1, CLASSIFIER), site.initial_state(CLASSIFIER), NullProgress())
    assert update.values["epsilon_rdp"] == epsilon([Expense(0.2, 1.0, 7)], DELTA)
    assert "loss" not in update.values  # computed from the pictures without noise


def test_a_private_site_tells_nothing_that_was_computed_from_pictures_without_noise(federation: Make) -> None:
    private, plain = federation(), federation(folder="plain", privacy={"level": "none", "seeded": False})
    reported = [
        made.sites["a1"].contribute(task(), made.sites["a1"].initial_state(GAN), NullProgress()).values
        for made in (private, plain)
    ]
    assert "real_loss" not in reported[0]
    assert "real_loss" in reported[1]
    assert "epsilon_rdp" not in reported[1]


def test_what_is_not_private_says_so(federation: Make) -> None:
    capabilities = {}
    for name, privacy in (("seeded", {"seeded": True}), ("secret", {"seeded": False}), ("none", {"level": "none"})):
        made = federation(folder=name, privacy={"seeded": False} | privacy)
        capabilities[name] = PrivateGanCapabilities.model_validate_json(made.capabilities["a1"]).privacy
    assert (capabilities["seeded"].private, capabilities["secret"].private, capabilities["none"].private) == (
        False,
        True,
        False,
    )
    tainted = federation(folder="seeded", privacy={"seeded": True})
    site = tainted.sites["a1"]
    site.contribute(task(), site.initial_state(GAN), NullProgress())
    after = federation(folder="seeded", privacy={"seeded": False})
    assert not PrivateGanCapabilities.model_validate_json(
        after.capabilities["a1"]
    ).privacy.private  # the data were released unprotected


def test_the_mean_of_a_round_weighs_sites_by_their_pictures(federation: Make) -> None:
    made = federation()
    base = made.sites["a1"].initial_state(GAN)
    updates = {name: site.contribute(task(), base, NullProgress()) for name, site in made.sites.items()}
    (closed,) = made.network.run_rounds(RoundPlan("k", GAN, TRAIN, 1, Rule()))
    assert dict(closed.weights) == {"a1": 20.0, "a2": 21.0, "a3": 22.0}
    wanted = sum(20.0 + k for k in range(3))
    name = "generator.body.0.weight"
    mean = sum(update.state[name].double() * update.weight for update in updates.values()) / wanted
    (drawn,) = {digest(site.states.current_state(GAN)) for site in made.sites.values()}
    assert drawn == closed.digest
    assert torch.allclose(made.sites["a2"].states.current_state(GAN)[name].double(), mean, atol=1e-6)


def test_a_checkpoint_says_what_it_has_cost(federation: Make) -> None:
    made = federation()
    made.network.run_rounds(RoundPlan("k", GAN, TRAIN, 2, Rule()))
    with safe_open(made.folder / "checkpoints" / "a2-gan.safetensors", "pt") as file:
        note = file.metadata()["fednet"]
    assert '"round": 2' in note
    assert f'"epsilon_rdp": {epsilon([Expense(0.2, 1.0, 6)], DELTA)}' in note
    assert '"private": false' in note


def test_at_client_level_a_site_counts_once_and_its_change_is_bounded(federation: Make) -> None:
    privacy = {"level": "client", "noise": 50.0, "clip": 0.01, "seeded": True}
    made = federation(privacy=privacy, share={"weight": "equal"}, federation={"quorum": 3, "secure": {}})
    site = made.sites["a1"]
    update = site.contribute(task(), site.initial_state(GAN), NullProgress())
    assert update.weight == 1.0
    assert update.values["epsilon_rdp"] == epsilon([Expense(1.0, 50.0, 1)], DELTA)
    assert update.values["epsilon_alone"] > update.values["epsilon_rdp"]
    assert not {name for name in update.values if "loss" in name}  # the networks that they are of have no noise
    assert PrivacyLedger(made.folder / "privacy" / "a1.json", "client").entries[0].steps == 1
    numbers = sum(tensor.numel() for tensor in update.state.values())
    moved = sum(float((update.state[k] - site.initial_state(GAN)[k]).square().sum()) for k in update.state) ** 0.5
    assert moved == pytest.approx(0.01 * 50.0 / 3**0.5 * numbers**0.5, rel=0.2)  # the noise, and next to nothing else


def test_at_client_level_a_change_that_others_see_has_all_of_the_noise(federation: Make) -> None:
    privacy = {"level": "client", "noise": 50.0, "clip": 0.01, "seeded": True}
    made = federation(privacy=privacy, share={"weight": "equal"}, federation={"quorum": 3})
    update = made.sites["a1"].contribute(task(), made.sites["a1"].initial_state(GAN), NullProgress())
    assert update.values["epsilon_alone"] == update.values["epsilon_rdp"]


def test_a_clipped_change_without_noise(federation: Make) -> None:
    made = federation(share={"clip": 0.05})
    site = made.sites["a1"]
    update = site.contribute(task(), site.initial_state(GAN), NullProgress())
    moved = sum(float((update.state[k] - site.initial_state(GAN)[k]).square().sum()) for k in update.state) ** 0.5
    assert moved == pytest.approx(0.05, rel=1e-3)


def test_an_adaptive_site_goes_on_with_its_pace(federation: Make) -> None:
    made = federation(share={"pace": "adaptive"})
    records = made.network.run_rounds(RoundPlan("k", GAN, TRAIN, 2, Rule()))
    paces = [[values["pace"] for values in record.values.values()] for record in records]
    assert paces[0] == [1.0, 1.0, 1.0]
    assert all(pace != 1.0 for pace in paces[1])
    restarted = federation(share={"pace": "adaptive"}).sites["a1"]
    update = restarted.contribute(task(3), made.sites["a1"].states.current_state(GAN), NullProgress())
    assert update.values["pace"] not in (1.0, paces[1][0])


def test_answers_and_what_is_refused(federation: Make) -> None:
    site = federation().sites["a1"]
    latents = torch.randn(5, 4)
    drawn = site.answer(Question("draw", {"latents": latents}))["images"]
    assert drawn.shape == (5, 1, 8, 8)
    assert torch.equal(drawn, site.answer(Question("draw", {"latents": latents}, {"fresh": True}))["images"])
    found = site.answer(Question("validate", {"images": drawn, "labels": torch.zeros(5, dtype=torch.int64)}))
    assert found["right"].tolist()[1] == 5
    for question, reason in (
        (Question("else", {}), "unknown question 'else'; expected one of status, draw, validate, audit"),
        (Question("draw", {}), "latents must be float32"),
        (Question("draw", {"latents": latents[:, :3]}), "latents must be float32"),
        (Question("draw", {"latents": latents * torch.inf}), "finite"),
        (Question("validate", {"images": drawn}), "labels must be int64"),
        (Question("status", {}, {"rounds": 0}), "option rounds must be a whole number from 1"),
    ):
        with pytest.raises(MethodError, match=reason):
            site.answer(question)
    with pytest.raises(MethodError, match=r"unknown task .*expected one of train"):
        site.contribute(RoundTask(GAN, "else", 1), site.initial_state(GAN), NullProgress())
    with pytest.raises(ModelError):
        site.adopt(GAN, 1, {"x": torch.zeros(1)})


def test_the_ledger_may_lie_elsewhere(federation: Make, tmp_path: Path) -> None:
    site = federation(privacy={"ledger": tmp_path / "shared"}).sites["a1"]
    site.contribute(task(1), site.initial_state(GAN), NullProgress())
    assert (tmp_path / "shared" / "a1.json").is_file()
    assert not (site.context.folder / "privacy").exists()

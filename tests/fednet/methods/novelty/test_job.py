"""The job of a run, over the sites of this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.api import NullProgress, SiteContext, Stopped
from fednet.data.datasets import Splits
from fednet.errors import DataError
from fednet.methods.novelty import job as novelty_job
from fednet.methods.novelty.site import NoveltySite
from fednet.reporting.summary import read_summary
from tests.cases import first

FLOW = {
    "first": [1, 2],
    "unseen": [3],
    "shares": [[0, 1, 2], [1, 2, 3]],
    "belongs": [[1], [2]],
    "rounds": 2,
    "detector_rounds": 2,
    "tested": 6,
    "pictured": 2,
    "passes": 3,
}


class StopAt(NullProgress):
    """A progress that stops at a phase."""

    def __init__(self, phase: str, done: int) -> None:
        self._at = phase, done

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        if (phase, done) == self._at:
            raise Stopped


@pytest.fixture(scope="module")
def job(cluster_in: Callable[..., Any], small_config: Callable[..., Any], pictures: Callable[..., Any]) -> Any:
    """Runs the small job on a cluster, in a folder."""
    train, judge, test = (pictures(0, 1, 2, 3, count=8, seed=seed) for seed in (7, 8, 9))

    def run(folder: Path, progress: Any = None, cluster: Any = None, **flow: Any) -> Any:
        folder.mkdir(exist_ok=True)
        config = small_config(flow={**FLOW, **flow}, report={"real": True})
        cluster = cluster or cluster_in(folder, config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(novelty_job, "measuring_splits", lambda *_: Splits(train, judge, test))
            return novelty_job.run_job(config, cluster.network, folder, 0, progress or NullProgress())

    return run


@pytest.fixture(scope="module")
def whole(job: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A job that was done without a stop: its summary, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return job(folder), folder


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    for one in (found["first"], *found["rounds"], *found["detector"]):
        one["closed"].pop("seconds")
    return found


def test_the_whole_flow_leaves_its_results(whole: tuple[Any, Path]) -> None:
    summary, folder = whole
    assert summary == read_summary(folder)
    assert summary.sections[0].title == "One site's model, set everywhere"
    assert summary.accounts["classifier"].steps == summary.accounts["detector"].steps == 2
    assert summary.accounts["classifier"].nodes["a1"].contributed == 2
    for section in summary.sections:
        for figure in section.figures:
            assert (folder / figure.file).stat().st_size > 1000
    found = metrics(folder)
    assert [one["closed"]["number"] for one in found["rounds"]] == [2, 3]
    seen = found["first"]["seen"]
    assert seen["a1"] == seen["a2"]
    assert found["first"]["alone"] == seen["a1"]
    assert {one["accuracy"] for one in found["first"]["unseen"].values()} == {0.0}
    assert found["rates"]["own detectors, lowest ratio"]["threshold"] not in (None, 1.0)
    assert set(found["rates"]) >= {"detector of the rounds", "own detectors, lowest ratio", "a1 alone", "a2 alone"}


def test_without_detector_rounds_only_the_classifier_is_there(job: Any, tmp_path: Path) -> None:
    summary = job(tmp_path / "run", detector_rounds=0)
    assert [section.title for section in summary.sections] == [
        "One site's model, set everywhere",
        "Rounds of the classifier",
        "Data",
    ]


@pytest.mark.parametrize(
    "phase", first(1, [("rounds of the detector", 2), ("rounds of the classifier", 1), ("scoring together", 0)])
)
def test_a_stopped_run_goes_on_to_the_same_result(
    whole: tuple[Any, Path],
    job: Any,
    *,
    make_cluster: Callable[..., Any],
    small_config: Callable[..., Any],
    tmp_path: Path,
    phase: Any,
) -> None:
    cluster = make_cluster(small_config(flow=FLOW), tmp_path / "stopped")
    with pytest.raises(Stopped):
        job(tmp_path / "stopped", StopAt(*phase), cluster)
    job(tmp_path / "stopped", None, cluster)
    assert metrics(tmp_path / "stopped") == metrics(whole[1])


def test_steps_that_the_sites_cannot_take_are_refused_before_any_is(job: Any, tmp_path: Path) -> None:
    for flow, message in (
        ({"first": [3], "unseen": [0]}, r"a1 has no pictures of four"),
        ({"shares": [[0, 3]]}, r"a1 has no pictures of four"),
        ({"first": [9]}, r"flow\.first names the class '9'; the classes are one, two, three, four"),
        ({"belongs": [[0, 1, 2], [1, 2, 3]]}, "leave some out"),
    ):
        with pytest.raises(DataError, match=message):
            job(tmp_path / "run", **flow)
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_too_few_pictures_to_calibrate_with_are_found_early(
    job: Any, make_cluster: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    score = {"reconstructions": 2, "steps": 2, "false_alarms": 0.01}
    config = small_config(flow=FLOW, detector={"score": score})
    cluster = make_cluster(config, tmp_path)
    with pytest.raises(DataError, match=r"a1 holds out 4 pictures of two; a false-alarm rate of 0\.01 needs 99"):
        novelty_job.run_job(config, cluster.network, tmp_path, 0, NullProgress())


@pytest.mark.parametrize(
    ("disclose", "message"),
    [
        ({"evaluate": {}, "calibrate": {"pictures": 2}}, r"a1 holds out 8 pictures of .*lower disclose\.evaluate\.pic"),
        ({"evaluate": {"pictures": 2}, "calibrate": {"pictures": 5}}, r"holds out 4 .*lower disclose\.calibrate\.pic"),
    ],
)
def test_what_sites_would_refuse_to_answer_is_found_before_hours_of_work(
    make_cluster: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path, disclose: Any, message: str
) -> None:
    """A run ended after all of its training, since its novel classes had six held-out pictures and ten were asked."""
    config = small_config(flow=FLOW, disclose=disclose)
    cluster = make_cluster(config)
    with pytest.raises(DataError, match=message):
        novelty_job.run_job(config, cluster.network, tmp_path, 0, NullProgress())
    assert not (tmp_path / "journal.jsonl").exists()


def test_without_pictures_the_sites_measure_on_what_they_hold_out(
    make_cluster: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    """The sites have all pictures themselves, and the asker has none."""
    config = small_config(flow=FLOW, report={"real": True})
    summary = novelty_job.run_job(config, make_cluster(config).network, tmp_path, 0, NullProgress())
    found = metrics(tmp_path)
    assert {site: one["there"] for site, one in found["first"]["seen"].items()} == {
        "a1": {"1": 4, "2": 4},
        "a2": {"1": 4, "2": 4},
    }
    assert {site: one["there"] for site, one in found["first"]["unseen"].items()} == {"a2": {"3": 4}}
    assert {site: one["accuracy"] for site, one in found["first"]["unseen"].items()} == {"a2": 0.0}
    assert found["rounds"][0]["sites"]["a1"]["there"] == {"0": 4, "1": 4, "2": 4}
    assert set(found["rates"]) == {"detector of the rounds", "a1 alone", "a2 alone"}
    together = found["trials"]["detector of the rounds"]
    assert (len(together["inside"]), len(together["outside"])) == (16, 8)
    assert found["rates"]["a1 alone"]["auroc"] is not None
    assert found["shown"] == []
    titles = [section.title for section in summary.sections]
    assert titles[-2:] == ["What belongs and what does not", "Data"]
    assert summary.sections[-1].notes[-1].startswith("There were no pictures to measure with")
    assert any("send their scores and nothing else" in note for note in summary.sections[-2].notes)
    for section in summary.sections:
        assert all((tmp_path / figure.file).stat().st_size > 1000 for figure in section.figures)


def test_without_pictures_every_class_may_belong(
    make_cluster: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = small_config(flow={**FLOW, "belongs": [[0, 1, 2], [1, 2, 3]], "rounds": 1, "detector_rounds": 1})
    summary = novelty_job.run_job(config, make_cluster(config).network, tmp_path, 0, NullProgress())
    rates = metrics(tmp_path)["rates"]
    assert {one["auroc"] for one in rates.values()} == {one["tpr"] for one in rates.values()} == {None}
    assert not [figure for section in summary.sections for figure in section.figures]


def test_a_site_has_its_share_or_data_of_its_own(small_config: Callable[..., Any], tmp_path: Path) -> None:
    site = SiteContext("a1", 0, 2, 0, "cpu", tmp_path)
    shared, own = (
        NoveltySite.from_overrides(small_config(), site),
        NoveltySite.from_overrides(small_config(), site, {"data": {"limit": 100}}),
    )
    capabilities = [json.loads(one.prepare(NullProgress())) for one in (shared, own)]
    assert [sum(site["histogram"]) + sum(site["held_out"]) for site in capabilities] == [539, 100]
    lost = NoveltySite.from_overrides(small_config(), site, {"data": {"name": "mnist", "root": str(tmp_path / "no")}})
    with pytest.raises(DataError):
        lost.announce()

"""The stages of a job go on from each other, and a summary is written after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fednet.api import NullProgress, Progress, RoundPlan, RoundRecord
from fednet.federated.config import Federation
from fednet.methods.common.job import JobContext, run_stages, summarise_each
from fednet.reporting.summary import Summary, read_summary


def adds(*numbers: int) -> Callable[[int, int, Progress], Iterator[int]]:
    def stage(scale: int, findings: int, progress: Progress) -> Iterator[int]:
        for number in numbers:
            findings += scale * number
            progress.report("adding", number, 3)
            yield findings

    return stage


def test_each_stage_goes_on_from_the_findings_of_the_last() -> None:
    assert list(run_stages((adds(1, 2), adds(), adds(3)), 10, 5, NullProgress())) == [15, 35, 65]
    assert list(run_stages((), 10, 5, NullProgress())) == []


def test_every_step_is_summarised_and_the_last_findings_are_returned(tmp_path: Path) -> None:
    written = []

    def summarise(findings: int) -> Summary:
        written.append(findings)
        return Summary(title=str(findings))

    assert summarise_each([1, 2, 3], summarise, tmp_path, 0) == 3
    assert written == [1, 2, 3]
    assert read_summary(tmp_path).title == "3"
    assert summarise_each([], summarise, tmp_path, 7) == 7


def test_rounds_of_a_run_are_held_once(tmp_path: Path) -> None:
    held = []

    def run_rounds(plan: RoundPlan) -> tuple[RoundRecord, ...]:
        held.append(plan.key)
        return (RoundRecord(1, plan.model, {"a": 1.0}, {}, (), {}, {}, "", 0.0, "a"),)

    def context() -> JobContext[Any, Any]:
        nothing: Any = None
        network: Any = SimpleNamespace(run_rounds=run_rounds)
        return JobContext(nothing, network, {"b": nothing, "a": nothing}, tmp_path, 0)

    plan = RoundPlan("gan-0", "gan", "train", 1, Federation())
    assert context().rounds(plan) == context().rounds(plan)
    assert held == ["gan-0"]
    assert context().first_site == "a"
    assert context().sites == ("b", "a")

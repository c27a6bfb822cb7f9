"""The parts of a job go on from each other, and every step of them is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fednet.api import NullProgress, Progress
from fednet.methods.common.job import PipelineContext, run_stages


def adds(*numbers: int) -> Callable[[int, int, Progress], Iterator[int]]:
    def part(scale: int, found: int, progress: Progress) -> Iterator[int]:
        for number in numbers:
            found += scale * number
            yield found

    return part


def test_each_part_goes_on_from_what_the_last_has_found() -> None:
    assert list(run_stages((adds(1, 2), adds(), adds(3)), 10, 5, NullProgress())) == [15, 35, 65]
    assert list(run_stages((), 10, 5, NullProgress())) == []


def test_a_job_that_is_made_again_in_its_folder_knows_what_was_measured(tmp_path: Path) -> None:
    def made() -> PipelineContext[Any, Any]:
        nobody: Any = None
        return PipelineContext(nobody, nobody, {}, nobody, nobody, tmp_path, 0)

    assert made().journal.once("a", lambda: {"b": 1}) == {"b": 1}
    assert made().journal.once("a", lambda: {"b": 2}) == {"b": 1}

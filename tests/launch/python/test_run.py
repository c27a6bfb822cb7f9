"""What a run has left, read from a folder that a test has filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import fednet
from fednet.reporting.summary import Summary, SummarySection, SummaryTable, write_summary
from launch.errors import ConfigError
from launch.run.events import EventFile, make_event


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("name: tiny\nseed: 3\n")
    return tmp_path


def test_a_folder_without_a_configuration_is_not_that_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the folder of a run, with a config\.yaml"):
        fednet.Run(tmp_path)


def test_a_run_without_results_is_empty(folder: Path) -> None:
    run = fednet.Run(folder)
    assert run.config == {"name": "tiny", "seed": 3}
    assert (run.summary, run.metrics, run.events, run.arms, run.checkpoints) == (Summary(), {}, [], (), {})
    with pytest.raises(ConfigError, match="expected a run that has left a section"):
        run.rows()


def test_rows_are_the_tables_of_the_summary(folder: Path) -> None:
    table = SummaryTable(columns=("site", "loss"), rows=(("a1", 0.5), ("a2", None)))
    sections = (SummarySection(title="Notes"), SummarySection(title="Losses", table=table))
    write_summary(folder, Summary(title="done", sections=sections))
    run = fednet.Run(str(folder))
    assert run.summary.title == "done"
    assert run.sections == ("Losses",)
    assert run.rows() == run.rows("Losses") == [{"site": "a1", "loss": 0.5}, {"site": "a2", "loss": None}]
    with pytest.raises(ConfigError, match=r"expected one of Losses, got section 'Loses'\. Did you mean Losses\?"):
        run.rows("Loses")


def test_samples_and_checkpoints_are_tensors_by_name(folder: Path) -> None:
    images = torch.rand(2, 1, 4, 4)
    for place in ("samples/mean", "samples", "checkpoints/a1-rounds-00"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    save_file({"images": images, "labels": torch.tensor([1, 2])}, folder / "samples" / "mean" / "samples.safetensors")
    run = fednet.Run(folder)
    assert torch.equal(run.samples(), images)
    save_file({"images": -images}, folder / "samples" / "last.safetensors")
    assert run.arms == ("last", "mean")
    assert torch.equal(run.samples("last"), -images)
    assert run.sample_tensors("mean")["labels"].tolist() == [1, 2]
    with pytest.raises(ConfigError, match="expected one of last, mean"):
        run.samples()
    save_file({"weight": images}, folder / "checkpoints" / "a1-rounds-00" / "line-000001.safetensors")
    assert list(run.checkpoints) == ["a1-rounds-00/line-000001"]
    assert torch.equal(run.checkpoint("a1-rounds-00/line-000001")["weight"], images)
    with pytest.raises(ConfigError, match="got checkpoint 'b'"):
        run.checkpoint("b")


def test_metrics_events_and_report(folder: Path) -> None:
    (folder / "metrics.json").write_text(json.dumps({"fid": 1.5}))
    with EventFile(folder / "events.jsonl") as file:
        file.write(make_event("a1", "started", pid=1))
    run = fednet.Run(folder)
    assert run.metrics == {"fid": 1.5}
    assert [(event.node, event.kind) for event in run.events] == [("a1", "started")]
    assert run.report == folder / "report.html"

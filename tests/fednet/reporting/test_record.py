"""What is recorded can be read back, by TensorBoard and by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fednet.errors import MeasureError
from fednet.reporting.record import RunRecord, write_json


def test_json_is_written_whole_and_read_back(tmp_path: Path) -> None:
    value = {"name": "Zoë", "rows": [1, 2.5, None, True]}
    write_json(tmp_path / "runs" / "metrics.json", value)
    assert json.loads((tmp_path / "runs" / "metrics.json").read_text(encoding="utf-8")) == value


def test_json_keeps_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"error": [float("inf"), {"loss": float("nan")}]})
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"error": ["Infinity", {"loss": "NaN"}]}


@pytest.mark.parametrize("value", [{1, 2}, object()])
def test_json_refuses_what_it_does_not_know(tmp_path: Path, value: object) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, "old")
    with pytest.raises(MeasureError, match=r"metrics\.json"):
        write_json(path, {"value": value})
    assert json.loads(path.read_text()) == "old"


def test_a_record_is_read_back_by_tensorboard_and_by_hand(tmp_path: Path) -> None:
    with RunRecord(tmp_path, "a1") as record:
        record.scalar("loss", 0.5, 1)
        record.scalar("loss", float("nan"), 2)
        record.image("grid", np.zeros((4, 5, 3), dtype=np.uint8))
    folder = tmp_path / "tensorboard" / "a1"
    lines = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    assert lines == [{"tag": "loss", "step": 1, "value": 0.5}, {"tag": "loss", "step": 2, "value": "NaN"}]
    events = EventAccumulator(str(folder)).Reload()
    first = events.Scalars("loss")[0]
    assert (first.step, first.value) == (1, 0.5)
    assert (events.Images("grid")[0].height, events.Images("grid")[0].width) == (4, 5)


def test_a_second_record_adds_to_the_first(tmp_path: Path) -> None:
    for step in (1, 2):
        with RunRecord(tmp_path, "a1") as record:
            record.scalar("loss", 1.0, step)
    assert len((tmp_path / "tensorboard" / "a1" / "scalars.jsonl").read_text().splitlines()) == 2


def test_a_table_keeps_the_order_of_its_columns(tmp_path: Path) -> None:
    with RunRecord(tmp_path, "a1") as record:
        record.table("arms", [{"rule": "mean", "fid": 5.95}, {"rule": "a, b", "fid": None, "note": "x"}])
        record.table("empty", [])
    with (record.folder / "arms.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"rule": "mean", "fid": "5.95", "note": ""}, {"rule": "a, b", "fid": "", "note": "x"}]
    assert not (record.folder / "empty.csv").exists()

"""What a reader is shown of predictions, whether or not the sites agree."""

from __future__ import annotations

import json
from pathlib import Path

from fednet.api import RoundRecord
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.results import RegressionFindings, summarise, write_metrics
from fednet.methods.regression.site import LINE

RECORD = RoundRecord(1, LINE, {"a1": 16.0}, {}, ("a2",), {}, {}, "abc", 0.5, "a1")
BEFORE = RegressionFindings({"a1": 3.0}, ({"a1": 0.0, "a2": 0.0},))


def test_a_round_is_added_to_the_findings() -> None:
    after = BEFORE.after({"a1": 9.0, "a2": 9.0}, (RECORD,))
    assert after.history == ({"a1": 0.0, "a2": 0.0}, {"a1": 9.0, "a2": 9.0})
    assert after.rounds == (RECORD,)
    assert after.alone == BEFORE.alone


def test_a_reader_sees_whether_all_predict_the_same() -> None:
    same = summarise(RegressionConfig(), BEFORE.after({"a1": 9.0, "a2": 9.0}, (RECORD,)))
    assert same.title == "2 sites, largest error 1"
    assert same.sections[0].notes == ("All sites predict the same number, to the last bit.",)
    assert same.sections[0].table is not None
    assert same.sections[0].table.rows == (("a1", 9.0, 3.0, 10.0), ("a2", 9.0, None, 10.0))
    assert same.accounts[LINE].nodes["a2"].late == 1
    other = summarise(RegressionConfig(), BEFORE.after({"a1": 9.0, "a2": 9.5}, (RECORD,)))
    assert other.sections[0].notes == ("The sites do NOT predict the same.",)


def test_a_site_that_came_later_has_a_shorter_line() -> None:
    summary = summarise(RegressionConfig(), BEFORE.after({"a1": 9.0, "a3": 9.0}, (RECORD,)))
    lines = summary.sections[0].charts[0].lines
    assert {name: len(line) for name, line in lines.items()} == {"a1": 2, "a2": 1, "a3": 1}


def test_all_numbers_are_written(tmp_path: Path) -> None:
    write_metrics(tmp_path, RegressionConfig(), BEFORE.after({"a1": 9.0, "a2": 9.0}, (RECORD,)))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["truth"] == 10.0
    assert metrics["rounds"][0]["weights"] == {"a1": 16.0}

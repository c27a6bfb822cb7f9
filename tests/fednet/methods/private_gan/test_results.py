"""What a reader is shown: the largest epsilon, or NOT PRIVATE in every place where it matters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.findings import PrivateGanFindings, PrivateGanFrame
from fednet.methods.private_gan.messages import PrivacyStatement
from fednet.methods.private_gan.results import summarise, write_metrics
from fednet.metrics.evaluation import Evaluation
from fednet.metrics.membership_inference import MembershipAttack

Findings = Callable[..., PrivateGanFindings]


@pytest.fixture
def findings() -> Findings:
    def make(*, private: bool = True, **changes: Any) -> PrivateGanFindings:
        frames = tuple(PrivateGanFrame(k, Evaluation(4, None, 1.5, 8.0 / 2**k, 1.0, {})) for k in range(3))
        privacy = {
            name: PrivacyStatement(level="example", private=private, epsilon_rdp=spent)
            for name, spent in (("a1", 1.5), ("a2", 2.5))
        }
        return PrivateGanFindings(**({"frames": frames, "privacy": privacy} | changes))

    return make


def test_the_title_has_the_largest_epsilon_of_all_sites(findings: Findings) -> None:
    title = summarise(PrivateGanConfig(), findings(), ("a1", "a2")).title
    assert "epsilon 2.5 at delta 1e-05 for every example" in title
    assert "NOT PRIVATE" not in title


def test_what_is_not_private_is_marked_in_title_rows_and_notes(findings: Findings) -> None:
    summary = summarise(PrivateGanConfig(), findings(private=False), ("a1", "a2"))
    assert summary.title.endswith("NOT PRIVATE")
    privacy = summary.sections[0]
    assert privacy.table is not None
    assert [row[1] for row in privacy.table.rows] == ["NOT PRIVATE"] * 2
    assert privacy.notes[0].startswith("NOT PRIVATE: the noise came from the run's seed")
    bare = PrivateGanConfig.model_validate({"privacy": {"level": "none"}})
    assert "nothing is protected" in summarise(bare, findings(private=False), ("a1",)).sections[0].notes[0]


def test_why_a_run_ended_early_stands_first(findings: Findings) -> None:
    notes = summarise(PrivateGanConfig(), findings(stopped="the budget is spent"), ("a1", "a2")).sections[0].notes
    assert notes[0] == "Stopped: the budget is spent."


def test_samples_are_compared_with_the_untrained_generator(findings: Findings) -> None:
    summary = summarise(PrivateGanConfig(), findings(), ("a1", "a2"))
    (samples,) = (section for section in summary.sections if section.title == "Samples")
    assert samples.table is not None
    assert [row[2] for row in samples.table.rows] == [1.0, 2.0, 4.0]


def test_sections_without_anything_to_show_are_left_out(findings: Findings) -> None:
    config = PrivateGanConfig()
    assert "Classifier" not in {section.title for section in summarise(config, findings(), ("a1",)).sections}
    audited = findings(audit={"a1": MembershipAttack(0.5, None, 10)}, accuracy=0.9)
    titles = {section.title for section in summarise(config, audited, ("a1",)).sections}
    assert {"Membership inference", "Classifier"} <= titles


@pytest.mark.parametrize(("private", "mark"), [(True, ""), (False, "NOT PRIVATE")])
def test_the_mark_is_in_the_numbers(findings: Findings, tmp_path: Path, private: bool, mark: str) -> None:
    write_metrics(tmp_path, PrivateGanConfig(), findings(private=private))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["private"], metrics["mark"], metrics["level"]) == (private, mark, "example")
    assert [frame["frechet"] for frame in metrics["frames"]] == [8.0, 4.0, 2.0]

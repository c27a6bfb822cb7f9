"""The traffic of an arm: samples and bytes by site and by step."""

from __future__ import annotations

import torch

from fednet.methods.score_inference.traffic import Exchanged, Traffic, traffic_section


def booked(*sizes: dict[str, int]) -> Traffic:
    """A query of samples of four bytes a mapping, all answered but by `dead`."""
    traffic = Traffic()
    for step in sizes:
        asked = {name: {"x": torch.zeros(count, 1), "labels": torch.zeros(count, dtype=torch.int64)} for name, count in
                 step.items()}  # fmt: skip
        traffic.enter(asked, {name: {"score": inputs["x"]} for name, inputs in asked.items() if name != "dead"})
    return traffic


def test_samples_and_bytes_are_booked_both_ways() -> None:
    traffic = booked({"a": 2, "dead": 3}, {"a": 1})
    assert traffic.steps == [
        {"a": Exchanged(1, 2, 24, 8), "dead": Exchanged(1, 3, 36, 0)},
        {"a": Exchanged(1, 1, 12, 4)},
    ]
    assert traffic.sites() == {"a": Exchanged(2, 3, 36, 12), "dead": Exchanged(1, 3, 36, 0)}
    assert traffic.record() == {
        "sites": {
            "a": {"queries": 2, "samples": 3, "sent": 36, "received": 12},
            "dead": {"queries": 1, "samples": 3, "sent": 36, "received": 0},
        },
        "samples_by_step": {"a": [2, 1], "dead": [3, 0]},
    }


def test_batches_add_up_step_by_step() -> None:
    whole = Traffic.joined([booked({"a": 2}, {"a": 1}), booked({"a": 4, "b": 1})])
    assert whole.record()["samples_by_step"] == {"a": [6, 1], "b": [1, 0]}
    assert Traffic.joined([]).steps == []


def test_the_section_has_a_row_a_site_and_a_line_an_arm() -> None:
    section = traffic_section({"all": booked({"a": 2, "b": 2}), "sparse": booked({"a": 1})})
    assert section.table is not None
    assert [row[:4] for row in section.table.rows] == [("all", "a", 1, 2), ("all", "b", 1, 2), ("sparse", "a", 1, 1)]
    assert section.charts[0].lines == {"all": ((1.0, 4.0),), "sparse": ((1.0, 1.0),)}

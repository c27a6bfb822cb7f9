"""What a run has measured so far: it grows by rounds and frames, and the best frame is chosen of the trained ones."""

from __future__ import annotations

from fednet.api import RoundRecord
from fednet.methods.fedbagan.findings import FedBaganFindings, FedBaganFrame
from fednet.methods.fedbagan.messages import GAN, PLAIN_GAN
from fednet.metrics.balance import Balance

BALANCE = Balance(4, 1.0, None, {"rows": 1.0}, None, None, 0.0)


def frame(number: int, distance: float) -> FedBaganFrame:
    return FedBaganFrame(number, distance, BALANCE)


def test_the_best_is_the_earliest_of_the_least_distance_after_training() -> None:
    findings = FedBaganFindings(BALANCE)
    assert findings.best(GAN) is None
    for number, distance in enumerate((0.1, 3.0, 2.0, 2.0)):
        findings = findings.after(GAN, frame=frame(number, distance))
    assert findings.best(GAN) == frame(2, 2.0)
    assert findings.best(PLAIN_GAN) is None


def test_where_nothing_is_measured_the_last_is_the_best() -> None:
    findings = FedBaganFindings()
    for number in range(3):
        findings = findings.after(GAN, frame=FedBaganFrame(number))
    assert findings.best(GAN) == FedBaganFrame(2)


def test_later_findings_leave_the_earlier_ones_as_they_are() -> None:
    record = RoundRecord(1, GAN, {"a1": 1.0}, {}, (), {}, {}, "abc", 0.0, "a1")
    before = FedBaganFindings(BALANCE)
    after = before.after(GAN, (record,)).after(GAN, (record,), frame(1, 1.0))
    assert (before.rounds, before.frames) == ({}, {})
    assert after.rounds == {GAN: (record, record)}
    assert after.frames == {GAN: (frame(1, 1.0),)}

"""What a run has measured so far: rounds, and what the generators' samples are like after some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fednet.api import RoundRecord
from fednet.metrics.balance import Balance


@dataclass(frozen=True)
class FedBaganFrame:
    """A generator's samples after a round.

    Attributes:
        round: of adversarial training; 0 is the decoder alone.
        distance: Frechet distance to the judge's pictures; None where nothing is measured.
        worth: the samples against the test pictures; None where nothing is measured.
    """

    round: int
    distance: float | None = None
    worth: Balance | None = None


@dataclass(frozen=True)
class FedBaganFindings:
    """What was measured so far.

    Attributes:
        floor: real pictures against the test pictures; None where nothing is measured.
        rounds: the records of the rounds, by model.
        frames: samples of "gan" and "plain", by model; the first of "gan" is the decoder alone.
    """

    floor: Balance | None = None
    rounds: Mapping[str, tuple[RoundRecord, ...]] = field(default_factory=dict)
    frames: Mapping[str, tuple[FedBaganFrame, ...]] = field(default_factory=dict)

    def best(self, model: str) -> FedBaganFrame | None:
        """The best frame after training: the least distance to the judge's pictures, the earliest of equals.

        Where nothing is measured, the last one.
        """
        trained = [frame for frame in self.frames.get(model, ()) if frame.round]
        measured = [(frame.distance, frame) for frame in trained if frame.distance is not None]
        if measured:
            return min(measured, key=lambda pair: pair[0])[1]
        return trained[-1] if trained else None

    def after(
        self, model: str, records: tuple[RoundRecord, ...] = (), frame: FedBaganFrame | None = None
    ) -> FedBaganFindings:
        """The findings with further rounds and a further frame."""
        rounds = {**self.rounds, model: (*self.rounds.get(model, ()), *records)}
        frames = {**self.frames, model: (*self.frames.get(model, ()), *((frame,) if frame else ()))}
        return replace(self, rounds=rounds, frames=frames)

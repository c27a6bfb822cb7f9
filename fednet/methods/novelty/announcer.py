"""What the sites of the detector of novelty, and their asker, agree to before anything trains; imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fednet.methods.common.agreement import read_announcements
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.common.measuring_data import require_measurable
from fednet.methods.novelty.config import NoveltyConfig, held_out_count
from fednet.methods.novelty.labels import require_flow


class NoveltyAnnouncer(ImageAnnouncer[NoveltyConfig]):
    """One site before it is loaded (an `Announcer`)."""

    def labelled(self) -> str:
        """A classifier is trained, and every detector on some classes."""
        return "the method novelty"

    def divided(self, counts: Collection[int]) -> dict[str, int]:
        """A part of every class is held out from all training."""
        held = sum(held_out_count(count, self.config.held_out) for count in counts)
        return {"train": sum(counts) - held, "held out": held}


def agree(config: NoveltyConfig, announcements: Mapping[str, str]) -> None:
    """Refuses a flow with classes that a site does not have, and what cannot be measured with."""
    classes = require_measurable(config, announcements)
    announced = {name: one.classes if one.own else classes for name, one in read_announcements(announcements).items()}
    there = {name: [classes.index(one) for one in own] for name, own in announced.items()}
    require_flow(config.flow.labels(classes), there, detectors=config.flow.detector_rounds > 0)

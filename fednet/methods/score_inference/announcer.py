"""What a site of federated score inference announces and agrees to, before it has a model; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Self

from fednet.api import SiteContext
from fednet.data.classes import labels_of
from fednet.data.contract import DataOutline
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.score_inference.config import ScoreInferenceConfig, require_drawable, site_model
from fednet.models.config import UNetConfig
from fednet.models.pretrained import PretrainedModel, open_pretrained


class ScoreInferenceAnnouncer(ImageAnnouncer[ScoreInferenceConfig]):
    """One site before it is loaded (an `Announcer`)."""

    @classmethod
    def from_overrides(
        cls, config: ScoreInferenceConfig, context: SiteContext, overrides: Mapping[str, object] | None = None
    ) -> Self:
        """As `ImageAnnouncer.from_overrides`; a site may also replace keys of the run's `model`, or the whole.

        Raises:
            DataError, ModelError: its own data or model is misconfigured.
        """
        return super().from_overrides(site_model(config, overrides), context, overrides)

    @cached_property
    def brought(self) -> PretrainedModel | None:
        """The model that the site brings along; None where it trains one.

        Raises:
            ModelError: it is not there, or of another kind.
        """
        model = self.config.model
        return None if isinstance(model, UNetConfig) else open_pretrained(model)

    def has_own_data(self) -> bool:
        """Whether no share of the run's data is its: a model that is brought along has seen data of its own."""
        return not isinstance(self.config.model, UNetConfig) or super().has_own_data()

    @cached_property
    def outline(self) -> DataOutline:
        """The classes and the shape of what its model generates."""
        return DataOutline(self.brought.classes, self.brought.shape) if self.brought else super().outline

    def parts(self) -> dict[str, int]:
        """How many of the site's pictures will be used for what; a model that is brought along needs none."""
        return {} if self.brought else super().parts()

    def labelled(self) -> str:
        """A conditional model is trained with labels."""
        model = self.config.model
        return "model.conditional: true" if isinstance(model, UNetConfig) and model.conditional else ""

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Checks that the classes to draw exist, and that its model knows labels if there are any to ask for.

        Raises:
            UnknownClass: one does not.
            ModelError: labels are to be asked for, and its model knows none.
        """
        model = self.config.model
        conditional = (
            model.conditional if isinstance(model, UNetConfig) else bool(self.brought and self.brought.conditional)
        )
        require_drawable(self.config, conditional=conditional, prompted=bool(self.brought and self.brought.prompted))
        if self.config.samples.labels:
            labels_of(self.config.samples.labels, classes, "samples.labels")

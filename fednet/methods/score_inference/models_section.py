"""The section of a summary that says what the sites' models are, as their cards do. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.reporting.summary import Summary, SummarySection, SummaryTable

COLUMNS = ("site", "model", "network", "prediction", "schedule", "precision", "pictures")


def with_models(summary: Summary, capabilities: Mapping[str, ScoreCapabilities]) -> Summary:
    """A summary with a table of the sites' models, where one of them was brought along."""
    if all(site.expert.kind == "unet" for site in capabilities.values()):
        return summary
    rows = tuple(
        (name, card.kind, card.network, card.prediction, card.schedule, card.precision, site.pictures)
        for name, site in capabilities.items()
        for card in (site.expert,)
    )
    section = SummarySection(title="Models", table=SummaryTable(columns=COLUMNS, rows=rows))
    return summary.model_copy(update={"sections": (*summary.sections, section)})

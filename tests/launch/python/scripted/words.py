"""A tiny method from outside the package, with what a session can ask for beside rounds: samples and words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from fednet.api import ExchangePlan, Network, Offer, OfferBatch, Progress, Question, SiteContext
from fednet.errors import MethodError
from fednet.methods.common.disclosure import Disclosure
from fednet.methods.contract import Drawer, Method
from fednet.methods.sample_request import SampleRequest
from fednet.reporting.samples import SampleBatch


class WordsConfig(BaseModel):
    """No settings."""


class Brightness(SampleRequest):
    """How bright the samples are."""

    brightness: float = 0.0


class WordsSite:
    """Offers one word a task, and remembers the others'."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known: dict[str, Tensor] = {}

    def prepare(self, progress: Progress) -> str:
        progress.report("preparing", 1, 1)
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        if question.task == "known":
            return dict(self.known)
        options: Mapping[str, Any] = question.options
        return {"images": torch.full((options["count"], 1, 2, 2), options["brightness"])}

    def initial_offers(self) -> tuple[Offer, ...]:
        return ()

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        progress.report(plan.task, 1, 1)
        return OfferBatch((Offer(self.name, "word", 1, torch.full((1, 4), float(self.name[1:]))),), {"words": 1.0})

    def absorb(self, offer: Offer) -> None:
        self.known[offer.origin] = offer.embeddings


def draw(network: Network, request: Brightness, progress: Progress) -> SampleBatch:
    progress.report("drawing", 0, 1)
    options = {"count": request.count, "brightness": request.brightness}
    replies = network.ask(Question("draw", {}, options)).by_node
    return SampleBatch(torch.stack([reply["images"] for reply in replies.values()]).mean(0), None, (*replies,))


def site(config: WordsConfig, context: SiteContext, overrides: Mapping[str, Any]) -> WordsSite:
    return WordsSite(context.name)


def job(config: WordsConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    raise MethodError("never launched")


METHOD = Method(
    "words", "one word a site", WordsConfig, site, job, drawer=Drawer(Brightness, draw),
    disclosures=(
        Disclosure("question", "known", "none", "the words of all"),
        Disclosure("question", "draw", "none", "pictures of a given brightness"),
    ),
)  # fmt: skip

"""A site that teaches its classes by words and learns those of others: what leaves it is words and numbers.

It takes part in exchanges and answers questions. A call has it learn words and offer them, or tune its image encoder;
offers of others are only taken down, the work with them comes with the next call. What it has learnt and heard outlives
its process. Pictures never leave it: what judges them comes here. Knows no other site and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fednet.api import ExchangePlan, NullProgress, Offer, OfferBatch, Progress, Question, SiteContext
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.federated.offers import versions
from fednet.federated.state import digest
from fednet.images import require_pictures
from fednet.methods.cmtii import evaluation
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.backend_selection import load_backend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.generation import generate_images
from fednet.methods.cmtii.inversion import classes_to_learn, invert_words
from fednet.methods.cmtii.lexicon import Lexicon, class_text_features
from fednet.methods.cmtii.messages import LEARN, TUNE, TUNED_ARMS, CmtiiArm, CmtiiCapabilities, parse_arm, parse_round
from fednet.methods.cmtii.model_cache import cache_key
from fednet.methods.cmtii.persistence import LearnedOffers, SiteStore
from fednet.methods.cmtii.site_data import CmtiiDataSplit, CmtiiSiteData
from fednet.methods.cmtii.tuning import WeightedImages, count_correct, tune_adapter, with_adapter
from fednet.methods.common.dispatch import QuestionHandlers, dispatch
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.reporting.record import Cell, RunRecord
from fednet.seeds import derive, generator

MAX_IMAGES = 20_000
"""Pictures in one question."""


@dataclass(frozen=True)
class _PreparedCmtiiSite:
    """What a site has once it is prepared."""

    holdings: CmtiiSiteData
    backend: CmtiiBackend
    lexicon: Lexicon
    keeper: SiteStore


class CmtiiSite:
    """One site (an `Responder` and a `Exchanger`).

    Args:
        config: the run's configuration, the same at every site.
        site: where it lives; decides its share of the data.
        share: its own pictures, instead of its share of the configured data set.
        backend: its models, instead of those of the configuration.
    """

    def __init__(
        self, config: CmtiiConfig, site: SiteContext, share: ImageSet | None = None, backend: CmtiiBackend | None = None
    ) -> None:
        self.config, self.site = config, site
        self._share, self._backend = share, backend
        self._ready: _PreparedCmtiiSite | None = None
        self._taught = LearnedOffers()
        self._exchanged: dict[int, tuple[Tensor, Tensor]] = {}  # the last round's paintings from received words
        self._asks: QuestionHandlers = {
            "evaluate": self._evaluate,
            "appraise": self._appraise,
        }
        self._works: dict[str, Callable[[ExchangePlan, Progress], OfferBatch]] = {LEARN: self._learn, TUNE: self._tune}

    def prepare(self, progress: Progress) -> str:
        """Reads its pictures, and loads its models or schools them; returns its card as JSON.

        Raises:
            MethodError: data, models and configuration do not fit each other.
        """
        progress.report("reading pictures", 0, 1)
        world = CmtiiDataSplit(self.config.data, self.config.public)
        holdings = world.holdings(self.config.partition, self.site, self._share)
        backend = self._backend or load_backend(self.config, self.site, world, progress)
        classes = holdings.train.classes
        if unknown := sorted(set(self.config.aliases.values()) - set(classes)):
            raise MethodError(f"aliases names {unknown[0]!r}, which is no class: there are {', '.join(classes)}")
        lexicon = Lexicon(backend.clip, classes, self.config.aliases, self.config.unknown)
        keeper = SiteStore(self.site.folder, self.site.name, cache_key(self._terms()))
        self._ready = _PreparedCmtiiSite(holdings, backend, lexicon, keeper)
        self._remember(keeper.words())
        for offer in keeper.heard():
            lexicon.hear(offer)
        return self._card().model_dump_json()

    def initial_offers(self) -> tuple[Offer, ...]:
        """What it offered in an earlier life under the same configuration."""
        return self._taught.offers

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        """Learns and offers words, or tunes.

        Raises:
            MethodError: the work is none, there is nothing to learn from, or a training diverges.
            Stopped: the watch asks for the end.
        """
        work = self._works.get(call.work)
        if work is None:
            raise MethodError(f"a call is for {', '.join(self._works)}; not for {call.work[:40]!r}")
        return work(call, progress)

    def absorb(self, offer: Offer) -> None:
        """Takes down what another site offers, on the disk too.

        Raises:
            MethodError: its words cannot be read here, or it is about no class of the run.
        """
        here = self._there()
        if here.lexicon.hear(offer):
            here.keeper.save_received(offer)

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question; the words stand in the method's README.

        Raises:
            MethodError: the question cannot be answered.
        """
        return dispatch(self._asks, question, self.site.name)

    def _learn(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        here, number = self._there(), parse_round(call.options)
        if number == self._taught.number:
            return self._taught.offering
        train = here.holdings.train
        labels = classes_to_learn(train, self.config.learn, number)
        if not labels:
            raise MethodError(
                f"{self.site.name} has no class of at least {self.config.learn.least} pictures (learn.least) to teach"
            )
        random = generator(self.site.seed, "learn", self.site.name, number)
        spoken = [words[0] for words in here.lexicon.spoken(hearsay=False)]
        words, losses = invert_words(
            here.backend, train, spoken, labels, self.config.learn, random=random, progress=progress
        )
        offers = tuple(self._said(label, word) for label, word in words.items())
        offering = OfferBatch(offers, {**losses, "numbers": float(sum(offer.embeddings.numel() for offer in offers))})
        self._remember(self._taught.learnt(number, offering))
        here.keeper.save_words(self._taught)
        self._note(LEARN, losses, number)
        return offering

    def _tune(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        here, number, arm = self._there(), parse_round(call.options), parse_arm(call.options, TUNED_ARMS)
        train, weight = here.holdings.train, self.config.tune.weight
        images, labels = self._painted(arm, number, progress)
        if arm == "exchange":
            self._exchanged = {number: (images, labels)}
        mixture = WeightedImages(
            torch.cat([train.images, images]),
            torch.cat([train.labels, labels]),
            torch.cat([torch.ones(len(train)), torch.full((len(labels),), weight)]),
        )
        purpose = (arm, self.site.name, number)
        state, losses = tune_adapter(
            here.backend.clip,
            self._texts(arm),
            mixture,
            self.config.tune,
            seed=derive(self.site.seed, "adapter", *purpose),
            random=generator(self.site.seed, "tune", *purpose),
            progress=progress,
        )
        here.keeper.save_adapter(arm, state)
        here.keeper.show(f"painted-{arm}.png", images, labels)
        values = {**losses, "painted": float(len(labels))}
        self._note(f"{TUNE}/{arm}", values, number)
        return OfferBatch((), values)

    def _said(self, label: int, word: Tensor) -> Offer:
        subject = self._there().lexicon.subject(label)
        before = versions(self._taught.offers).get(subject, 0)
        return Offer(self.site.name, subject, before + 1, word)

    def _remember(self, taught: LearnedOffers) -> None:
        self._taught = taught
        for offer in taught.offers:
            self._there().lexicon.learnt(offer)

    def _terms(self) -> dict[str, Any]:
        """What decides what it learns and keeps; what is measured does not."""
        settings = self.config.model_dump(mode="json", exclude={"report"})
        return {"seed": self.site.seed, "place": [self.site.index, self.site.count], **settings}

    def _texts(self, arm: CmtiiArm) -> Tensor:
        """The text feature of every class, as an arm has it."""
        here = self._there()
        if arm == "zero-shot":
            words = [[here.lexicon.tokens(label)] for label in range(len(here.holdings.train.classes))]
        else:
            words = here.lexicon.spoken(hearsay=arm == "exchange")
        return class_text_features(here.backend.clip, words)

    def _painted(self, arm: CmtiiArm, number: int, progress: Progress) -> tuple[Tensor, Tensor]:
        """What an arm paints; the same whenever it is asked for, as long as no further word has come."""
        here, words = self._there(), self._there().lexicon.received()
        if arm == "local":
            words = {}
        if arm == "control":
            words = {label: [here.lexicon.tokens(label)] for label in words}
        random = generator(self.site.seed, "paint", arm, self.site.name, number)
        count, shape = self.config.tune.painted, here.holdings.train.shape
        return generate_images(here.backend.painter, words, count, shape, random=random, progress=progress)

    def _evaluate(self, question: Question) -> Mapping[str, Tensor]:
        """How many pictures of each class an arm takes for it: int64 (classes, 2), right and all, given and own."""
        here, arm = self._there(), parse_arm(question.options)
        given = self._given(question)
        state = None if arm == "zero-shot" else here.keeper.adapter(arm)
        if state is None and arm != "zero-shot":
            raise MethodError(f"{self.site.name} has not been tuned as {arm!r} yet: call for {TUNE} first")
        clip, texts, own = here.backend.clip, self._texts(arm), here.holdings.test
        with with_adapter(clip, self.config.tune, state):
            return {
                "test": count_correct(clip, texts, given.images, given.labels),
                "local": count_correct(clip, texts, own.images, own.labels),
            }

    def _appraise(self, question: Question) -> Mapping[str, Tensor]:
        """What its painted pictures are worth to the judge that is sent, and what its words tell of its pictures."""
        here, number, given = self._there(), parse_round(question.options), self._given(question)
        train = here.holdings.train
        judge = evaluation.judge_from_inputs(question.inputs, train.shape, train.classes, self.site.device)
        known = self._exchanged.get(number)
        images, labels = self._painted("exchange", number, NullProgress()) if known is None else known
        found: dict[str, Any] = {"worth": evaluation.evaluate_generated(judge, images, labels, given)}
        if self.config.report.leakage:
            found["leak"] = self._leak(given)
        return {"appraisal": to_json_tensor(found)}

    def _leak(self, strangers: ImageSet) -> dict[str, Any]:
        """What attacks on its own words reach, with pictures that nobody has learnt from as strangers."""
        here, painter = self._there(), self._there().backend.painter
        train, shape, own = here.holdings.train, here.holdings.train.shape, here.lexicon.own
        random = generator(self.site.seed, "paint", "own", self.site.name)
        images, labels = generate_images(
            painter, {k: [word] for k, word in sorted(own.items())}, self.config.tune.painted, shape,
            random=random, progress=NullProgress(),
        )  # fmt: skip
        here.keeper.show("taught.png", images, labels)
        leaks = [
            evaluation.measure_leakage(
                painter,
                label,
                (own[label], here.lexicon.tokens(label)),
                (train.images[train.labels == label], strangers.images[strangers.labels == label]),
                images[labels == label],
                views=self.config.report.views,
                seed=derive(self.site.seed, "leak", self.site.name),
            )
            for label in sorted(own)
        ]
        rows: list[dict[str, Cell]] = [
            {"class": train.classes[one.label], "what": what, "nearest": distance}
            for one in leaks
            for what, distances in (("painted", one.painted), ("stranger", one.strangers))
            for distance in distances
        ]
        with RunRecord(self.site.folder, self.site.name) as record:
            record.table("nearest", rows)
        return evaluation.pool_leakage(leaks)

    def _given(self, question: Question) -> ImageSet:
        """The labelled pictures of a question, checked.

        Raises:
            MethodError: there are none, or they are not of the site's shape, in [-1, 1] and finite.
        """
        images, labels = question.inputs.get("images"), question.inputs.get("labels")
        train = self._there().holdings.train
        if images is None or images.dtype != torch.float32 or tuple(images.shape[1:]) != train.shape:
            found = "nothing" if images is None else f"{images.dtype} {tuple(images.shape)}"
            raise MethodError(f"images must be float32 (n, {', '.join(map(str, train.shape))}), not {found}")
        if not 1 <= len(images) <= MAX_IMAGES:
            raise MethodError(f"a question holds 1 to {MAX_IMAGES} pictures, not {len(images)}")
        require_pictures(images)
        if labels is None or labels.dtype != torch.int64 or labels.shape != (len(images),):
            raise MethodError(f"labels must be int64 ({len(images)},)")
        if int(labels.min()) < 0 or int(labels.max()) >= len(train.classes):
            raise MethodError(f"labels must lie in 0 to {len(train.classes) - 1}")
        return ImageSet(images, labels, train.classes)

    def _note(self, what: str, values: Mapping[str, float], step: int) -> None:
        with RunRecord(self.site.folder, self.site.name) as record:
            for name, value in values.items():
                record.scalar(f"{what}/{name}", value, step)

    def _card(self) -> CmtiiCapabilities:
        here = self._there()
        train, clip = here.holdings.train, here.backend.clip
        return CmtiiCapabilities(
            histogram=train.histogram(),
            tests=len(here.holdings.test),
            classes=train.classes,
            shape=train.shape,
            models=digest({str(k): clip.tokens(name) for k, name in enumerate(train.classes)})[:12],
            parameters=sum(part.numel() for part in clip.image_encoder.parameters()),
            common=self._share is None,
        )

    def _there(self) -> _PreparedCmtiiSite:
        if self._ready is None:
            raise MethodError(f"{self.site.name} has not been prepared yet")
        return self._ready

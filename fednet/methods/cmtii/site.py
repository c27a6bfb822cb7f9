"""A site that offers pseudo-words for its classes and receives those of others: only embeddings and numbers leave it.

It takes part in exchanges and answers questions. An exchange has it learn pseudo-words and offer them, or tune its
image encoder; offers of others are stored when they arrive and used in the next exchange. What it has learnt and
received outlives its process. Pictures never leave it: the judge and the test pictures come here. Knows no other site
and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fednet.api import ExchangePlan, ModelState, NullProgress, Offer, OfferBatch, Progress, Question, SiteContext
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.federated.offers import versions
from fednet.federated.state import digest
from fednet.methods.cmtii import evaluation
from fednet.methods.cmtii.announcer import CmtiiAnnouncer
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.backend_selection import load_backend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.disclosures import DISCLOSURES
from fednet.methods.cmtii.export import export_site
from fednet.methods.cmtii.generation import generate_images
from fednet.methods.cmtii.inversion import classes_to_learn, invert_words
from fednet.methods.cmtii.lexicon import Lexicon, class_text_features
from fednet.methods.cmtii.messages import (
    EVALUATE,
    EVALUATE_GENERATED,
    EVALUATE_OWN,
    LEAKAGE,
    LEARN,
    TUNE,
    TUNED_ARMS,
    CmtiiArm,
    CmtiiCapabilities,
    parse_arm,
    parse_round,
)
from fednet.methods.cmtii.model_cache import cache_key
from fednet.methods.cmtii.persistence import OWN_GRID, LearnedOffers, SiteStore, generated_grid
from fednet.methods.cmtii.site_data import CmtiiDataSplit, CmtiiSiteData
from fednet.methods.cmtii.tuning import WeightedImages, count_correct, tune_adapter, with_adapter
from fednet.methods.common.inputs import images_input, labels_input
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.common.options import require_known
from fednet.methods.common.site import ImageSite, QuestionHandlers
from fednet.reporting.record import Cell, RunRecord
from fednet.seeds import derive, generator


@dataclass(frozen=True)
class _LoadedCmtiiSite:
    """The site's pictures and models, the pseudo-words that it knows, and its files."""

    data: CmtiiSiteData
    backend: CmtiiBackend
    lexicon: Lexicon
    store: SiteStore


class CmtiiSite(CmtiiAnnouncer, ImageSite[CmtiiConfig, _LoadedCmtiiSite]):
    """One site (a `Responder` and an `Exchanger`).

    Args:
        config: the run's configuration, the same at every site.
        context: where the site lives; decides its share of the data.
        own: its own pictures or data set, instead of its share of the run's.
        backend: its models, instead of those of the configuration.
    """

    disclosures = DISCLOSURES

    def __init__(
        self,
        config: CmtiiConfig,
        context: SiteContext,
        own: ImageSet | DataConfig | None = None,
        backend: CmtiiBackend | None = None,
    ) -> None:
        super().__init__(config, context, own)
        self._backend = backend
        self._learned = LearnedOffers()
        self._exchanged: dict[int, tuple[Tensor, Tensor]] = {}  # the last round's pictures from received words

    def embedded(self) -> bool:
        """Whether its models are those that are trained on the public part of the run's data."""
        return self._backend is None and super().embedded()

    def load(self, progress: Progress) -> _LoadedCmtiiSite:
        """Reads the site's pictures, loads or pretrains its models, and restores what it has learnt and received.

        Raises:
            MethodError: data, models and configuration do not fit each other.
            Stopped: `progress` asks for the end.
        """
        progress.report("reading pictures", 0, 1)
        split, own = self._split(), self.read_own_images()
        data = split.site_data(self.config.partition, self.context, own).under(self.classes)
        self.used_as({"train": len(data.train), "test": len(data.test)})
        backend = self._backend or load_backend(self.config, self.context, split, progress)
        lexicon = Lexicon(backend.clip, self.classes, self.config.aliases, self.config.unknown)
        store = SiteStore(self.context.folder, self.context.name, cache_key(self._settings(data.train)))
        self._learned = store.words()
        for offer in self._learned.offers:
            lexicon.add_own(offer)
        for offer in store.received():
            lexicon.add_received(offer)
        return _LoadedCmtiiSite(data, backend, lexicon, store)

    def capabilities(self) -> CmtiiCapabilities:
        """What the site says of itself."""
        train, clip = self.loaded.data.train, self.loaded.backend.clip
        return CmtiiCapabilities(
            histogram=train.histogram(),
            tests=len(self.loaded.data.test),
            classes=train.classes,
            shape=train.shape,
            models=digest({str(k): clip.tokens(name) for k, name in enumerate(train.classes)})[:12],
            parameters=sum(part.numel() for part in clip.image_encoder.parameters()),
        )

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {
            EVALUATE: self._evaluate,
            EVALUATE_OWN: self._evaluate_own,
            EVALUATE_GENERATED: self._evaluate_generated,
            LEAKAGE: self._leakage,
        }

    def initial_offers(self) -> tuple[Offer, ...]:
        """The offers of an earlier process of the site under the same configuration."""
        return self._learned.offers

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        """Learns and offers pseudo-words, or tunes the image encoder.

        Raises:
            MethodError: the task is unknown, there is nothing to learn from, or a training diverges.
            Stopped: `progress` asks for the end.
        """
        tasks: dict[str, Callable[[ExchangePlan, Progress], OfferBatch]] = {LEARN: self._learn, TUNE: self._tune}
        require_known(call.task, tasks, "task", self.context.name)
        return tasks[call.task](call, progress)

    def absorb(self, offer: Offer) -> None:
        """Stores what another site offers, on the disk too.

        Raises:
            MethodError: its pseudo-word cannot be read here, or its subject is no class of the run.
        """
        if self.loaded.lexicon.add_received(offer):
            self.loaded.store.save_received(offer)

    def _split(self) -> CmtiiDataSplit:
        return CmtiiDataSplit(self.config.data, self.config.public, self.config.held_out_of_run)

    def _learn(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        loaded, context, number = self.loaded, self.context, parse_round(call.options)
        if number == self._learned.number:
            return self._learned.batch
        train, config = loaded.data.train, self.config.learn
        labels = classes_to_learn(train, config, number)
        if not labels:
            raise MethodError(f"{context.name} has no class with {config.least} pictures or more: lower learn.least")
        random = generator(context.seed, "learn", context.name, number)
        initial = [words[0] for words in loaded.lexicon.words_by_class(received=False)]
        words, losses = invert_words(loaded.backend, train, initial, labels, config, random=random, progress=progress)
        offers = tuple(self._offer(label, word) for label, word in words.items())
        batch = OfferBatch(offers, {**losses, "numbers": float(sum(offer.embeddings.numel() for offer in offers))})
        self._learned = self._learned.after(number, batch)
        for offer in self._learned.offers:
            loaded.lexicon.add_own(offer)
        loaded.store.save_words(self._learned)
        self.record(LEARN, losses, number)
        return batch

    def _tune(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        loaded, context = self.loaded, self.context
        number, arm = parse_round(call.options), parse_arm(call.options, TUNED_ARMS)
        train, weight = loaded.data.train, self.config.tune.weight
        images, labels = self._generated(arm, number, progress)
        if arm == "exchange":
            self._exchanged = {number: (images, labels)}
        mixture = WeightedImages(
            torch.cat([train.images, images]),
            torch.cat([train.labels, labels]),
            torch.cat([torch.ones(len(train)), torch.full((len(labels),), weight)]),
        )
        purpose, texts = (arm, context.name, number), self._texts(arm)
        state, losses = tune_adapter(
            loaded.backend.clip, texts, mixture, self.config.tune, seed=derive(context.seed, "adapter", *purpose),
            random=generator(context.seed, "tune", *purpose), progress=progress,
        )  # fmt: skip
        loaded.store.save_adapter(arm, state)
        if arm == "exchange":
            folder = context.folder / "models" / context.name
            export_site(folder, loaded.backend, loaded.lexicon, texts=texts, adapter=state, config=self.config.tune)
        loaded.store.show(generated_grid(arm), images, labels, train.classes)
        values = {**losses, "generated": float(len(labels))}
        self.record(f"{TUNE}/{arm}", values, number)
        return OfferBatch((), values)

    def _offer(self, label: int, word: Tensor) -> Offer:
        subject = self.loaded.lexicon.subject(label)
        before = versions(self._learned.offers).get(subject, 0)
        return Offer(self.context.name, subject, before + 1, word)

    def _settings(self, pictures: ImageSet) -> dict[str, Any]:
        """What decides what the site learns and keeps; how it is measured does not."""
        settings = self.config.model_dump(mode="json", exclude={"report", "measure"})
        place = [self.context.index, self.context.count]
        return {"seed": self.context.seed, "place": place, "pictures": pictures.digest(), **settings}

    def _texts(self, arm: CmtiiArm) -> Tensor:
        """The text feature of every class in an arm."""
        lexicon = self.loaded.lexicon
        if arm == "zero-shot":
            words = [[lexicon.tokens(label)] for label in range(len(self.loaded.data.train.classes))]
        else:
            words = lexicon.words_by_class(received=arm == "exchange")
        return class_text_features(self.loaded.backend.clip, words)

    def _generated(self, arm: CmtiiArm, number: int, progress: Progress) -> tuple[Tensor, Tensor]:
        """The generated pictures of an arm; the same whenever asked for, as long as no further word has come."""
        loaded = self.loaded
        words = {} if arm == "local" else loaded.lexicon.received()
        if arm == "control":
            words = {label: [loaded.lexicon.tokens(label)] for label in words}
        random = generator(self.context.seed, "paint", arm, self.context.name, number)
        count, shape, net = self.config.tune.generated, loaded.data.train.shape, loaded.backend.image_generator
        return generate_images(net, words, count, shape, random=random, progress=progress)

    def _evaluate(self, question: Question) -> Mapping[str, Tensor]:
        """How many given pictures of each class an arm gets right: int64 (classes, 2), right and all."""
        arm, adapter = self._arm(question)
        return {"test": self._correct(arm, adapter, self._images(question))}

    def _evaluate_own(self, question: Question) -> Mapping[str, Tensor]:
        """The same of the site's own test pictures."""
        (arm, adapter), own = self._arm(question), self.loaded.data.test
        self.disclose(EVALUATE_OWN, len(own))
        return {"local": self._correct(arm, adapter, own)}

    def _arm(self, question: Question) -> tuple[CmtiiArm, ModelState | None]:
        """The arm of a question, and the adapter that was tuned for it."""
        arm = parse_arm(question.options)
        adapter = None if arm == "zero-shot" else self.loaded.store.adapter(arm)
        if adapter is None and arm != "zero-shot":
            raise MethodError(f"{self.context.name} has not been tuned for {arm!r}: hold an exchange of {TUNE} first")
        return arm, adapter

    def _correct(self, arm: CmtiiArm, adapter: ModelState | None, pictures: ImageSet) -> Tensor:
        clip, texts = self.loaded.backend.clip, self._texts(arm)
        with with_adapter(clip, self.config.tune, adapter):
            return count_correct(clip, texts, pictures.images, pictures.labels)

    def _evaluate_generated(self, question: Question) -> Mapping[str, Tensor]:
        """The measures, by a judge that is given, of the pictures that the site generates from received words."""
        number, given, train = parse_round(question.options), self._images(question), self.loaded.data.train
        judge = evaluation.judge_from_inputs(question.inputs, train.shape, train.classes, self.context.device)
        known = self._exchanged.get(number)
        images, labels = self._generated("exchange", number, NullProgress()) if known is None else known
        return {"worth": to_json_tensor(evaluation.evaluate_generated(judge, images, labels, given))}

    def _leakage(self, _question: Question) -> Mapping[str, Tensor]:
        """The AUC of attacks on the site's own words; an empty object where there are no non-members.

        They are pictures of its own test: an attack would tell another source's apart.
        """
        loaded, context, config = self.loaded, self.context, self.config
        strangers, own, net = loaded.data.test, loaded.lexicon.own, loaded.backend.image_generator
        self.disclose(LEAKAGE, len(strangers))
        train = loaded.data.train
        images, labels = generate_images(
            net, {label: [word] for label, word in sorted(own.items())}, config.tune.generated, train.shape,
            random=generator(context.seed, "paint", "own", context.name), progress=NullProgress(),
        )  # fmt: skip
        loaded.store.show(OWN_GRID, images, labels, train.classes)
        leaks = [
            evaluation.measure_leakage(
                net,
                label,
                (own[label], loaded.lexicon.tokens(label)),
                (train.images[train.labels == label], strangers.images[strangers.labels == label]),
                images[labels == label],
                views=config.report.views,
                seed=derive(context.seed, "leak", context.name),
            )
            for label in sorted(own)
            if bool((strangers.labels == label).any())
        ]
        rows: list[dict[str, Cell]] = [
            {"class": train.classes[one.label], "what": what, "nearest": distance}
            for one in leaks
            for what, distances in (("generated", one.generated), ("stranger", one.strangers))
            for distance in distances
        ]
        if leaks:
            with RunRecord(context.folder, context.name) as record:
                record.table("nearest", rows)
        return {"leak": to_json_tensor(evaluation.pool_leakage(leaks) if leaks else {})}

    def _images(self, question: Question) -> ImageSet:
        """The labelled pictures of a question."""
        train, inputs = self.loaded.data.train, question.inputs
        images = images_input(inputs.get("images"), train.shape)
        return ImageSet(images, labels_input(inputs.get("labels"), len(train.classes), len(images)), train.classes)

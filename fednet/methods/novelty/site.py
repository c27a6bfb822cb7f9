"""A site that keeps its pictures to itself: it trains with others, and says what a picture is and whether it belongs.

It answers questions and takes part in rounds. Of its models, "classifier" and "detector" are everybody's once a round
has closed; "own-detector" never leaves the site. Knows no other site and no network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fednet.api import ModelState, NullProgress, Progress, Question, RoundTask, SiteContext, Stopped, Update
from fednet.data.datasets import ImageSet
from fednet.data.site_data import run_share
from fednet.diffusion.masks import masks
from fednet.errors import MethodError
from fednet.federated.state import digest, model_tensors, pack
from fednet.images import require_pictures
from fednet.methods.common.dispatch import QuestionHandlers, dispatch
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.detector import Detector
from fednet.methods.novelty.labels import labels_for
from fednet.methods.novelty.messages import (
    AVERAGE,
    CLASSIFIER,
    DETECTOR,
    DETECTORS,
    MODELS,
    OWN_DETECTOR,
    TRAIN,
    choice_option,
    integer_option,
    number_option,
)
from fednet.methods.novelty.site_models import NoveltyModels
from fednet.methods.novelty.training import count_correct
from fednet.metrics.novelty import threshold
from fednet.metrics.uncertainty import PASSES, mc_dropout

MAX_IMAGES = 20_000
"""Pictures in one question."""
MAX_PASSES = 10_000
"""Of dropout, in one question."""


class NoveltySite:
    """One site (an `Responder` and a `Participant`).

    Args:
        config: the run's configuration, the same at every site.
        site: where it lives; decides its share of the data and its random numbers.
        share: its own pictures, instead of its share of the configured data set.
    """

    def __init__(self, config: NoveltyConfig, site: SiteContext, share: ImageSet | None = None) -> None:
        self.config, self.site = config, site
        self._share = share
        self._bench: NoveltyModels | None = None
        self._progress: Progress = NullProgress()
        self._asks: QuestionHandlers = {
            "status": self._status,
            "train": self._train,
            "validate": self._validate,
            "layout": self._layout,
            "model": self._model,
            "calibrate": self._calibrate,
            "classify": self._classify,
            "uncertainty": self._uncertainty,
            "score": self._score,
        }

    def prepare(self, progress: Progress) -> str:
        """Reads its pictures and makes its models, which know nothing yet; returns its card as JSON.

        The watch hears of the long answers, too.

        Raises:
            MethodError: data, models and configuration do not fit each other.
        """
        self._progress = progress
        progress.report("reading pictures", 0, 1)
        share = run_share(self.config.data, self.config.partition, self.site) if self._share is None else self._share
        self._bench = NoveltyModels(self.config, self.site, share)
        progress.report("reading pictures", 1, 1)
        return self._bench.card().model_dump_json()

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question; the words stand in the method's README.

        Raises:
            MethodError: the question cannot be answered.
        """
        try:
            return dispatch(self._asks, question, self.site.name)
        except Stopped as stop:
            raise MethodError(f"{self.site.name} was stopped before it could answer") from stop

    def initial_state(self, model: str) -> ModelState:
        """The model that everybody begins with.

        Raises:
            MethodError: there is no such model, or it is one that is never shared.
        """
        return self._ready().shared(model).initial_state()

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What `base` becomes on the labels that the task names ("train"), or what the site has ("average").

        Options of "train": labels, or labels.<node>; epochs or steps; mu, for the classifier. The weight is the
        number of pictures.

        Raises:
            MethodError: it has no pictures of a label, the options are wrong, or the training diverges.
            Stopped: the watch asks for the end.
        """
        bench = self._ready()
        learner = bench.shared(task.model)
        if task.work == AVERAGE:
            _, count = bench.taught.get(task.model, (None, len(bench.holdings.train)))
            return Update(learner.state(), float(count))
        if task.work != TRAIN:
            raise MethodError(f"a round is for {TRAIN} or {AVERAGE}, not {task.work[:40]!r}")
        learned, count = bench.learn(task.model, model_tensors(base), bench.lesson(task.options, task.number), progress)
        return Update(learned.state, float(count), learned.values)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with; a detector must then be calibrated anew.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        bench = self._ready()
        bench.shared(model).take(model_tensors(state), f"round {number} of {model}")
        bench.taught.pop(model, None)

    def _status(self, _question: Question) -> Mapping[str, Tensor]:
        """What each model is now: its digest, and for a detector its threshold, or None."""
        bench = self._ready()
        told: dict[str, dict[str, object]] = {name: {"digest": digest(bench.learner(name).state())} for name in MODELS}
        for name, detector in bench.detectors.items():
            told[name]["threshold"] = detector.threshold
        return {"status": to_json_tensor(told)}

    def _train(self, question: Question) -> Mapping[str, Tensor]:
        """Trains the site's copy of a model on some labels: what was measured, and the digest of what came of it."""
        options, bench = question.options, self._ready()
        model = choice_option(options, "model", MODELS, CLASSIFIER)
        lesson = bench.lesson(options, integer_option(options, "number", 0, 0) or 0)
        learned = bench.train_copy(model, lesson, fresh=bool(options.get("fresh", False)), progress=self._progress)
        told = {**learned.values, "pictures": bench.taught[model][1], "digest": digest(bench.learner(model).state())}
        return {"trained": to_json_tensor(told)}

    def _validate(self, question: Question) -> Mapping[str, Tensor]:
        """How many pictures of each class the classifier gets right, of the site's held-out ones or of given ones."""
        bench = self._ready()
        classes = bench.share.classes
        labels = labels_for(self.site.name, question.options, len(classes))
        if "images" in question.inputs:
            images = self._pictures(question)
            pictures = ImageSet(images, _classes_of(question.inputs.get("labels"), len(images), len(classes)), classes)
        else:
            pictures = bench.holdings.held_out_images(labels)
        right, there = count_correct(bench.classifier.net, pictures)
        told = {"digest": digest(bench.classifier.state())}
        return {"right": right, "there": there, "validated": to_json_tensor(told)}

    def _layout(self, question: Question) -> Mapping[str, Tensor]:
        """The dtype and the shape of every tensor of a model, by name."""
        model = choice_option(question.options, "model", MODELS, CLASSIFIER)
        state = self._ready().shared(model).initial_state()
        told = {name: [str(value.dtype).removeprefix("torch."), *value.shape] for name, value in state.items()}
        return {"layout": to_json_tensor(told)}

    def _model(self, question: Question) -> Mapping[str, Tensor]:
        """A model that may leave the site, as the bytes of a safetensors file."""
        model = choice_option(question.options, "model", MODELS, CLASSIFIER)
        content = pack(self._ready().shared(model).state())
        return {"content": torch.frombuffer(bytearray(content), dtype=torch.uint8)}

    def _calibrate(self, question: Question) -> Mapping[str, Tensor]:
        """Sets a detector's threshold: from the site's held-out pictures, or to a number that is given.

        With `only_scores` the threshold stays, and the scores of the held-out pictures are all that is told.
        """
        options, bench = question.options, self._ready()
        model = choice_option(options, "model", DETECTORS, OWN_DETECTOR)
        local, given = bench.detectors[model], number_option(options, "threshold")
        if given is not None:
            local.threshold = given
            return {"threshold": torch.tensor([given], dtype=torch.float64)}
        labels = labels_for(self.site.name, options, len(bench.share.classes))
        if labels is None:
            labels, _ = bench.taught.get(model, (None, 0))
        if labels is None:
            raise MethodError("which labels belong? The detector was not trained here: name them in the option labels")
        detector, held_out = bench.detector(model), bench.holdings.held_out_images(labels)
        scores = detector.score(held_out.images, self._progress)
        if options.get("only_scores"):
            return {"scores": scores}
        local.threshold = threshold(scores, detector.config.false_alarms)
        return {"scores": scores, "threshold": torch.tensor([local.threshold], dtype=torch.float64)}

    def _classify(self, question: Question) -> Mapping[str, Tensor]:
        """The classifier's logits float32 (n, classes)."""
        return {"logits": self._ready().classifier.logits(self._pictures(question))}

    def _uncertainty(self, question: Question) -> Mapping[str, Tensor]:
        """Mean logits (n, classes) over passes with dropout, and mean and deviation of the class's probability."""
        passes = integer_option(question.options, "passes", PASSES) or PASSES
        if passes > MAX_PASSES:
            raise MethodError(f"at most {MAX_PASSES} passes, not {passes}")
        images = self._pictures(question).to(self.site.device)
        found = mc_dropout(self._ready().classifier.net, images, passes=passes, seed=self.site.seed)
        return {"logits": found.logits, "probability": found.probability, "deviation": found.deviation}

    def _score(self, question: Question) -> Mapping[str, Tensor]:
        """A detector's scores (n,), its threshold if it has one.

        With `keep` also the reconstructions (n, k, c, h, w), and what was known of them, bool (k, h, w).
        """
        model = choice_option(question.options, "model", DETECTORS, DETECTOR)
        images, detector = self._pictures(question), self._ready().detector(model)
        told = {"scores": detector.score(images, self._progress)}
        if detector.threshold is not None:
            told["threshold"] = torch.tensor([detector.threshold], dtype=torch.float64)
        if question.options.get("keep"):
            told |= {"reconstructions": detector.reconstruct(images, self._progress), "known": _known(detector)}
        return told

    def _pictures(self, question: Question) -> Tensor:
        """The pictures of a question, `images.<node>` or else `images`, checked.

        Raises:
            MethodError: there are none, or they are not of the site's shape, in [-1, 1] and finite.
        """
        inputs, shape = question.inputs, self._ready().share.shape
        images = inputs.get(f"images.{self.site.name}", inputs.get("images"))
        if images is None or images.dtype != torch.float32 or images.dim() != 4 or tuple(images.shape[1:]) != shape:
            found = "nothing" if images is None else f"{images.dtype} {tuple(images.shape)}"
            raise MethodError(f"images must be float32 (n, {', '.join(map(str, shape))}), not {found}")
        if not 1 <= len(images) <= MAX_IMAGES:
            raise MethodError(f"a question holds 1 to {MAX_IMAGES} pictures, not {len(images)}")
        require_pictures(images)
        return images

    def _ready(self) -> NoveltyModels:
        if self._bench is None:
            raise MethodError(f"{self.site.name} is not prepared: let it read its pictures first")
        return self._bench


def _known(detector: Detector) -> Tensor:
    """The masks of a detector's reconstructions, bool (k, h, w)."""
    score = detector.config
    return masks(score.mask, score.reconstructions, detector.net.shape[1:], blocks=score.blocks, seed=detector.seed)


def _classes_of(labels: Tensor | None, count: int, classes: int) -> Tensor:
    if labels is None or labels.dtype != torch.int64 or labels.shape != (count,):
        found = "nothing" if labels is None else f"{labels.dtype} {tuple(labels.shape)}"
        raise MethodError(f"labels must be int64 ({count},), not {found}")
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise MethodError(f"labels must lie in 0..{classes - 1}, not {int(labels.min())}..{int(labels.max())}")
    return labels

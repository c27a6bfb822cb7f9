"""A site that keeps its pictures to itself: it trains with others, classifies pictures and scores their novelty.

It answers questions and takes part in rounds. Of its models, "classifier" and "detector" are shared once a round has
closed; "own-detector" never leaves the site. Knows no other site and no network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fednet.api import ModelState, NullProgress, Progress, Question, RoundTask, SiteContext, Stopped, Update
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet
from fednet.diffusion.masks import masks
from fednet.errors import MethodError
from fednet.federated.state import digest, model_tensors
from fednet.federated.state_file import Layout
from fednet.methods.common.inputs import images_input, labels_input
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.common.model_transfer import MODEL, model_reply
from fednet.methods.common.options import choice, number, require_known, whole_number
from fednet.methods.common.site import ImageSite, QuestionHandlers
from fednet.methods.novelty.announcer import NoveltyAnnouncer
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.detector import Detector
from fednet.methods.novelty.disclosures import DISCLOSURES
from fednet.methods.novelty.labels import labels_for
from fednet.methods.novelty.messages import (
    AVERAGE,
    CALIBRATE,
    CLASSIFIER,
    DETECTOR,
    DETECTORS,
    HELD_OUT_SCORES,
    MODELS,
    OWN_DETECTOR,
    SET_THRESHOLD,
    TRAIN,
    VALIDATE,
    VALIDATE_HELD_OUT,
    NoveltyCapabilities,
)
from fednet.methods.novelty.site_models import NoveltyModels
from fednet.methods.novelty.training import count_correct
from fednet.metrics.novelty import threshold
from fednet.metrics.uncertainty import PASSES, mc_dropout

MAX_PASSES = 10_000
"""Of dropout, in one question."""
DIGEST_CHARACTERS = 64
"""Of a SHA-256 in hexadecimal digits."""


class NoveltySite(NoveltyAnnouncer, ImageSite[NoveltyConfig, NoveltyModels]):
    """One site (a `Responder` and a `Participant`)."""

    disclosures = DISCLOSURES

    def __init__(self, config: NoveltyConfig, context: SiteContext, own: ImageSet | DataConfig | None = None) -> None:
        super().__init__(config, context, own)
        self._progress: Progress = NullProgress()

    def load(self, progress: Progress) -> NoveltyModels:
        """Reads the site's pictures and makes its untrained models; `progress` is told of long answers, too.

        Raises:
            MethodError: data, models and configuration do not fit each other.
        """
        self._progress = progress
        return NoveltyModels(self.config, self.context, self.read_images(progress))

    def capabilities(self) -> NoveltyCapabilities:
        """What the site says of itself."""
        return self.loaded.capabilities()

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {
            "status": self._status,
            TRAIN: self._train,
            VALIDATE: self._validate,
            VALIDATE_HELD_OUT: self._validate_held_out,
            "layout": self._layout,
            MODEL: self._model,
            CALIBRATE: self._calibrate,
            HELD_OUT_SCORES: self._held_out_scores,
            SET_THRESHOLD: self._set_threshold,
            "classify": self._classify,
            "uncertainty": self._uncertainty,
            "score": self._score,
        }

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question; the method's README lists them.

        Raises:
            MethodError: the question is unknown, or cannot be answered.
        """
        try:
            return super().answer(question)
        except Stopped as stop:
            raise MethodError(f"{self.context.name} was stopped before it could answer") from stop

    def initial_state(self, model: str) -> ModelState:
        """The model that every site begins with.

        Raises:
            MethodError: there is no such model, or it is never shared.
        """
        return self.loaded.shared(model).initial_state()

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What `base` becomes on the labels of the task ("train"), or the site's own copy ("average").

        Options of "train": labels, or labels.<node>; epochs or steps; mu, for the classifier. The weight is the
        number of pictures.

        Raises:
            MethodError: it has no pictures of a label, the options are wrong, or the training diverges.
            Stopped: `progress` asks for the end.
        """
        models = self.loaded
        local = models.shared(task.model)
        require_known(task.task, (TRAIN, AVERAGE), "task", self.context.name)
        if task.task == AVERAGE:
            _, count = models.trained.get(task.model, (None, len(models.site_data.train)))
            return Update(local.state(), float(count))
        training = models.training_task(task.options, task.number)
        result, count = models.trained_from(task.model, model_tensors(base), training, progress)
        return Update(result.state, float(count), result.values)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with; a detector must then be calibrated anew.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        self.loaded.shared(model).take(model_tensors(state), f"round {number} of {model}")
        self.loaded.trained.pop(model, None)
        self.loaded.export(model)

    def _status(self, _question: Question) -> Mapping[str, Tensor]:
        """Each model's digest, and for a detector its threshold and the joint one, or None."""
        models = self.loaded
        status: dict[str, dict[str, object]] = {name: {"digest": digest(models.local(name).state())} for name in MODELS}
        for name, detector in models.detectors.items():
            status[name] |= {"threshold": detector.threshold, "joint": detector.joint}
        return {"status": to_json_tensor(status)}

    def _train(self, question: Question) -> Mapping[str, Tensor]:
        """Trains the site's copy of a model on some labels: what was measured, and the digest of the result."""
        options, models = question.options, self.loaded
        model = choice(options, "model", MODELS, CLASSIFIER)
        training = models.training_task(options, whole_number(options, "number", 0, 0) or 0)
        result = models.train_copy(model, training, fresh=bool(options.get("fresh", False)), progress=self._progress)
        facts = {"pictures": models.trained[model][1], "digest": digest(models.local(model).state())}
        return {"trained": to_json_tensor({**result.values, **facts})}

    def _validate(self, question: Question) -> Mapping[str, Tensor]:
        """How many of given pictures of each class the classifier gets right."""
        classes, images = self.loaded.images.classes, self._images(question)
        return self._validated(
            ImageSet(images, labels_input(question.inputs.get("labels"), len(classes), len(images)), classes)
        )

    def _validate_held_out(self, question: Question) -> Mapping[str, Tensor]:
        """How many of the site's held-out pictures of each class the classifier gets right."""
        models = self.loaded
        labels = labels_for(self.context.name, question.options, len(models.images.classes))
        held_out = models.site_data.held_out_images(labels)
        self.disclose(VALIDATE_HELD_OUT, len(held_out))
        return self._validated(held_out)

    def _validated(self, pictures: ImageSet) -> Mapping[str, Tensor]:
        models = self.loaded
        right, total = count_correct(models.classifier.net, pictures)
        facts = {"digest": digest(models.classifier.state())}
        return {"right": right, "there": total, "validated": to_json_tensor(facts)}

    def _layout(self, question: Question) -> Mapping[str, Tensor]:
        """The dtype and the shape of every tensor of a model, by name: the header of its state's file."""
        state = self.loaded.shared(choice(question.options, "model", MODELS, CLASSIFIER)).initial_state()
        return {"layout": torch.frombuffer(bytearray(Layout.of_state(state).header), dtype=torch.uint8)}

    def _model(self, question: Question) -> Mapping[str, Tensor]:
        """A model that may leave the site, as the bytes of a safetensors file."""
        return model_reply(self.loaded.shared(choice(question.options, "model", MODELS, CLASSIFIER)).state())

    def _calibrate(self, question: Question) -> Mapping[str, Tensor]:
        """Sets a detector's threshold from the site's held-out pictures of some labels, and tells it."""
        model, scores = self._scored_held_out(question, CALIBRATE)
        local = self.loaded.detectors[model]
        local.threshold = threshold(scores, self.loaded.detector(model).config.false_alarms)
        self.loaded.export(model)
        return {"threshold": torch.tensor([local.threshold], dtype=torch.float64)}

    def _held_out_scores(self, question: Question) -> Mapping[str, Tensor]:
        """A detector's scores (n,) of the site's held-out pictures of some labels."""
        return {"scores": self._scored_held_out(question, HELD_OUT_SCORES)[1]}

    def _scored_held_out(self, question: Question, task: str) -> tuple[str, Tensor]:
        """Which detector is named, and its scores of the held-out pictures of the labels, or of those trained on."""
        options, models = question.options, self.loaded
        model = choice(options, "model", DETECTORS, OWN_DETECTOR)
        labels = labels_for(self.context.name, options, len(models.images.classes))
        if labels is None:
            labels, _ = models.trained.get(model, (None, 0))
        if labels is None:
            raise MethodError(f"{self.context.name} did not train the {model}: name its labels in the option labels")
        detector, held_out = models.detector(model), models.site_data.held_out_images(labels)
        self.disclose(task, len(held_out))
        return model, detector.score(held_out.images, self._progress)

    def _set_threshold(self, question: Question) -> Mapping[str, Tensor]:
        """Sets a detector's `threshold`, or `joint`, that of the smallest ratio of the detectors `detectors`."""
        options = question.options
        model = choice(options, "model", DETECTORS, OWN_DETECTOR)
        local = self.loaded.detectors[model]
        given, joint = number(options, "threshold"), number(options, "joint")
        if given is not None:
            local.threshold = given
            self.loaded.export(model)
        elif joint is not None:
            local.joint = joint, str(options.get("detectors", ""))[:DIGEST_CHARACTERS]
        else:
            raise MethodError(f"{self.context.name}: {SET_THRESHOLD} takes the option threshold, or joint")
        return {"threshold": torch.tensor([joint if given is None else given], dtype=torch.float64)}

    def _classify(self, question: Question) -> Mapping[str, Tensor]:
        """The classifier's logits float32 (n, classes)."""
        return {"logits": self.loaded.classifier.logits(self._images(question))}

    def _uncertainty(self, question: Question) -> Mapping[str, Tensor]:
        """Mean logits (n, classes) over passes with dropout, and mean and deviation of the class's probability."""
        passes = whole_number(question.options, "passes", PASSES, most=MAX_PASSES) or PASSES
        images = self._images(question).to(self.context.device)
        dropout = mc_dropout(self.loaded.classifier.net, images, passes=passes, seed=self.context.seed)
        return {"logits": dropout.logits, "probability": dropout.probability, "deviation": dropout.deviation}

    def _score(self, question: Question) -> Mapping[str, Tensor]:
        """A detector's scores (n,), and its threshold if it has one.

        With `keep` also the reconstructions (n, k, c, h, w), and their known pixels, bool (k, h, w).
        """
        model = choice(question.options, "model", DETECTORS, DETECTOR)
        images, detector = self._images(question), self.loaded.detector(model)
        reply = {"scores": detector.score(images, self._progress)}
        if detector.threshold is not None:
            reply["threshold"] = torch.tensor([detector.threshold], dtype=torch.float64)
        if question.options.get("keep"):
            reply |= {"reconstructions": detector.reconstruct(images, self._progress), "known": _known(detector)}
        return reply

    def _images(self, question: Question) -> Tensor:
        """The pictures of a question: `images.<node>` or else `images`."""
        inputs = question.inputs
        images = inputs.get(f"images.{self.context.name}", inputs.get("images"))
        return images_input(images, self.loaded.images.shape)


def _known(detector: Detector) -> Tensor:
    """The known pixels of a detector's reconstructions, bool (k, h, w)."""
    score = detector.config
    return masks(score.mask, score.reconstructions, detector.net.shape[1:], blocks=score.blocks, seed=detector.seed)

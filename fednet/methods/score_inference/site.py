"""A site that keeps its images and its score model to itself and answers what the model's score is.

The model is trained on the site's own images alone, or is one that the site brings along (`fednet.models.pretrained`),
which needs no images; to all that follows both are score experts. Nothing leaves the site but scores, divergences and
capabilities. Knows no other site and no network; `nodes` or `local_ask` carry its answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Progress, Question
from fednet.data.datasets import ImageSet
from fednet.diffusion.expert import ScoreExpert
from fednet.diffusion.training import TrainedScoreModel, train
from fednet.errors import MethodError, ModelError
from fednet.federated.site_models import initial_network, on_device
from fednet.methods.common.inputs import labels_input, vectors_input
from fednet.methods.common.options import number, shown
from fednet.methods.common.site import ImageSite, QuestionHandlers
from fednet.methods.score_inference.announcer import ScoreInferenceAnnouncer
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.disclosures import DISCLOSURES
from fednet.methods.score_inference.messages import SCORE, ScoreCapabilities
from fednet.models.config import UNetConfig
from fednet.models.export import export
from fednet.models.pretrained import open_pretrained, picture_counts, total_pictures
from fednet.models.unet import ScoreNet, digest, restore, save
from fednet.reporting.record import RunRecord
from fednet.seeds import derive, generator

MAX_SAMPLES = 1 << 24
"""In one query; what fits in memory is the caller's choice of `samples.batch`."""
MAX_TOKENS = 1024
"""Of an embedded prompt."""


@dataclass(frozen=True)
class _LoadedScoreModel:
    """The site's model, on its device, and what it was trained on.

    Attributes:
        expert: the model.
        histogram: number of images of each class of the run; empty where it has none.
        pictures: number of images in all.
        trained: how the site has trained it; None for a model that it has brought along.
        seconds: how long that took.
    """

    expert: ScoreExpert
    histogram: tuple[int, ...]
    pictures: int
    trained: TrainedScoreModel | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Query:
    """A question for a score, checked and on the model's device."""

    x: Tensor
    t: Tensor
    labels: Tensor | None
    guidance: float
    probe: Tensor | None


class ScoreInferenceSite(ScoreInferenceAnnouncer, ImageSite[ScoreInferenceConfig, _LoadedScoreModel]):
    """One site of federated score inference (a `Responder`)."""

    disclosures = DISCLOSURES

    def load(self, progress: Progress) -> _LoadedScoreModel:
        """Trains the score model, loads it where its checkpoint exists, or loads the one that the site brings along.

        Raises:
            MethodError: data, model and configuration do not fit each other.
            Stopped: `progress` asks for the end.
        """
        model = self.config.model
        if isinstance(model, UNetConfig):
            return self._own_model(model, progress)
        progress.report("loading the model", 0, 1)
        brought = open_pretrained(model) if self.brought is None else self.brought
        expert = brought.load(self.config.sde, self.context.device, self.classes)
        histogram = picture_counts(model, brought.classes, self.classes)
        progress.report("loading the model", 1, 1)
        return _LoadedScoreModel(expert, histogram, total_pictures(model, histogram))

    def capabilities(self) -> ScoreCapabilities:
        """What the site says of itself."""
        loaded, expert, trained = self.loaded, self.loaded.expert, self.loaded.trained
        return ScoreCapabilities(
            pictures=loaded.pictures,
            histogram=loaded.histogram,
            classes=self.classes,
            shape=expert.shape,
            conditional=expert.classes > 0,
            sde=self.config.sde,
            expert=expert.card,
            steps=trained.steps if trained else 0,
            loss=trained.last_loss if trained else None,
            seconds=round(loaded.seconds, 3),
        )

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {SCORE: self._score}

    def checkpoint(self, images: ImageSet) -> Path:
        """The file of the trained model; its name is a digest of the pictures, model and training behind it."""
        config, context = self.config.model_dump(mode="json", include={"model", "sde", "train"}), self.context
        place = [context.name, context.index, context.count, context.seed, images.digest()]
        return context.folder / "checkpoints" / f"{context.name}-{digest([config, place])}.safetensors"

    def _own_model(self, model: UNetConfig, progress: Progress) -> _LoadedScoreModel:
        images = self.read_images(progress)
        net, path = self._untrained(model, images), self.checkpoint(images)
        began = time.monotonic()
        if path.exists():
            trained, seconds = _training_facts(restore(net, path), path), 0.0
        else:
            trained, seconds = self._trained(net, images, progress), time.monotonic() - began
            save(net, path, {"trained": json.dumps(vars(trained))})
            sentence = f"Trained by {self.context.name} on {len(images)} pictures of its own in {trained.steps} steps."
            export(net, self.context.folder / "models" / self.context.name, classes=images.classes, trained=sentence)
        net = net.eval().requires_grad_(False)
        return _LoadedScoreModel(net, images.histogram(), len(images), trained, seconds)

    def _untrained(self, model: UNetConfig, images: ImageSet) -> ScoreNet:
        sde, shape, classes = self.config.sde, images.shape, len(images.classes)
        net = initial_network(self.context.seed, self.context.name, make=lambda: ScoreNet(model, sde, shape, classes))
        return on_device(net, self.context)

    def _trained(self, net: ScoreNet, images: ImageSet, progress: Progress) -> TrainedScoreModel:
        labels = images.labels if net.classes else None
        with RunRecord(self.context.folder, self.context.name) as record:
            seed = derive(self.context.seed, "train", self.context.name)
            recorded = _RecordingProgress(progress, record)
            return train(net, images.images, labels, self.config.train, seed=seed, progress=recorded)

    def _score(self, question: Question) -> Mapping[str, Tensor]:
        """The score at (x, t), and on request its divergence.

        Inputs: x (n, c, h, w) float32 and, for a conditional model, labels (n,) int64, for one that draws from prompts,
        prompt (2, tokens, width) float32, the embedded negative prompt and prompt. Options: t (in (0, 1]),
        guidance (1 by default), divergence (a bool) and probe_seed (an int, for Hutchinson's estimate of the
        divergence with one Rademacher probe a sample).

        Returns:
            score (n, c, h, w), and divergence (n,) where it was asked for; float32 on the CPU.
        """
        expert = self.loaded.expert
        query = self._checked(question, expert)
        if query.probe is None:
            return {"score": _score(expert, query).cpu()}
        score, divergence = _score_and_divergence(expert, query, query.probe)
        return {"score": score.cpu(), "divergence": divergence.cpu()}

    def _checked(self, question: Question, expert: ScoreExpert) -> _Query:
        x = vectors_input(question.inputs.get("x"), expert.shape, "x", most=MAX_SAMPLES)
        labels, width = question.inputs.get("labels"), expert.card.prompt_width
        if labels is not None and not expert.classes:
            raise MethodError(f"{self.context.name} has an unconditional model: ask without labels")
        if labels is not None:
            labels = labels_input(labels, expert.classes, len(x))
        if width is not None:
            labels = _prompt(question.inputs.get("prompt"), width)
        guidance, device = number(question.options, "guidance", 1.0), torch.device(self.context.device)
        return _Query(
            x=x.to(device),
            t=torch.tensor(_time(question), device=device),
            labels=None if labels is None else labels.to(device),
            guidance=1.0 if guidance is None else guidance,
            probe=_probe(question, x.shape).to(device) if question.options.get("divergence") else None,
        )


class _RecordingProgress:
    """A `Progress` that also writes the training losses to the site's record."""

    def __init__(self, progress: Progress, record: RunRecord) -> None:
        self._progress, self._record = progress, record

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        for name, value in values.items():
            self._record.scalar(f"{phase}/{name}", value, done)
        self._progress.report(phase, done, total, **values)


def _training_facts(notes: dict[str, str], path: Path) -> TrainedScoreModel:
    try:
        return TrainedScoreModel(**json.loads(notes["trained"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not say how its model was trained: remove it to train again") from error


def _time(question: Question) -> float:
    t = number(question.options, "t")
    if t is None or not 0.0 < t <= 1.0:
        raise MethodError(f"option t must be a number in (0, 1], got {shown(question.options.get('t'))}")
    return t


def _prompt(prompt: Tensor | None, width: int) -> Tensor:
    """The embedded negative prompt and prompt, (2, tokens, width)."""
    tokens = prompt.shape[1] if prompt is not None and prompt.ndim == 3 else 1
    if not 1 <= tokens <= MAX_TOKENS:
        raise MethodError(f"a prompt has 1 to {MAX_TOKENS} tokens, got {tokens}")
    return vectors_input(prompt, (tokens, width), "prompt", count=2)


def _probe(question: Question, shape: torch.Size) -> Tensor:
    """Hutchinson's probe of random signs: the same for every query with the same seed."""
    seed = question.options.get("probe_seed")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise MethodError(f"a divergence needs the option probe_seed, a whole number; got {shown(seed)}")
    return torch.randint(0, 2, shape, generator=generator(seed, "probe")).float() * 2 - 1


@torch.no_grad()
def _score(expert: ScoreExpert, query: _Query) -> Tensor:
    return expert.score(query.x, query.t, query.labels, query.guidance)


@torch.enable_grad()
def _score_and_divergence(expert: ScoreExpert, query: _Query, probe: Tensor) -> tuple[Tensor, Tensor]:
    """The score and Hutchinson's estimate v . d(s . v)/dx of its divergence (Song et al. 2021, appendix D.2)."""
    x = query.x.detach().requires_grad_()
    score = expert.score(x, query.t, query.labels, query.guidance)
    (slope,) = torch.autograd.grad((score * probe).sum(), x)
    return score.detach(), (slope * probe).flatten(1).sum(1)

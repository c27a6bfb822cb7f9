"""The models of a site: what each begins with, how it is trained, and what it is now.

`LocalClassifier` is a LeNet, `LocalDetector` a score network with the running average of its weights. `train` returns
a result; a model changes only by `take`, so that a repeated round is the same round. Knows no question, no round and
no other site.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from fednet.api import ModelState, Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.diffusion.training import joint_state, load_joint_state, resume
from fednet.diffusion.training import train as train_score_model
from fednet.errors import ModelError
from fednet.federated.proximal import drift
from fednet.federated.site_models import initial_network, on_device
from fednet.federated.state import detached_copy, require_finite, require_like
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.detector import Detector
from fednet.methods.novelty.training import batched_logits, train_classifier
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet

NoveltyShape = tuple[int, int, int]


@dataclass(frozen=True)
class TrainBudget:
    """How long to train, where it differs from the configuration, and FedProx's mu.

    Attributes:
        epochs: passes over the pictures.
        steps: instead: batches.
        mu: of FedProx; None for the configuration's.
        rounds: how many rounds of the model there have been.
    """

    epochs: int | None = None
    steps: int | None = None
    mu: float | None = None
    rounds: int = 0

    def changes(self) -> dict[str, int | None]:
        """What it changes in a configuration that has `epochs` and `steps`."""
        if self.epochs is None and self.steps is None:
            return {}
        return {"epochs": self.epochs, "steps": self.steps}


@dataclass(frozen=True)
class LocalTrainingResult:
    """What came of a training: a state, and what was measured on the way."""

    state: ModelState
    values: dict[str, float] = field(default_factory=dict)


class LocalModel(Protocol):
    """One model of a site."""

    def initial_state(self) -> ModelState:
        """What it begins with."""

    def state(self) -> ModelState:
        """What it is now."""

    def take(self, state: ModelState, whose: str) -> None:
        """Becomes `state`.

        Raises:
            ModelError: it is of another network, or not finite; nothing is changed.
        """

    def train(
        self, base: ModelState, pictures: ImageSet, budget: TrainBudget, *, seed: int, progress: Progress
    ) -> LocalTrainingResult:
        """What `base` becomes by training on pictures; the model itself does not change.

        Raises:
            MethodError: the training diverges.
            Stopped: `progress` asks for the end.
        """


class LocalClassifier:
    """A site's classifier (a `LocalModel`)."""

    def __init__(self, config: NoveltyConfig, site: SiteContext, shape: NoveltyShape, classes: int) -> None:
        self._config, self._shape, self._classes = config, shape, classes
        self._seed, self._device = site.seed, site.device
        self._begin = detached_copy(self._fresh().state_dict())
        self.net = on_device(self._fresh(), site).eval()

    def initial_state(self) -> ModelState:
        """The same at every site: it depends on the run's seed alone."""
        return self._begin

    def state(self) -> ModelState:
        """A copy of the parameters."""
        return detached_copy(self.net.state_dict())

    def take(self, state: ModelState, whose: str) -> None:
        """Becomes `state`; see `LocalModel`."""
        require_like(state, self._begin, whose)
        require_finite(state, whose)
        self.net.load_state_dict(dict(state))

    def train(
        self, base: ModelState, pictures: ImageSet, budget: TrainBudget, *, seed: int, progress: Progress
    ) -> LocalTrainingResult:
        """SGD from `base`, held to it by FedProx's term where mu > 0; see `LocalModel`."""
        changes = budget.changes() | ({} if budget.mu is None else {"mu": budget.mu})
        config = self._config.classifier.model_copy(update=changes)
        net = self._fresh().to(self._device)
        net.load_state_dict(dict(base))
        loss = train_classifier(net, pictures, config, anchor=base, seed=seed, progress=progress)
        state = detached_copy(net.state_dict())
        steps = config.batches(len(pictures))
        return LocalTrainingResult(state, {"loss": loss, "steps": float(steps), "drift": drift(state, base)})

    def logits(self, images: Tensor) -> Tensor:
        """The logits float32 (n, classes) of pictures, on the CPU."""
        return batched_logits(self.net, images)

    def _fresh(self) -> LeNet:
        return initial_network(
            self._seed, "classifier", make=lambda: LeNet(self._shape[0], self._classes, self._config.dropout)
        )


class LocalDetector:
    """A site's diffusion model of what belongs, with its threshold (a `LocalModel`).

    Args:
        config: the run's.
        site: where it lives.
        shape: of a picture.
        alone: whether it is the site's own: it then has an initial state of its own, and is trained in one go.

    Attributes:
        threshold: above it a picture is novel; None where it is not calibrated. A new state has none.
        joint: of the site's own: the threshold of the smallest ratio of several sites' detectors, and the digest of
            these detectors, see `fednet.methods.novelty.scoring`; None where there is none.
    """

    def __init__(self, config: NoveltyConfig, site: SiteContext, shape: NoveltyShape, *, alone: bool = False) -> None:
        self._config, self._site, self._shape, self._alone = config, site, shape, alone
        self.threshold: float | None = None
        self.joint: tuple[float, str] | None = None
        start = config.detector.checkpoint
        if start is None or alone:
            self._net, self._average = self._fresh(), self._fresh()
        else:
            loaded = self._pretrained(start.expanduser())
            self._net, self._average, self.threshold = self._fresh(), self._fresh(), loaded.threshold
            self._net.load_state_dict(loaded.net.state_dict())
            self._average.load_state_dict(loaded.net.state_dict())
        self._begin = self.state()

    def initial_state(self) -> ModelState:
        """The same at every site, unless it is the site's own: untrained, or that of the configured checkpoint."""
        return self._begin

    def state(self) -> ModelState:
        """A copy of the weights and of their running average, named as by `joint_state`."""
        return detached_copy(joint_state(self._net, self._average))

    def take(self, state: ModelState, whose: str) -> None:
        """Becomes `state`, without a threshold; see `LocalModel`."""
        require_like(state, self._begin, whose)
        require_finite(state, whose)
        load_joint_state(self._net, self._average, state)
        self.threshold = None

    def train(
        self, base: ModelState, pictures: ImageSet, budget: TrainBudget, *, seed: int, progress: Progress
    ) -> LocalTrainingResult:
        """A part of a training for a shared one, a whole training for the site's own; see `LocalModel`."""
        net, average = self._fresh(), self._fresh()
        load_joint_state(net, average, base)
        settings = self._config.detector
        changes = budget.changes() or ({"epochs": None, "steps": settings.alone} if self._alone else {})
        config = settings.train.model_copy(update=changes)
        if self._alone:
            trained = train_score_model(net, pictures.images, None, config, seed=seed, progress=progress)
            average.load_state_dict(net.state_dict())
        else:
            before = budget.rounds * config.batches(len(pictures))
            trained = resume(net, average, pictures.images, None, config, before=before, seed=seed, progress=progress)
        values = {"loss": trained.last_loss, "steps": float(trained.steps)}
        return LocalTrainingResult(detached_copy(joint_state(net, average)), values)

    def detector(self, classifier: LeNet) -> Detector:
        """The detector that the averaged weights make; `classifier` gives a perceptual distance its features."""
        score = self._config.detector.score
        features = classifier if score.distance == "perceptual" else None
        return Detector(self._average, score, threshold=self.threshold, seed=self._site.seed, classifier=features)

    def _fresh(self) -> ScoreNet:
        settings = self._config.detector
        purpose = ("own-detector", self._site.name) if self._alone else ("detector",)
        net = initial_network(
            self._site.seed, *purpose, make=lambda: ScoreNet(settings.unet, settings.sde, self._shape, classes=0)
        )
        return on_device(net, self._site)

    def _pretrained(self, path: Path) -> Detector:
        loaded = Detector.load(path)
        there, wanted = loaded.net.describe(), self._fresh().describe()
        if there != wanted:
            keys = sorted(key for key in wanted if there.get(key) != wanted[key])
            raise ModelError(f"{path} holds a detector of another network: {', '.join(keys)} differ from detector.unet")
        return loaded

"""A site that keeps its images and its score model to itself and answers what the model's score is.

The agent learns from nobody and sends out nothing but scores, divergences and its card. Knows no other agent and
no network; `nodes` or `local_ask` carry its answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fednet.api import Progress, Question, SiteContext
from fednet.data.datasets import ImageSet
from fednet.data.site_data import run_share
from fednet.diffusion.sde import SDE, SDEConfig
from fednet.diffusion.training import TrainedScoreModel, train
from fednet.errors import MethodError, ModelError
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.models.unet import ScoreNet, digest, restore, save
from fednet.reporting.record import RunRecord
from fednet.seeds import derive, generator

SCORE_QUESTION = "score"
"""What a question to an agent asks for."""


class ScoreCapabilities(BaseModel):
    """What an agent says of itself to whoever wants to ask it.

    Attributes:
        histogram: number of its images of each class; their sum is the agent's weight under `data-size`.
        classes: the classes' names.
        shape: channels, height and width of an image.
        conditional: whether its model knows labels.
        sde: the forward diffusion that the model was trained for.
        architecture: digest of the network and the SDE.
        steps: batches that it was trained on.
        loss: mean training loss over the last tenth of them.
        seconds: how long it trained; 0 when its checkpoint was there already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    histogram: tuple[int, ...]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    conditional: bool
    sde: SDEConfig
    architecture: str
    steps: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class _ScoreInputs:
    """A question about scores, checked and on the model's device."""

    x: Tensor
    t: Tensor
    labels: Tensor | None
    guidance: float
    probe: Tensor | None


class ScoreInferenceSite:
    """One agent of federated score inference (an `Responder`).

    Args:
        config: the run's configuration, the same at every agent.
        site: where the agent lives; decides its share of the data and its random numbers.
        share: its own images, instead of its share of the configured data set.
    """

    def __init__(self, config: ScoreInferenceConfig, site: SiteContext, share: ImageSet | None = None) -> None:
        self.config, self.site = config, site
        self._share = share
        self._net: ScoreNet | None = None

    def prepare(self, progress: Progress) -> str:
        """Trains the score model, or loads it where its checkpoint exists; returns its card as JSON.

        Raises:
            MethodError: data, model and configuration do not fit each other.
            Stopped: the watch asks for the end.
        """
        share = run_share(self.config.data, self.config.partition, self.site) if self._share is None else self._share
        net = self._fresh(share)
        began = time.monotonic()
        path = self.checkpoint(share)
        if path.exists():
            trained, seconds = _training_facts(restore(net, path), path), 0.0
        else:
            trained, seconds = self._trained(net, share, progress), time.monotonic() - began
            save(net, path, {"trained": json.dumps(vars(trained))})
        self._net = net.eval().requires_grad_(False)
        return ScoreCapabilities(
            histogram=share.histogram(),
            classes=share.classes,
            shape=share.shape,
            conditional=net.classes > 0,
            sde=self.config.sde,
            architecture=digest(net.describe()),
            steps=trained.steps,
            loss=trained.last_loss,
            seconds=round(seconds, 3),
        ).model_dump_json()

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers what the score is at (x, t), and on request what its divergence is.

        The question asks "score" with the inputs x (n, c, h, w) float32 and, for a conditional model, labels (n,)
        int64; and with the options t (a float in (0, 1]), guidance (a float, 1 by default), divergence (a bool)
        and probe_seed (an int, for Hutchinson's estimate of the divergence with one Rademacher probe a sample).

        Returns:
            score (n, c, h, w), and divergence (n,) where it was asked for; float32 on the CPU.

        Raises:
            MethodError: the question cannot be answered.
        """
        if self._net is None:
            raise MethodError(f"{self.site.name} is not prepared: train or load its model first")
        inputs = self._checked(question, self._net)
        if inputs.probe is None:
            return {"score": _score(self._net, inputs).cpu()}
        score, divergence = _score_and_divergence(self._net, inputs, inputs.probe)
        return {"score": score.cpu(), "divergence": divergence.cpu()}

    def checkpoint(self, share: ImageSet) -> Path:
        """Where the trained model lies: the name says which data, model and training it comes from."""
        config = self.config.model_dump(mode="json", include={"data", "partition", "model", "sde", "train"})
        place = [self.site.name, self.site.index, self.site.count, self.site.seed, share.histogram()]
        return self.site.folder / "checkpoints" / f"{self.site.name}-{digest([config, place])}.safetensors"

    def _fresh(self, share: ImageSet) -> ScoreNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.site.seed, "init", self.site.name))
            net = ScoreNet(self.config.model, self.config.sde, share.shape, len(share.classes))
        try:
            return net.to(self.site.device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"{self.site.name} cannot use the device {self.site.device!r}: {error}") from error

    def _trained(self, net: ScoreNet, share: ImageSet, progress: Progress) -> TrainedScoreModel:
        labels = share.labels if net.classes else None
        with RunRecord(self.site.folder, self.site.name) as record:
            seed = derive(self.site.seed, "train", self.site.name)
            return train(
                net, share.images, labels, self.config.train, seed=seed, progress=_RecordingProgress(progress, record)
            )

    def _checked(self, question: Question, net: ScoreNet) -> _ScoreInputs:
        if question.ask != SCORE_QUESTION:
            raise MethodError(f"{self.site.name} answers {SCORE_QUESTION!r}, not {question.ask!r}")
        x, labels = question.inputs.get("x"), question.inputs.get("labels")
        if x is None or x.dtype != torch.float32 or x.dim() != 4 or tuple(x.shape[1:]) != net.shape or not len(x):
            found = "nothing" if x is None else f"{x.dtype} {tuple(x.shape)}"
            raise MethodError(f"x must be float32 (n, {', '.join(map(str, net.shape))}), not {found}")
        if not bool(torch.isfinite(x).all()):
            raise MethodError("x holds numbers that are not finite: the sampler has diverged")
        device = torch.device(self.site.device)
        return _ScoreInputs(
            x=x.to(device),
            t=torch.tensor(_number(question, "t", None, net.sde), device=device),
            labels=None if labels is None else _checked_labels(labels, len(x), net).to(device),
            guidance=_number(question, "guidance", 1.0, None),
            probe=_probe(question, x.shape).to(device) if question.options.get("divergence") else None,
        )


class _RecordingProgress:
    """A watch that also keeps the training loss in the agent's record."""

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
        raise ModelError(f"{path} does not say how it was trained: remove it to train again") from error


def _number(question: Question, name: str, default: float | None, sde: SDE | None) -> float:
    value = question.options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MethodError(f"option {name} must be a number, not {value!r}")
    if sde is not None and not 0.0 < value <= 1.0:
        raise MethodError(f"option {name} must lie in (0, 1], not {value}")
    return float(value)


def _checked_labels(labels: Tensor, count: int, net: ScoreNet) -> Tensor:
    if not net.classes:
        raise MethodError("this agent's model is unconditional: ask without labels")
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise MethodError(f"labels must be int64 ({count},), not {labels.dtype} {tuple(labels.shape)}")
    if bool(((labels < 0) | (labels >= net.classes)).any()):
        raise MethodError(f"labels must lie in 0..{net.classes - 1}, not {labels.min()}..{labels.max()}")
    return labels


def _probe(question: Question, shape: torch.Size) -> Tensor:
    """Hutchinson's probe of random signs: the same for every query with the same seed."""
    seed = question.options.get("probe_seed")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise MethodError(f"a divergence needs an integer option probe_seed, not {seed!r}")
    return torch.randint(0, 2, shape, generator=generator(seed, "probe")).float() * 2 - 1


@torch.no_grad()
def _score(net: ScoreNet, inputs: _ScoreInputs) -> Tensor:
    return net.score(inputs.x, inputs.t, inputs.labels, inputs.guidance)


@torch.enable_grad()
def _score_and_divergence(net: ScoreNet, inputs: _ScoreInputs, probe: Tensor) -> tuple[Tensor, Tensor]:
    """The score and Hutchinson's estimate v . d(s . v)/dx of its divergence (Song et al. 2021, appendix D.2)."""
    x = inputs.x.detach().requires_grad_()
    score = net.score(x, inputs.t, inputs.labels, inputs.guidance)
    (slope,) = torch.autograd.grad((score * probe).sum(), x)
    return score.detach(), (slope * probe).flatten(1).sum(1)

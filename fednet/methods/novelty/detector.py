"""The detector: a diffusion model of pictures that belong, and a threshold above which a picture is novel.

A part of a picture is masked and inpainted by a model that was trained on pictures that belong; a novel picture comes
back changed. The score is the median distance over several reconstructions. It is a function of
the picture, the seed and the detector alone: the noise comes from the picture's own bytes, so that neither the batch
nor the order of the questions matters. A detector is one safetensors file, weights, settings and threshold together.
Knows no other detector; `lowest` is how several make one.

Source: Liu et al. 2023 (LMD, arXiv 2302.10326). The threshold is calibrated on held-out pictures where the source
compares with the score of one picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from fednet.api import NullProgress, Progress
from fednet.diffusion.inpainting import inpaint
from fednet.diffusion.masks import masks
from fednet.errors import MeasureError, ModelError
from fednet.images import require_pictures
from fednet.methods.novelty.checkpoint import read_detector, write_detector
from fednet.methods.novelty.config import DetectorConfig
from fednet.metrics import novelty
from fednet.metrics.config import DistanceName
from fednet.metrics.distances import Distance, mse, perceptual, ssim
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet
from fednet.seeds import generator


class Detector:
    """Scores pictures by how much they change when a diffusion model inpaints parts of them.

    Args:
        net: the model of pictures that belong; a conditional one is used without labels.
        config: how it looks.
        threshold: a picture is novel where its score is larger; None before calibration.
        seed: of the noise and of the random masks.
        classifier: for the perceptual distance only: its features are the space.
        lpips: for "lpips" only: what `fednet.metrics.lpips.lpips` made of the weights.

    Attributes:
        net: as given, in evaluation mode.
        config: as given.
        threshold: as given, or as calibrated last.
        seed: as given.

    Raises:
        ModelError: the pictures are too small for the mask, or the distance lacks its classifier or its weights.
    """

    def __init__(
        self,
        net: ScoreNet,
        config: DetectorConfig,
        *,
        threshold: float | None = None,
        seed: int = 0,
        classifier: LeNet | None = None,
        lpips: Distance | None = None,
    ) -> None:
        self.net, self.config, self.threshold, self.seed = net.eval(), config, threshold, seed
        self.classifier = None if classifier is None else classifier.eval()
        self._distance = _distance(config.distance, self.classifier, lpips)
        self._masks = masks(config.mask, config.reconstructions, net.shape[1:], blocks=config.blocks, seed=seed)

    def score(self, images: Tensor, progress: Progress | None = None) -> Tensor:
        """How novel each picture looks: the median distance over its reconstructions.

        Args:
            images: (n, c, h, w) float32 in [-1, 1], n > 0, of the network's shape.
            progress: told of every step, phase "scoring"; may ask for the end.

        Returns:
            float32 (n,) on the CPU, at least 0.

        Raises:
            MeasureError: the pictures are not of this kind, or the network's answers are not finite.
            Stopped: `progress` asks for the end.
        """
        return median_distance(self.distances(images, progress))

    def distances(self, images: Tensor, progress: Progress | None = None) -> Tensor:
        """The distances (n, reconstructions) of which `score` takes the median; the same arguments and errors."""
        return self._each(images, self._compared, progress)

    def reconstruct(self, images: Tensor, progress: Progress | None = None) -> Tensor:
        """The reconstructions (n, reconstructions, c, h, w) in [-1, 1] that `score` compares; same arguments, errors.

        The known pixels of a reconstruction are those of the picture, bit for bit.
        """
        return self._each(images, lambda _, drawn: drawn, progress)

    def calibrate(self, held_out: Tensor, progress: Progress | None = None) -> float:
        """Sets the threshold from pictures that belong and that the network was not trained on; returns it.

        Args:
            held_out: (n, c, h, w) as for `score`.
            progress: as for `score`.

        Raises:
            MeasureError: they are too few for `config.false_alarms`, or not of the network's kind.
            Stopped: `progress` asks for the end.
        """
        self.threshold = novelty.threshold(self.score(held_out, progress), self.config.false_alarms)
        return self.threshold

    def novel(self, scores: Tensor) -> Tensor:
        """Which of some scores (n,) are above the threshold, bool (n,).

        Raises:
            ModelError: there is no threshold yet.
        """
        if self.threshold is None:
            raise ModelError("this detector has no threshold: calibrate it on held-out pictures first")
        return scores > self.threshold

    def _each(self, images: Tensor, result: Callable[[Tensor, Tensor], Tensor], progress: Progress | None) -> Tensor:
        """`result(pictures, reconstructions)` for all pairs, (n, reconstructions, ...)."""
        pictures = self._checked(images)
        count = self.config.reconstructions
        seeds = [_content_digest(picture) for picture in pictures]
        pairs = torch.split(torch.arange(len(pictures) * count), self.config.batch)
        count_step = _StepCounter(progress or NullProgress(), len(pairs) * self.config.steps * self.config.resamplings)
        rows: list[Tensor] = []
        for chosen in pairs:
            parts = [(int(pair) // count, int(pair) % count) for pair in chosen]
            batch = pictures[chosen // count]
            noise = [generator(self.seed, "reconstruction", seeds[i], r) for i, r in parts]
            drawn = self._inpainted(batch, self._masks[chosen % count], noise, count_step)
            rows.append(result(batch, drawn))
        flat = torch.cat(rows)
        return flat.view(len(pictures), count, *flat.shape[1:])

    @torch.no_grad()
    def _inpainted(
        self, batch: Tensor, known: Tensor, noise: list[torch.Generator], tick: Callable[[], None]
    ) -> Tensor:
        device = next(self.net.parameters()).device

        def draw() -> Tensor:
            return torch.stack([torch.randn(self.net.shape, generator=one) for one in noise]).to(device)

        drawn = inpaint(
            self.net.score,
            self.net.sde,
            batch.to(device),
            known[:, None].to(device),
            steps=self.config.steps,
            resamplings=self.config.resamplings,
            draw=draw,
            tick=tick,
        )
        if not drawn.isfinite().all():  # no NaN may pass for "not above the threshold"
            raise MeasureError("the detector's network gives numbers that are not finite: train or load another one")
        return drawn.clamp(-1, 1).cpu()

    @torch.no_grad()
    def _compared(self, batch: Tensor, drawn: Tensor) -> Tensor:
        return self._distance(batch, drawn)

    def _checked(self, images: Tensor) -> Tensor:
        require_pictures(images, "pictures to score")
        if tuple(images.shape[1:]) != self.net.shape:
            raise MeasureError(f"pictures to score are {tuple(images.shape[1:])}; the detector knows {self.net.shape}")
        return images.detach().to("cpu", torch.float32).clamp(-1, 1)

    def save(self, path: Path) -> None:
        """Writes the detector as one safetensors file, all or nothing; equal detectors are equal bytes.

        Raises:
            OSError: it cannot be written.
        """
        facts = _DetectorFacts(config=self.config, threshold=self.threshold, seed=self.seed)
        write_detector(path, self.net, self.classifier, facts.model_dump(mode="json"))

    @staticmethod
    def load(path: Path, lpips: Distance | None = None) -> Detector:
        """Reads a detector that `save` has written, on the CPU; LPIPS's weights are not in its file.

        Raises:
            ModelError: it is anything else, or it needs LPIPS and that is not given.
        """
        net, classifier, found = read_detector(path)
        try:
            facts = _DetectorFacts.model_validate(found)
        except ValidationError as error:
            raise ModelError(f"{path} does not say how its detector looks at a picture: {error}") from error
        return Detector(
            net, facts.config, threshold=facts.threshold, seed=facts.seed, classifier=classifier, lpips=lpips
        )


def median_distance(distances: Tensor) -> Tensor:
    """The median (n,) of distances (n, k); of an even number of them, the mean of the middle two."""
    return distances.quantile(0.5, dim=1)


def lowest_scores(scores: Mapping[str, Tensor]) -> Tensor:
    """The federated score (n,) of several sites' scores, by name: what is known to one of them is not novel.

    Where each site's scores are divided by its own threshold, a result above 1 means that every site calls the
    picture novel; the false-alarm rate on pictures of one site is then at most that site's own.

    Raises:
        MeasureError: there are no scores, or they are not of one shape.
    """
    if not scores or len({tuple(values.shape) for values in scores.values()}) != 1:
        raise MeasureError(
            f"a lowest score needs scores of one shape from at least one site; got "
            f"{ {name: tuple(values.shape) for name, values in sorted(scores.items())} }"
        )
    return torch.stack([scores[name] for name in sorted(scores)]).amin(0)


class _DetectorFacts(BaseModel):
    """What stands in a detector's file beside its networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: DetectorConfig
    threshold: float | None = Field(strict=True, allow_inf_nan=False)
    seed: int


class _StepCounter:
    """Reports every step."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self) -> None:
        self._done += 1
        self._progress.report("scoring", self._done, self._total)


def _distance(name: DistanceName, classifier: LeNet | None, lpips: Distance | None) -> Distance:
    found = {
        "mse": mse,
        "ssim": ssim,
        "perceptual": None if classifier is None else perceptual(classifier.features),
        "lpips": lpips,
    }[name]
    if found is None:
        need = "a trained classifier" if name == "perceptual" else "its weights, see fednet.metrics.lpips"
        raise ModelError(f"the distance {name!r} needs {need}; give them, or use mse or ssim")
    return found


def _content_digest(picture: Tensor) -> str:
    """What names a picture (c, h, w): a digest of its bytes."""
    return hashlib.blake2b(picture.contiguous().numpy().tobytes(), digest_size=16).hexdigest()

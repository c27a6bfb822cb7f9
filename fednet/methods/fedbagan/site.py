"""A site that trains a balancing GAN with others and keeps its pictures to itself.

It takes part in rounds of four models: "autoencoder" and "gan" and "plain" are trained, "moments" are added up, and one
round of "gan" makes it of the autoencoder, the same at every site. Then it draws pictures of any class for whoever
asks. Knows no other site and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundTask, SiteContext, Update
from fednet.data.datasets import ImageSet
from fednet.data.site_data import run_share
from fednet.errors import DataError, MethodError
from fednet.federated.state import detached_copy, model_tensors, pack
from fednet.methods.common.dispatch import QuestionHandlers, dispatch
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.gaussians import latent_moments
from fednet.methods.fedbagan.messages import (
    AUTOENCODER,
    GAN,
    INITIALISE_GAN,
    MOMENTS,
    PLAIN_GAN,
    SUM_MOMENTS,
    TRAIN,
    FedBaganCapabilities,
)
from fednet.methods.fedbagan.sampling import MAX_IMAGES
from fednet.methods.fedbagan.site_models import FedBaganModels
from fednet.methods.fedbagan.training import (
    FedBaganTrainingContext,
    LatentSampler,
    encode,
    train_autoencoder,
    train_gan,
)
from fednet.reporting.record import RunRecord
from fednet.seeds import generator


@dataclass(frozen=True)
class _PreparedFedBaganSite:
    """What a site has once it is prepared."""

    share: ImageSet
    bench: FedBaganModels


class FedBaganSite:
    """One site (an `Responder` and a `Participant`).

    Args:
        config: the run's configuration, the same at every site.
        site: where it lives; decides its share of the data.
        share: its own pictures, instead of its share of the configured data set.
    """

    def __init__(self, config: FedBaganConfig, site: SiteContext, share: ImageSet | None = None) -> None:
        self.config, self.site = config, site
        self._share = share
        self._ready: _PreparedFedBaganSite | None = None
        self._asks: QuestionHandlers = {"draw": self._draw, "model": self._model}
        self._works: dict[
            tuple[str, str], Callable[[RoundTask, ModelState, Progress], tuple[ModelState, dict[str, float]]]
        ] = {
            (AUTOENCODER, TRAIN): self._encode,
            (MOMENTS, SUM_MOMENTS): self._add_up,
            (GAN, INITIALISE_GAN): lambda _task, _base, _progress: (self._there().bench.initial_gan(), {}),
            (GAN, TRAIN): self._play,
            (PLAIN_GAN, TRAIN): self._play,
        }

    def prepare(self, progress: Progress) -> str:
        """Reads its pictures and makes its models, which know nothing yet; returns its card as JSON.

        Raises:
            MethodError: data, models and configuration do not fit each other.
        """
        progress.report("reading pictures", 0, 1)
        share = run_share(self.config.data, self.config.partition, self.site) if self._share is None else self._share
        _require_batches(self.site.name, len(share), self.config)
        self._ready = _PreparedFedBaganSite(
            share, FedBaganModels(self.config, self.site, share.shape, len(share.classes))
        )
        progress.report("reading pictures", 1, 1)
        card = FedBaganCapabilities(
            pictures=len(share), classes=share.classes, shape=share.shape, latent=self.config.model.latent
        )
        return card.model_dump_json()

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question; the words stand in the method's README.

        Raises:
            MethodError: the question cannot be answered.
        """
        return dispatch(self._asks, question, self.site.name)

    def initial_state(self, model: str) -> ModelState:
        """The model that everybody begins with.

        Raises:
            MethodError: there is none of that name.
        """
        return self._there().bench.models.initial_state(model)

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What `base` becomes here, or what the site adds to it; it weighs as much as the site has pictures.

        Raises:
            MethodError: the task is none, or the training diverges.
            Stopped: the watch asks for the end.
        """
        here, act = self._there(), self._works.get((task.model, task.work))
        if act is None:
            known = ", ".join(f"{work} {model}" for model, work in self._works)
            raise MethodError(f"a round is for one of {known}; not {task.work[:40]!r} {task.model[:40]!r}")
        state, values = act(task, model_tensors(base), progress)
        with RunRecord(self.site.folder, self.site.name) as record:
            for name, value in values.items():
                record.scalar(f"{task.model}/{name}", value, task.number)
        return Update(state, float(len(here.share)), values)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        self._there().bench.models.set_state(model, model_tensors(state), f"round {number} of {model}")

    def _encode(self, task: RoundTask, base: ModelState, progress: Progress) -> tuple[ModelState, dict[str, float]]:
        net = self._there().bench.autoencoder(base)
        losses = train_autoencoder(net, self.config.autoencoder, self._lesson(task, progress))
        return detached_copy(net.state_dict()), losses

    def _add_up(self, _task: RoundTask, _base: ModelState, _progress: Progress) -> tuple[ModelState, dict[str, float]]:
        share, bench = self._there().share, self._there().bench
        latents = encode(bench.autoencoder(), share.images, self.site.device)
        return latent_moments(latents, share.labels, len(share.classes), self.site.index, self.site.count), {}

    def _play(self, task: RoundTask, base: ModelState, progress: Progress) -> tuple[ModelState, dict[str, float]]:
        bench, config, plain = self._there().bench, self.config.gan, task.model == PLAIN_GAN
        pair = bench.pair(task.model, base)
        latents = LatentSampler(self.config.model.latent, None if plain else bench.gaussians())
        anchor = None if plain else bench.autoencoder()
        lesson = self._lesson(task, progress, balanced=not plain)
        losses = train_gan(pair, config, latents, anchor, lesson, alone=self._is_first(task))
        return detached_copy(pair.state_dict()), losses

    def _is_first(self, task: RoundTask) -> bool:
        """Whether the discriminator learns alone: in the first rounds of training, after that which founds the GAN."""
        return task.model == GAN and task.number <= self.config.gan.first + 1

    def _lesson(self, task: RoundTask, progress: Progress, *, balanced: bool = True) -> FedBaganTrainingContext:
        random = generator(self.site.seed, task.model, self.site.name, task.number)
        return FedBaganTrainingContext(self._there().share, self.site.device, random, progress, balanced)

    def _draw(self, question: Question) -> Mapping[str, Tensor]:
        """Pictures float32 (n, c, h, w) of labels int64 (n,), from standard normal noise float32 (n, latent)."""
        here, labels, noise = self._there(), question.inputs.get("labels"), question.inputs.get("noise")
        classes, wide = here.share.classes, self.config.model.latent
        if labels is None or labels.dtype != torch.int64 or labels.ndim != 1 or not 1 <= len(labels) <= MAX_IMAGES:
            raise MethodError(f"labels must be int64 (n,), 1 to {MAX_IMAGES} of them")
        if bool(((labels < 0) | (labels >= len(classes))).any()):
            raise MethodError(f"labels must be 0 to {len(classes) - 1}, not {int(labels.min())} to {int(labels.max())}")
        if noise is None or noise.dtype != torch.float32 or noise.shape != (len(labels), wide):
            found = "nothing" if noise is None else f"{noise.dtype} {tuple(noise.shape)}"
            raise MethodError(f"noise must be float32 ({len(labels)}, {wide}), not {found}: the latent size is {wide}")
        if not bool(noise.isfinite().all()):
            raise MethodError("noise must be finite")
        return {"images": here.bench.draw(labels, noise)}

    def _model(self, question: Question) -> Mapping[str, Tensor]:
        """A model as the bytes of a safetensors file."""
        content = pack(self._there().bench.models.current_state(str(question.options.get("model", GAN))))
        return {"content": torch.frombuffer(bytearray(content), dtype=torch.uint8)}

    def _there(self) -> _PreparedFedBaganSite:
        if self._ready is None:
            raise MethodError(f"{self.site.name} is not prepared: let it read its pictures first")
        return self._ready


def _require_batches(name: str, pictures: int, config: FedBaganConfig) -> None:
    """A batch is drawn from the site's own pictures, and a larger one would only repeat them.

    Raises:
        DataError: a batch is larger than the site's share.
    """
    for key, batch in (("autoencoder.batch", config.autoencoder.batch), ("gan.batch", config.gan.batch)):
        if batch > pictures:
            raise DataError(
                f"{name} has {pictures} pictures and {key} is {batch}: lower it, or set partition.least to {batch}"
            )

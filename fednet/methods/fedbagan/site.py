"""A site that trains a balancing GAN with others and keeps its pictures to itself.

It takes part in rounds of four models: "autoencoder", "gan" and "plain" are trained, "moments" are added up, and one
round of "gan" initialises it from the autoencoder, identically at every site. Then it generates pictures of any class
on request. Knows no other site and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundTask, Update
from fednet.data.datasets import ImageSet
from fednet.errors import DataError
from fednet.federated.site_models import SiteModels
from fednet.federated.state import detached_copy, model_tensors
from fednet.methods.common.inputs import labels_input, vectors_input
from fednet.methods.common.model_transfer import MODEL, model_reply
from fednet.methods.common.options import require_known
from fednet.methods.common.site import ImageSite, QuestionHandlers, RoundModels
from fednet.methods.fedbagan.announcer import FedBaganAnnouncer
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.disclosures import DISCLOSURES
from fednet.methods.fedbagan.gaussians import latent_moments
from fednet.methods.fedbagan.messages import (
    AUTOENCODER,
    DRAW,
    GAN,
    INITIALISE,
    MOMENTS,
    PLAIN_GAN,
    SUM,
    TRAIN,
    FedBaganCapabilities,
)
from fednet.methods.fedbagan.site_models import FedBaganModels
from fednet.methods.fedbagan.training import (
    FedBaganTrainingContext,
    LatentSampler,
    encode,
    train_autoencoder,
    train_gan,
)
from fednet.seeds import generator

Work = Callable[[RoundTask, ModelState, Progress], tuple[ModelState, dict[str, float]]]
"""What a site does in a round: the state that it contributes, and what was measured on the way."""


@dataclass(frozen=True)
class _LoadedFedBagan:
    """The site's pictures and models."""

    images: ImageSet
    models: FedBaganModels


class FedBaganSite(RoundModels, FedBaganAnnouncer, ImageSite[FedBaganConfig, _LoadedFedBagan]):
    """One site (a `Responder` and a `Participant`)."""

    disclosures = DISCLOSURES

    def load(self, progress: Progress) -> _LoadedFedBagan:
        """Reads the site's pictures and makes its untrained models.

        Raises:
            MethodError: data, models and configuration do not fit each other.
        """
        images = self.read_images(progress)
        _require_batches(self.context.name, len(images), self.config)
        return _LoadedFedBagan(images, FedBaganModels(self.config, self.context, images.shape, len(images.classes)))

    def capabilities(self) -> FedBaganCapabilities:
        """What the site says of itself."""
        images = self.loaded.images
        return FedBaganCapabilities(
            pictures=len(images), classes=images.classes, shape=images.shape, latent=self.config.model.latent
        )

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {DRAW: self._draw, MODEL: self._model}

    @property
    def states(self) -> SiteModels:
        """The models by name."""
        return self.loaded.models.states

    def tasks(self) -> Mapping[str, Work]:
        """What does each task of a round, by task and model."""
        return {
            f"{TRAIN} {AUTOENCODER}": self._train_autoencoder,
            f"{SUM} {MOMENTS}": self._sum_moments,
            f"{INITIALISE} {GAN}": lambda _task, _base, _progress: (self.loaded.models.initial_gan(), {}),
            f"{TRAIN} {GAN}": self._train_gan,
            f"{TRAIN} {PLAIN_GAN}": self._train_gan,
        }

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What `base` becomes here, or the site's moments; the weight is the site's number of pictures.

        Raises:
            MethodError: the task is unknown, or the training diverges.
            Stopped: `progress` asks for the end.
        """
        tasks, name = self.tasks(), f"{task.task} {task.model}"
        require_known(name, tasks, "task", self.context.name)
        state, values = tasks[name](task, model_tensors(base), progress)
        self.record(task.model, values, task.number)
        return Update(state, float(len(self.loaded.images)), values)

    def _train_autoencoder(
        self, task: RoundTask, base: ModelState, progress: Progress
    ) -> tuple[ModelState, dict[str, float]]:
        net = self.loaded.models.autoencoder(base)
        losses = train_autoencoder(net, self.config.autoencoder, self._training(task, progress))
        return detached_copy(net.state_dict()), losses

    def _sum_moments(
        self, _task: RoundTask, _base: ModelState, _progress: Progress
    ) -> tuple[ModelState, dict[str, float]]:
        images, context = self.loaded.images, self.context
        latents = encode(self.loaded.models.autoencoder(), images.images, context.device)
        return latent_moments(latents, images.labels, len(images.classes), context.index, context.count), {}

    def _train_gan(self, task: RoundTask, base: ModelState, progress: Progress) -> tuple[ModelState, dict[str, float]]:
        models, plain = self.loaded.models, task.model == PLAIN_GAN
        gan = models.gan(task.model, base)
        latents = LatentSampler(self.config.model.latent, None if plain else models.gaussians())
        anchor = None if plain else models.autoencoder()
        training = self._training(task, progress, balanced=not plain)
        losses = train_gan(gan, self.config.gan, latents, anchor, training, discriminator_only=self._is_first(task))
        return detached_copy(gan.state_dict()), losses

    def _is_first(self, task: RoundTask) -> bool:
        """Whether only the discriminator is trained: in the first rounds after that which initialises the GAN."""
        return task.model == GAN and task.number <= self.config.gan.first + 1

    def _training(self, task: RoundTask, progress: Progress, *, balanced: bool = True) -> FedBaganTrainingContext:
        random = generator(self.context.seed, task.model, self.context.name, task.number)
        return FedBaganTrainingContext(self.loaded.images, self.context.device, random, progress, balanced)

    def _draw(self, question: Question) -> Mapping[str, Tensor]:
        """Pictures float32 (n, c, h, w) of labels int64 (n,), from standard normal noise float32 (n, latent)."""
        labels = labels_input(question.inputs.get("labels"), len(self.loaded.images.classes))
        latent = self.config.model.latent
        noise = vectors_input(question.inputs.get("noise"), (latent,), "noise", len(labels))
        return {"images": self.loaded.models.draw(labels, noise)}

    def _model(self, question: Question) -> Mapping[str, Tensor]:
        """A model as the bytes of a safetensors file."""
        return model_reply(self.states.current_state(str(question.options.get("model", GAN))))


def _require_batches(name: str, pictures: int, config: FedBaganConfig) -> None:
    """Checks that no batch is larger than the site's pictures, which it would only repeat.

    Raises:
        DataError: a batch is larger.
    """
    for key, batch in (("autoencoder.batch", config.autoencoder.batch), ("gan.batch", config.gan.batch)):
        if batch > pictures:
            raise DataError(
                f"{name} has {pictures} pictures and {key} is {batch}: lower it, or set partition.least to {batch}"
            )

"""A site that trains a GAN with others and keeps its pictures to itself: what leaves it has a stated epsilon.

It takes part in rounds and answers questions. Before a round's work its cost is reserved in the ledger; before a
contribution is handed out it is on the disk and its cost is released; what was released is never made twice. Knows no
other site and no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundTask, Stopped, Update
from fednet.data.datasets import ImageSet
from fednet.data.local_split import train_and_test
from fednet.federated.site_models import SiteModels
from fednet.federated.state import detached_copy, digest, model_tensors
from fednet.methods.common.inputs import images_input, labels_input, vectors_input
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.common.options import choice, require_known, whole_number
from fednet.methods.common.site import ImageSite, QuestionHandlers, RoundModels
from fednet.methods.private_gan.adaptive_step import AdaptiveStepSize
from fednet.methods.private_gan.announcer import PrivateGanAnnouncer
from fednet.methods.private_gan.audit import membership_attacks
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.disclosures import DISCLOSURES
from fednet.methods.private_gan.export import export_model
from fednet.methods.private_gan.messages import (
    AUDIT,
    CLASSIFIER,
    DRAW,
    GAN,
    STATUS,
    TRAIN,
    VALIDATE,
    PrivateGanCapabilities,
)
from fednet.methods.private_gan.privacy_guard import PrivacyGuard, ReleaseReservation
from fednet.methods.private_gan.releases import ReleaseStore, StoredRelease, release_key
from fednet.methods.private_gan.site_models import GanPair, PrivateGanModels
from fednet.methods.private_gan.training import PrivateTrainingOptions, train_gan, train_private_classifier
from fednet.privacy.dp_sgd import require_supported
from fednet.seeds import generator


@dataclass(frozen=True)
class _LoadedPrivateGan:
    """The site's pictures, those that are never trained on, the models, and what protects them."""

    images: ImageSet
    strangers: ImageSet
    pictures: str  # their digest: what was released of others is not released again as theirs
    models: PrivateGanModels
    guard: PrivacyGuard
    releases: ReleaseStore
    step_size: AdaptiveStepSize


class PrivateGanSite(RoundModels, PrivateGanAnnouncer, ImageSite[PrivateGanConfig, _LoadedPrivateGan]):
    """One site (a `Responder` and a `Participant`)."""

    disclosures = DISCLOSURES

    def load(self, progress: Progress) -> _LoadedPrivateGan:
        """Reads the site's pictures and its ledger, and makes its untrained models.

        Raises:
            MethodError: data, models and configuration do not fit each other.
            PrivacyError: the models cannot be trained privately, or the ledger or the budget forbids it.
        """
        (images, strangers), context = self._divide(self.read_images(progress)), self.context
        models = PrivateGanModels(self.config, context, images.shape, max(1, len(images.classes)))
        guard = PrivacyGuard(self.config, context, self.ledgers, lambda: bool(self.permits() or self.disclosed()))
        if guard.protection() is not None:
            require_supported(models.gan().discriminator.train(), "discriminator")
        releases = ReleaseStore(context.folder / "releases" / context.name)
        step_size = AdaptiveStepSize(context.folder / "sites" / context.name / "pace")
        return _LoadedPrivateGan(images, strangers, images.digest(), models, guard, releases, step_size)

    @property
    def ledgers(self) -> Path:
        """The folder of the site's ledgers."""
        configured = self.config.privacy.ledger
        return super().ledgers if configured is None else configured.expanduser()

    def _positions(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The positions of the pictures that are trained on, and of the audit's non-members."""
        return train_and_test(labels.clamp(min=0), self.train_ratio(), self.context.seed, self.context.name)

    def _divide(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """What is trained on, and the audit's non-members; none without audits."""
        train, strangers = self._positions(images.labels)
        return images.subset(train), images.subset(strangers)

    def capabilities(self) -> PrivateGanCapabilities:
        """What the site says of itself."""
        images = self.loaded.images
        return PrivateGanCapabilities(
            pictures=len(images),
            classes=images.classes,
            shape=images.shape,
            latent=self.config.model.latent,
            privacy=self.loaded.guard.statement(),
        )

    def handlers(self) -> QuestionHandlers:
        """What answers each question."""
        return {STATUS: self._status, DRAW: self._draw, VALIDATE: self._validate, AUDIT: self._audit}

    @property
    def states(self) -> SiteModels:
        """The models by name."""
        return self.loaded.models.states

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """What `base` becomes here, protected as configured; the very same bytes when it is asked for again.

        Raises:
            PrivacyError: the budget is spent.
            MethodError: the task is unknown, or the training diverges.
            Stopped: `progress` asks for the end; what was reserved is there for the same task when it comes again.
        """
        loaded, base = self.loaded, model_tensors(base)
        require_known(task.task, (TRAIN,), "task", self.context.name)
        self.initial_state(task.model)
        key = release_key(task, base, {**self.config.model_dump(mode="json"), "pictures": loaded.pictures})
        release = loaded.releases.recall(key)
        if release is None:
            reservation = loaded.guard.reserve(key, self._steps(task.model))
            release = self._trained_release(task, base, reservation, progress)
            loaded.releases.keep(key, release)
        loaded.guard.release(release.entry)
        if self.config.share.pace == "adaptive":
            loaded.step_size.contributed(task.model, task.number, base, release.update.state)
        self.record(task.model, release.update.values, task.number)
        return release.update

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with, and writes it down with what it has cost so far.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        super().adopt(model, number, state)
        if self.config.share.pace == "adaptive":
            self.loaded.step_size.closed(model, number, model_tensors(state))
        privacy, classes = self.loaded.guard.statement(), self.loaded.images.classes or ("",)
        self.loaded.models.save(model, number, {"privacy": privacy.model_dump()})
        folder = self.context.folder / "models" / self.context.name
        export_model(self.loaded.models, model, folder, number=number, classes=classes, privacy=privacy)

    def _trained_release(
        self, task: RoundTask, base: ModelState, reservation: ReleaseReservation, progress: Progress
    ) -> StoredRelease:
        guard, purpose = self.loaded.guard, (task.model, task.number)
        options = PrivateTrainingOptions(
            steps=reservation.steps,
            rate=self.config.train.rate,
            pace=self.loaded.step_size.of(task.model) if self.config.share.pace == "adaptive" else 1.0,
            protection=guard.protection(),
            source=guard.source(*purpose),
            random=generator(self.context.seed, "latents", self.context.name, *purpose),
            progress=progress,
            report_losses=guard.open,
            spent=lambda done: guard.running(reservation, done),
        )
        try:
            state, losses = self._trained(task.model, base, options)
            state = guard.released_state(state, base, *purpose)
        except Stopped:
            raise
        except Exception:  # the failure is reported, and may depend on the pictures
            guard.release(reservation.entry)
            raise
        losses = guard.releasable_losses(losses)
        values = {**losses, "steps": float(reservation.steps), "pace": options.pace, **guard.values()}
        weight = float(len(self.loaded.images)) if self.config.share.weight == "examples" else 1.0
        return StoredRelease(Update(state, weight, values), reservation.entry)

    def _trained(
        self, model: str, base: ModelState, options: PrivateTrainingOptions
    ) -> tuple[ModelState, dict[str, float]]:
        images, models = self.loaded.images, self.loaded.models
        if model == CLASSIFIER:
            net = models.classifier(base)
            losses = train_private_classifier(net, images, self.config.classifier, options)
            return detached_copy(net.state_dict()), losses
        gan = models.gan(base)
        losses = train_gan(gan.generator, gan.discriminator, images.images, self.config.train, options)
        return detached_copy(gan.state_dict()), losses

    def _steps(self, model: str) -> int:
        return self.config.train.steps if model == GAN else self.config.classifier.steps

    def _status(self, question: Question) -> Mapping[str, Tensor]:
        """What has been spent, the models' digests, and how many `rounds` of a `model` the budget still buys.

        With `ahead`, as many rounds of the model count as spent. It looks no further ahead than all configured rounds:
        an epsilon of many more steps takes seconds, of each number anew.
        """
        model = choice(question.options, "model", (GAN, CLASSIFIER), GAN)
        most = self.config.rounds + self.config.classifier.rounds
        wanted = min(whole_number(question.options, "rounds", 1) or 1, most)
        ahead = min(whole_number(question.options, "ahead", 0, least=0) or 0, most)
        status = {
            "privacy": self.loaded.guard.statement(self._steps(model), ahead).model_dump(),
            "digests": {name: digest(self.states.current_state(name)) for name in (GAN, CLASSIFIER)},
            "rounds": self.loaded.guard.affordable_rounds(self._steps(model), wanted),
        }
        return {"status": to_json_tensor(status)}

    def _draw(self, question: Question) -> Mapping[str, Tensor]:
        """Pictures float32 (n, c, h, w) for latents (n, latent); with `fresh` by the untrained generator."""
        latents = vectors_input(question.inputs.get("latents"), (self.config.model.latent,), "latents")
        state = self.initial_state(GAN) if question.options.get("fresh") else None
        return {"images": self._generated(self.loaded.models.gan(state), latents)}

    def _validate(self, question: Question) -> Mapping[str, Tensor]:
        """How many of given pictures the classifier gets right: int64 (2,), right and all."""
        own, inputs = self.loaded.images, question.inputs
        images = images_input(inputs.get("images"), own.shape)
        labels = labels_input(inputs.get("labels"), len(own.classes), len(images))
        with torch.no_grad():
            predicted = self.loaded.models.classifier()(images.to(self.context.device)).argmax(1).cpu()
        return {"right": torch.tensor([int((predicted == labels).sum()), len(labels)])}

    def _audit(self, _question: Question) -> Mapping[str, Tensor]:
        """The AUC of membership attacks on the models; members, non-members and samples are of the site's choice."""
        members, strangers = self.loaded.images.images, self.loaded.strangers.images
        self.disclose(AUDIT, min(len(members), len(strangers)))
        gan, random = self.loaded.models.gan(), generator(self.context.seed, "audit", self.context.name)
        latents = torch.randn(self.config.report.samples, self.config.model.latent, generator=random)
        attacks = membership_attacks(gan.discriminator, members, strangers, self._generated(gan, latents), random)
        return {"audit": to_json_tensor(asdict(attacks))}

    def _generated(self, gan: GanPair, latents: Tensor) -> Tensor:
        with torch.no_grad():
            images: Tensor = gan.generator(latents.to(self.context.device))
        return images.float().cpu().clamp(-1, 1)

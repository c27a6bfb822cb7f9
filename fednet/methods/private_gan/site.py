"""A site that trains a GAN with others and keeps its pictures to itself: what leaves it has a stated epsilon.

It takes part in rounds and answers questions. Before a round's work its cost is reserved in the ledger, before a
contribution is handed out it is on the disk and its cost is released, and what was released is never made twice. Knows
no other site and no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundTask, SiteContext, Stopped, Update
from fednet.data.datasets import ImageSet
from fednet.data.site_data import run_share
from fednet.errors import MethodError
from fednet.federated.state import detached_copy, digest, model_tensors
from fednet.images import require_pictures
from fednet.methods.common.dispatch import QuestionHandlers, dispatch
from fednet.methods.common.json_tensor import to_json_tensor
from fednet.methods.private_gan.adaptive_step import AdaptiveStepSize
from fednet.methods.private_gan.audit import membership_attacks
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, TRAIN, PrivateGanCapabilities
from fednet.methods.private_gan.privacy_guard import PrivacyGuard, ReleaseReservation
from fednet.methods.private_gan.releases import ReleaseStore, StoredRelease, release_key
from fednet.methods.private_gan.site_models import PrivateGanModels
from fednet.methods.private_gan.training import PrivateTrainingOptions, train_gan, train_private_classifier
from fednet.privacy.dp_sgd import require_supported
from fednet.reporting.record import RunRecord
from fednet.seeds import generator

MAX_IMAGES = 20_000
"""Pictures in one question."""
MAX_ROUNDS = 100_000
"""That a status looks ahead."""


@dataclass(frozen=True)
class _PreparedPrivateGanSite:
    """What a site has once it is prepared."""

    share: ImageSet
    bench: PrivateGanModels
    guard: PrivacyGuard
    releases: ReleaseStore
    pace: AdaptiveStepSize


class PrivateGanSite:
    """One site (an `Responder` and a `Participant`).

    Args:
        config: the run's configuration, the same at every site.
        site: where it lives; decides its share of the data.
        share: its own pictures, instead of its share of the configured data set.
    """

    def __init__(self, config: PrivateGanConfig, site: SiteContext, share: ImageSet | None = None) -> None:
        self.config, self.site = config, site
        self._share = share
        self._ready: _PreparedPrivateGanSite | None = None
        self._asks: QuestionHandlers = {
            "status": self._status,
            "draw": self._draw,
            "validate": self._validate,
            "audit": self._audit,
        }

    def prepare(self, progress: Progress) -> str:
        """Reads its pictures and its ledger and makes its models, which know nothing yet; returns its card as JSON.

        Raises:
            MethodError: data, models and configuration do not fit each other.
            PrivacyError: the models cannot be trained privately, or the ledger or the budget forbids it.
        """
        progress.report("reading pictures", 0, 1)
        share = run_share(self.config.data, self.config.partition, self.site) if self._share is None else self._share
        bench = PrivateGanModels(self.config, self.site, share.shape, len(share.classes))
        guard = PrivacyGuard(self.config, self.site)
        if guard.protection() is not None:
            require_supported(bench.pair().discriminator.train(), "discriminator")
        releases = ReleaseStore(self.site.folder / "releases" / self.site.name)
        pace = AdaptiveStepSize(self.site.folder / "sites" / self.site.name / "pace")
        self._ready = _PreparedPrivateGanSite(share, bench, guard, releases, pace)
        progress.report("reading pictures", 1, 1)
        return self._card().model_dump_json()

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
        """What `base` becomes here, protected as the configuration says; the very same when it is asked for again.

        Raises:
            PrivacyError: the budget is spent.
            MethodError: the task is none, or the training diverges.
            Stopped: the watch asks for the end; what was granted is there for the same task when it comes again.
        """
        here, base = self._there(), model_tensors(base)
        if task.work != TRAIN:
            raise MethodError(f"a round is for {TRAIN}, not {task.work[:40]!r}")
        here.bench.models.initial_state(task.model)
        key = release_key(task, base, self.config.model_dump(mode="json"))
        release = here.releases.recall(key)
        if release is None:
            release = self._worked(task, base, here.guard.grant(key, self._steps(task.model)), progress)
            here.releases.keep(key, release)
        here.guard.release(release.entry)
        if self.config.share.pace == "adaptive":
            here.pace.sent(task.model, task.number, base, release.update.state)
        self._note(task, release.update.values)
        return release.update

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with, and writes it down with what it has cost so far.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        here, state = self._there(), model_tensors(state)
        here.bench.models.set_state(model, state, f"round {number} of {model}")
        if self.config.share.pace == "adaptive":
            here.pace.learn(model, number, state)
        here.bench.save(model, number, {"privacy": here.guard.card().model_dump()})

    def _worked(
        self, task: RoundTask, base: ModelState, grant: ReleaseReservation, progress: Progress
    ) -> StoredRelease:
        here, purpose = self._there(), (task.model, task.number)
        effort = PrivateTrainingOptions(
            steps=grant.steps,
            rate=self.config.train.rate,
            pace=here.pace.of(task.model) if self.config.share.pace == "adaptive" else 1.0,
            protection=here.guard.protection(),
            source=here.guard.source(*purpose),
            random=generator(self.site.seed, "latents", self.site.name, *purpose),
            progress=progress,
            open=here.guard.open,
            told=lambda done: here.guard.running(grant, done),
        )
        try:
            state, losses = self._trained(task.model, base, effort)
            state = here.guard.released_state(state, base, *purpose)
        except Stopped:
            raise
        except Exception:  # that it fails is told, and may come of the pictures
            here.guard.release(grant.entry)
            raise
        values = {
            **here.guard.releasable_losses(losses),
            "steps": float(grant.steps),
            "pace": effort.pace,
            **here.guard.told(),
        }
        weight = float(len(here.share)) if self.config.share.weight == "examples" else 1.0
        return StoredRelease(Update(state, weight, values), grant.entry)

    def _trained(
        self, model: str, base: ModelState, effort: PrivateTrainingOptions
    ) -> tuple[ModelState, dict[str, float]]:
        here = self._there()
        if model == CLASSIFIER:
            net = here.bench.classifier(base)
            losses = train_private_classifier(net, here.share, self.config.classifier, effort)
            return detached_copy(net.state_dict()), losses
        pair = here.bench.pair(base)
        losses = train_gan(pair.generator, pair.discriminator, here.share.images, self.config.train, effort)
        return detached_copy(pair.state_dict()), losses

    def _note(self, task: RoundTask, values: Mapping[str, float]) -> None:
        with RunRecord(self.site.folder, self.site.name) as record:
            for name, value in values.items():
                record.scalar(f"{task.model}/{name}", value, task.number)

    def _steps(self, model: str) -> int:
        return self.config.train.steps if model == GAN else self.config.classifier.steps

    def _status(self, question: Question) -> Mapping[str, Tensor]:
        """What has been spent, the digests of the models, and how many `rounds` of a `model` the budget still buys."""
        here = self._there()
        model, wanted = question.options.get("model", GAN), question.options.get("rounds", 1)
        if model not in (GAN, CLASSIFIER) or isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise MethodError(f"a status is of {GAN} or {CLASSIFIER} and of 1 round or more")
        told = {
            "privacy": here.guard.card().model_dump(),
            "digests": {name: digest(here.bench.models.current_state(name)) for name in (GAN, CLASSIFIER)},
            "rounds": here.guard.affordable_rounds(self._steps(str(model)), min(wanted, MAX_ROUNDS)),
        }
        return {"status": to_json_tensor(told)}

    def _draw(self, question: Question) -> Mapping[str, Tensor]:
        """Pictures float32 (n, c, h, w) for latents (n, latent); with `fresh` by the generator that knows nothing."""
        here, latents = self._there(), question.inputs.get("latents")
        wide = self.config.model.latent
        if latents is None or latents.dtype != torch.float32 or latents.ndim != 2 or latents.shape[1] != wide:
            found = "nothing" if latents is None else f"{latents.dtype} {tuple(latents.shape)}"
            raise MethodError(f"latents must be float32 (n, {wide}), not {found}")
        if not 1 <= len(latents) <= MAX_IMAGES or not bool(latents.isfinite().all()):
            raise MethodError(f"latents must be 1 to {MAX_IMAGES} finite vectors, not {len(latents)}")
        state = here.bench.models.initial_state(GAN) if question.options.get("fresh") else None
        with torch.no_grad():
            drawn = here.bench.pair(state).generator(latents.to(self.site.device))
        return {"images": drawn.float().cpu().clamp(-1, 1)}

    def _validate(self, question: Question) -> Mapping[str, Tensor]:
        """How many of given pictures the classifier takes for their label: int64 (2,), right and all."""
        here, images = self._there(), self._pictures(question, "images")
        labels = question.inputs.get("labels")
        if labels is None or labels.dtype != torch.int64 or labels.shape != (len(images),):
            raise MethodError(f"labels must be int64 ({len(images)},)")
        with torch.no_grad():
            found = here.bench.classifier()(images.to(self.site.device)).argmax(1).cpu()
        return {"right": torch.tensor([int((found == labels).sum()), len(labels)])}

    def _audit(self, question: Question) -> Mapping[str, Tensor]:
        """What membership attacks on the models reach, with pictures that nobody trained on as strangers."""
        here = self._there()
        if not self.config.report.audit:
            raise MethodError(f"{self.site.name} lets nobody audit it: report.audit is off")
        drawn = self._pictures(question, "drawn") if "drawn" in question.inputs else None
        pair, random = here.bench.pair(), generator(self.site.seed, "audit", self.site.name)
        found = membership_attacks(
            pair.discriminator, here.share.images, self._pictures(question, "strangers"), drawn, random
        )
        return {"audit": to_json_tensor(asdict(found))}

    def _pictures(self, question: Question, name: str) -> Tensor:
        """Pictures of a question, checked.

        Raises:
            MethodError: there are none, or they are not of the site's shape, in [-1, 1] and finite.
        """
        images, shape = question.inputs.get(name), self._there().share.shape
        if images is None or images.dtype != torch.float32 or images.ndim != 4 or tuple(images.shape[1:]) != shape:
            found = "nothing" if images is None else f"{images.dtype} {tuple(images.shape)}"
            raise MethodError(f"{name} must be float32 (n, {', '.join(map(str, shape))}), not {found}")
        if not 1 <= len(images) <= MAX_IMAGES:
            raise MethodError(f"a question holds 1 to {MAX_IMAGES} pictures, not {len(images)}")
        require_pictures(images, name)
        return images

    def _card(self) -> PrivateGanCapabilities:
        here = self._there()
        return PrivateGanCapabilities(
            pictures=len(here.share),
            classes=here.share.classes,
            shape=here.share.shape,
            latent=self.config.model.latent,
            privacy=here.guard.card(),
        )

    def _there(self) -> _PreparedPrivateGanSite:
        if self._ready is None:
            raise MethodError(f"{self.site.name} is not prepared: let it read its pictures first")
        return self._ready

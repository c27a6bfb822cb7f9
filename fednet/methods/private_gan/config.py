"""The configuration of private GAN training, with its defaults; checked before anything runs.

The shape of the networks is configured in `fednet.models.gan`, how contributions become one model in
`fednet.federated.config`. This module knows which protection fits which network and which rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from fednet.federated.config import Federation
from fednet.federated.floors import Floor
from fednet.methods.common.config import ConfigSection, DisclosureConfig, ImageConfig, Permission
from fednet.models.config import GanConfig
from fednet.privacy.config import PrivacyTerms, require_sum


class GanTrainConfig(ConfigSection):
    """What a site does in one round.

    Attributes:
        steps: accounted steps of the discriminator.
        rate: the probability of each picture to be in a step, whatever their number; the privacy depends on it.
        discriminator_lr: step size of its Adam.
        generator_lr: step size of the generator's Adam.
        beta1: of both; beta2 is .999.
        critic_steps: of the discriminator for each time that the generator is trained; more than one helps where the
            noise limits the discriminator (Bie et al. 2023, arXiv 2302.02936).
        generator_steps: of the generator then.
        generator_batch: generated pictures in a step of the generator.
    """

    steps: int = Field(default=20, ge=1)
    rate: float = Field(default=0.05, gt=0.0, le=1.0)
    discriminator_lr: float = Field(default=2e-3, gt=0.0)
    generator_lr: float = Field(default=2e-3, gt=0.0)
    beta1: float = Field(default=0.0, ge=0.0, lt=1.0)
    critic_steps: int = Field(default=4, ge=1)
    generator_steps: int = Field(default=1, ge=1)
    generator_batch: int = Field(default=32, ge=1)


class PrivacyConfig(PrivacyTerms):
    """What is protected, how, and how far.

    Attributes:
        level: `example`, DP-SGD, protects one picture; `client`, DP-FedAvg, protects the participation of one site;
            `none`.
    """

    level: Literal["example", "client", "none"] = "example"

    @model_validator(mode="after")
    def _none_has_no_terms(self) -> PrivacyConfig:
        if self.level == "none" and (self.noise or self.epsilon or self.budget):
            raise ValueError("privacy.level none has no noise, epsilon or budget: leave them out, or choose a level")
        return self


class PrivateClassifierConfig(ConfigSection):
    """A classifier that is trained in rounds under the same protection, from the same budget.

    Attributes:
        rounds: how many, after those of the GAN; 0 for none.
        steps: of each round.
        lr: of its Adam.
    """

    rounds: int = Field(default=0, ge=0)
    steps: int = Field(default=20, ge=1)
    lr: float = Field(default=2e-3, gt=0.0)


class ContributionConfig(ConfigSection):
    """How a site contributes.

    Attributes:
        weight: under a mean a site counts by its `examples`, or all count `equal`.
        clip: the largest norm of a site's update, without noise; default: no limit.
        pace: equal step sizes at all sites, or `adaptive`: larger where a site's updates agree with the aggregate's.
    """

    weight: Literal["examples", "equal"] = "examples"
    clip: float | None = Field(default=None, gt=0.0)
    pace: Literal["equal", "adaptive"] = "equal"


class PrivateGanReportConfig(ConfigSection):
    """What is measured and shown.

    Attributes:
        every: rounds between two grids of samples, which are also the pictures of the animation.
        samples: generated for the measures.
    """

    every: int = Field(default=2, ge=1)
    samples: int = Field(default=300, ge=40)


class AuditPermission(Permission):
    """A site's permission for membership attacks on the models, with its own pictures as members: for experiments.

    Attributes:
        times: how often the site answers in all.
        pictures: fewest members, and non-members.
        held_out: the part of its pictures that the site keeps from all training, as non-members.
    """

    times: int = Field(default=3, ge=1)
    pictures: int = Field(default=20, ge=2)
    held_out: float = Field(default=0.1, gt=0.0, lt=1.0)


class PrivateGanDisclosureConfig(DisclosureConfig):
    """What a site answers from its private pictures without noise.

    Attributes:
        audit: membership attacks, whose results no epsilon covers; null: none.
    """

    audit: AuditPermission | None = None


class PrivateGanConfig(ImageConfig):
    """Everything that can be set for one run."""

    model: GanConfig = GanConfig(latent=32)
    train: GanTrainConfig = GanTrainConfig()
    rounds: int = Field(default=40, ge=0)
    privacy: PrivacyConfig = PrivacyConfig()
    classifier: PrivateClassifierConfig = PrivateClassifierConfig()
    share: ContributionConfig = ContributionConfig()
    federation: Federation = Federation()
    report: PrivateGanReportConfig = PrivateGanReportConfig()
    disclose: PrivateGanDisclosureConfig = PrivateGanDisclosureConfig()

    @model_validator(mode="after")
    def _something_is_trained(self) -> PrivateGanConfig:
        if self.rounds + self.classifier.rounds < 1:
            raise ValueError("nothing is trained: give rounds, or classifier.rounds")
        return self

    @model_validator(mode="after")
    def _the_network_can_be_private(self) -> PrivateGanConfig:
        if self.privacy.level != "none" and self.model.kind == "dcgan" and self.rounds:
            why = (
                "which mixes the examples of a batch, so that no gradient is one example's"
                if self.privacy.level == "example"
                else "whose running statistics the noise would spoil"
            )
            raise ValueError(
                f"model.kind dcgan has BatchNorm, {why}: take dp-dcgan (GroupNorm) or mlp, or privacy.level none"
            )
        return self

    @model_validator(mode="after")
    def _clients_are_equal_terms_of_a_sum(self) -> PrivateGanConfig:
        if self.privacy.level != "client":
            return self
        require_sum(self.federation, "privacy.level client")
        if self.share.weight != "equal":
            raise ValueError("privacy.level client bounds what one site can change: set share.weight: equal")
        if self.share.clip is not None:
            raise ValueError("privacy.level client clips to privacy.clip: leave share.clip out")
        if self.share.pace == "adaptive":
            raise ValueError(
                "privacy.level client hides a site's change in a sum, and the step size of share.pace adaptive, which "
                "every round records, follows from that change: set share.pace: equal"
            )
        return self

    def floor(self) -> Floor:
        """What a site asks of every round: at client level all count the same, since each adds a part of the noise."""
        return replace(Floor.of(self.federation), shares_noise=self.privacy.level == "client")

    def planned(self) -> int:
        """How many accounted steps a site takes if all rounds are held."""
        if self.privacy.level == "client":
            return self.rounds + self.classifier.rounds
        return self.rounds * self.train.steps + self.classifier.rounds * self.classifier.steps

"""The configuration of the federated balancing GAN, with its defaults; checked before anything runs.

The shape of the networks is configured in `fednet.models.config`, which classes are rare in `partition.imbalance`
(`fednet.data.config`), how contributions become one model in `fednet.federated.config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from fednet.data.classes import labels_of
from fednet.data.site_data import check_data
from fednet.federated.config import Federation, Mean, Replace
from fednet.federated.floors import Floor
from fednet.methods.common.config import ConfigSection, ImageConfig
from fednet.models.config import CodecConfig

GameName = Literal["relativistic", "softmax"]
LossName = Literal["nll", "cel"]
OptimiserName = Literal["adam", "sgd"]
MAX_MOMENT = 64.0
"""Of a contributed value; latent vectors are regularised to unit size, so that moments stay far below."""


class AutoencoderConfig(ConfigSection):
    """The first stage.

    Attributes:
        rounds: how many.
        steps: batches of a site in each round.
        batch: pictures in a batch, every class of the site equally often.
        lr: of its Adam.
        noise: deviation of what is added to a latent vector before it is decoded, so that its surroundings decode too.
        penalty: weight of the latent vectors' mean square, which keeps them near unit size.
        supervision: weight of a linear classifier's cross entropy on the latent vectors, which keeps the classes apart
            (after the supervised autoencoder of BAGAN-GP, Huang and Jafari 2021, arXiv 2105.03847).
    """

    rounds: int = Field(default=40, ge=1)
    steps: int = Field(default=20, ge=1)
    batch: int = Field(default=32, ge=1)
    lr: float = Field(default=2e-3, gt=0.0)
    noise: float = Field(default=0.2, ge=0.0)
    penalty: float = Field(default=1e-3, ge=0.0)
    supervision: float = Field(default=0.1, ge=0.0)


class GaussiansConfig(ConfigSection):
    """The second stage.

    Attributes:
        shrinkage: pictures that the covariance within all classes counts for in every class.
    """

    shrinkage: float = Field(default=4.0, gt=0.0)


class BalancingGanConfig(ConfigSection):
    """The third stage.

    Attributes:
        rounds: how many; 0 leaves the decoder as it is.
        steps: of the discriminator, and of the generator, of a site in each round.
        batch: real pictures in a step, and as many generated ones.
        game: the objective of discriminator and generator; see `losses`.
        loss: NLL or CEL, two names of one function.
        optimiser: Adam, or SGD with momentum; both start anew in every round.
        generator_lr: step size of the generator.
        discriminator_lr: step size of the discriminator.
        first: rounds in which only the discriminator is trained, since its last layer is untrained.
        noise: deviation of the noise on every picture that the discriminator sees.
        gradient_penalty: weight of the discriminator's squared gradient at real pictures (R1, Mescheder et al. 2018,
            arXiv 1801.04406).
        anchor: weight of the generator's reconstruction error (mean square) of encoded real pictures.
        average: decay, per round, of the running average of the generator, which generates samples; 0 for the last one.
    """

    rounds: int = Field(default=40, ge=0)
    steps: int = Field(default=8, ge=1)
    batch: int = Field(default=32, ge=1)
    game: GameName = "relativistic"
    loss: LossName = "cel"
    optimiser: OptimiserName = "adam"
    generator_lr: float = Field(default=2e-4, gt=0.0)
    discriminator_lr: float = Field(default=1e-3, gt=0.0)
    first: int = Field(default=5, ge=0)
    noise: float = Field(default=0.1, ge=0.0)
    gradient_penalty: float = Field(default=0.2, ge=0.0)
    anchor: float = Field(default=50.0, ge=0.0)
    average: float = Field(default=0.9, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _the_generator_trains(self) -> BalancingGanConfig:
        if 0 < self.rounds <= self.first:
            raise ValueError(
                f"gan.first {self.first} leaves the generator none of {self.rounds} rounds: lower it, or raise rounds"
            )
        return self


class FedBaganReportConfig(ConfigSection):
    """What is measured and shown.

    Attributes:
        every: rounds between two grids of samples; each is also measured and kept as a checkpoint.
        per_class: samples of each class in every measure.
    """

    every: int = Field(default=10, ge=1)
    per_class: int = Field(default=100, ge=33)


class FedBaganConfig(ImageConfig):
    """Everything that can be set for one run.

    Attributes:
        baseline: also train a plain GAN (FedGAN), with as many batches as both trainings of the balancing one.
    """

    model: CodecConfig = CodecConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    gaussians: GaussiansConfig = GaussiansConfig()
    gan: BalancingGanConfig = BalancingGanConfig()
    baseline: bool = True
    federation: Federation = Federation()
    report: FedBaganReportConfig = FedBaganReportConfig()

    @model_validator(mode="after")
    def _moments_are_sums(self) -> FedBaganConfig:
        if not isinstance(self.federation.rule, Mean):
            raise ValueError(
                f"federation.rule {self.federation.rule.kind} makes no sums, and the classes' Gaussians come from "
                "sums: use mean"
            )
        return self

    def rare(self, classes: Sequence[str]) -> tuple[int, ...]:
        """The labels of the classes that were made rare, among the run's classes.

        Raises:
            UnknownClass: one does not exist.
        """
        rare = [name for name, part in self.partition.imbalance.items() if part < 1]
        return tuple(sorted(labels_of(rare, classes, "partition.imbalance")))

    @property
    def plain_rounds(self) -> int:
        """Rounds of the plain GAN that are as many batches as both trainings of the balancing one."""
        before = -(-self.autoencoder.rounds * self.autoencoder.steps // self.gan.steps)
        return before + self.gan.rounds if self.baseline else 0

    def floor(self) -> Floor:
        """What a site asks of every round: no less than one of its own job, whose moments have a wider clip."""
        return Floor.of(self.federation, self.summing)

    @property
    def summing(self) -> Federation:
        """How moments are summed: by all sites, without server optimiser, in secure rounds if configured."""
        secure = self.federation.secure
        return self.federation.model_copy(
            update={
                "server": Replace(),
                "participation": 1.0,
                "buffer": None,
                "secure": secure and secure.model_copy(update={"clip": MAX_MOMENT}),
            }
        )


def check(config: FedBaganConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the data, those of a site with `overrides`, exists; reads no picture.

    Raises:
        DataError: it is missing or malformed.
    """
    check_data(config.data, overrides)

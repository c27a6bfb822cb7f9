"""The configuration of the exchange of pseudo-words, with its defaults; checked before anything runs.

The models are configured in `small_config.py` and `pretrained_config.py`, how pictures are divided in
`fednet.data.config`. This module knows which settings go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fednet.data.config import PartitionConfig
from fednet.data.site_data import check_data
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.small_config import SmallBackendConfig
from fednet.methods.common.config import ConfigSection, DisclosureConfig, ImageConfig, Permission, RealPicturesConfig


class InversionConfig(ConfigSection):
    """How a site learns the pseudo-word of a class from its pictures.

    It is initialised with the tokens of the class's name, with a word that the models know for it, or with that of the
    last round, whichever denoises the class's pictures best.

    Attributes:
        contrastive: weight of the contrastive loss, of the class against all others.
        diffusion: weight of the denoising loss under the word, by min-SNR.
        steps: of AdamW, for all classes that are learnt at once.
        lr: its step size at first; it falls to zero by a cosine.
        weight_decay: of it.
        batch: pictures a step, drawn so that every class comes as often.
        least: pictures that a class needs; of fewer nothing is learnt.
        classes: how many classes are learnt in a round, in turn; null for all in every round.
    """

    contrastive: float = Field(default=0.1, ge=0.0)
    diffusion: float = Field(default=1.0, ge=0.0)
    steps: int = Field(default=150, ge=1)
    lr: float = Field(default=0.01, gt=0.0)
    weight_decay: float = Field(default=1e-3, ge=0.0)
    batch: int = Field(default=48, ge=1)
    least: int = Field(default=4, ge=1)
    classes: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _there_is_a_loss(self) -> InversionConfig:
        if self.contrastive + self.diffusion == 0:
            raise ValueError("learn.contrastive and learn.diffusion are both 0: no word could be learnt")
        return self


class LoraTuningConfig(ConfigSection):
    """How a site tunes its image encoder, by LoRA.

    Attributes:
        generated: pictures generated of each class that other sites have words for, divided among these words.
        weight: of a generated picture in the loss; one of the site's own weighs 1.
        steps: of AdamW.
        lr: its step size at first; it falls to zero by a cosine.
        weight_decay: of it.
        batch: pictures a step.
        rank: of the adapter.
        alpha: it is scaled by alpha / rank.
    """

    generated: int = Field(default=40, ge=1)
    weight: float = Field(default=1.0, gt=0.0)
    steps: int = Field(default=150, ge=1)
    lr: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=1e-2, ge=0.0)
    batch: int = Field(default=64, ge=1)
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0.0)


class CmtiiReportConfig(RealPicturesConfig):
    """What is measured and shown.

    Attributes:
        control: also tune with pictures generated from the tokens of the classes' names.
        central: also tune on all sites' pictures together, as a baseline. The driver reads all: for experiments.
        views: noisy views of a picture that the attack on words (`disclose.leakage`) averages.
    """

    control: bool = True
    central: bool = True
    views: int = Field(default=8, ge=1, le=1000)


class CmtiiDisclosureConfig(DisclosureConfig):
    """What a site answers from its private pictures without noise.

    Attributes:
        evaluate: how good it is on its own test pictures.
        leakage: attacks on its own words: for experiments.
    """

    evaluate: Permission | None = None
    leakage: Permission | None = None


class CmtiiConfig(ImageConfig):
    """Everything that can be set for one run.

    Attributes:
        partition: how they are divided among the sites, and what part each tests itself with.
        backend: which models.
        rounds: of learning, offering and tuning.
        learn: of a word.
        tune: of an image encoder.
        aliases: subjects of offers in place of a class's name, to that name.
        unknown: what becomes of an offer whose subject is no class and no alias: it is refused by name, or assigned to
            the class whose name it is nearest to, as in the source.
        report: what is measured.
    """

    partition: PartitionConfig = PartitionConfig(kind="dirichlet", alpha=0.1, least=40, train_ratio=0.75)
    backend: Annotated[SmallBackendConfig | PretrainedBackendConfig, Field(discriminator="kind")] = SmallBackendConfig()
    rounds: int = Field(default=1, ge=1)
    learn: InversionConfig = InversionConfig()
    tune: LoraTuningConfig = LoraTuningConfig()
    aliases: Mapping[str, str] = Field(default_factory=dict)
    unknown: Literal["refuse", "nearest"] = "refuse"
    report: CmtiiReportConfig = CmtiiReportConfig()
    disclose: CmtiiDisclosureConfig = CmtiiDisclosureConfig()

    @model_validator(mode="after")
    def _aliases_are_one_to_one(self) -> CmtiiConfig:
        if len(set(self.aliases.values())) != len(self.aliases):
            raise ValueError("aliases names a class twice: give one alias a class")
        return self

    @property
    def public(self) -> float:
        """The fraction of the training pictures that is public; 0 where the models come from elsewhere."""
        return self.backend.public if isinstance(self.backend, SmallBackendConfig) else 0.0


def check(config: CmtiiConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the data and the models exist.

    Raises:
        DataError: the data, those of a site with `overrides`, are missing or malformed.
        ModelError: a model's files are missing or incomplete.
    """
    check_data(config.data, overrides)
    if isinstance(config.backend, PretrainedBackendConfig):
        from fednet.methods.cmtii import pretrained_backend  # noqa: PLC0415 - open_clip and diffusers take seconds to import

        pretrained_backend.check(config.backend)

"""What can be set for the interchange of words, with its defaults; everything is checked before anything runs.

The models stand in `embedded_config.py` and `real_config.py`, how pictures are divided in `fednet.data.config`. This
module knows which settings go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.site_data import check_data
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.small_config import SmallBackendConfig


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InversionConfig(_Section):
    """How a site learns the word of a class from its pictures.

    A word begins at the tokens of the class's name, at a word that the models know for it, or where the last round has
    left it, wherever the class's pictures are denoised best.

    Attributes:
        contrastive: what telling the class apart from all others counts in the loss.
        diffusion: what denoising the pictures under the word counts, by min-SNR.
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


class LoraTuningConfig(_Section):
    """How a site tunes its image encoder, by LoRA.

    Attributes:
        painted: pictures painted of each class that others have words for, shared out among these words.
        weight: what a painted picture counts beside one of the site's own.
        steps: of AdamW.
        lr: its step size at first; it falls to zero by a cosine.
        weight_decay: of it.
        batch: pictures a step.
        rank: of the adapter.
        alpha: it is scaled by alpha / rank.
    """

    painted: int = Field(default=40, ge=1)
    weight: float = Field(default=1.0, gt=0.0)
    steps: int = Field(default=150, ge=1)
    lr: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=1e-2, ge=0.0)
    batch: int = Field(default=64, ge=1)
    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0.0)


class CmtiiReportConfig(_Section):
    """What is measured and shown.

    Attributes:
        control: also tune with pictures painted from the names' own tokens, which nobody has learnt.
        central: also tune on all sites' pictures together, a bound: whoever asks reads all of them. For experiments.
        leakage: have the sites attack their own words. It reads private pictures: for experiments.
        views: noisy views of a picture that the attack averages.
    """

    control: bool = True
    central: bool = True
    leakage: bool = True
    views: int = Field(default=8, ge=1, le=1000)


class CmtiiConfig(_Section):
    """Everything that can be set for one run.

    Attributes:
        data: which pictures.
        partition: how they are divided among the sites, and what part each tests itself with.
        backend: which models.
        rounds: of learning, offering and tuning.
        learn: of a word.
        tune: of an image encoder.
        aliases: what the sites say instead of a class's name, to that name.
        unknown: what becomes of a word whose subject is no class and no alias: it is refused by name, or goes to the
            class whose name it comes nearest to, as the source has it.
        report: what is measured.
    """

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="dirichlet", alpha=0.1, least=40, train_ratio=0.75)
    backend: Annotated[SmallBackendConfig | PretrainedBackendConfig, Field(discriminator="kind")] = SmallBackendConfig()
    rounds: int = Field(default=1, ge=1)
    learn: InversionConfig = InversionConfig()
    tune: LoraTuningConfig = LoraTuningConfig()
    aliases: Mapping[str, str] = Field(default_factory=dict)
    unknown: Literal["refuse", "nearest"] = "refuse"
    report: CmtiiReportConfig = CmtiiReportConfig()

    @model_validator(mode="after")
    def _aliases_are_one_to_one(self) -> CmtiiConfig:
        if len(set(self.aliases.values())) != len(self.aliases):
            raise ValueError("aliases names a class twice: one alias a class, or nobody knows which to say")
        return self

    @property
    def public(self) -> float:
        """The fraction of the training pictures that is public; 0 where the models come from elsewhere."""
        return self.backend.public if isinstance(self.backend, SmallBackendConfig) else 0.0


def check(config: CmtiiConfig, own: Mapping[str, Any] | None = None) -> None:
    """Looks whether the data and the models are where they are said to be.

    Raises:
        DataError: the data, those of a site with `own`, are missing or malformed.
        ModelError: a model's files are missing or incomplete.
    """
    check_data(config.data, own)
    if isinstance(config.backend, PretrainedBackendConfig):
        from fednet.methods.cmtii import pretrained_backend  # noqa: PLC0415 - open_clip and diffusers take seconds to import

        pretrained_backend.check(config.backend)

"""A score expert: whatever has a score at the marginal of a run, and a card that says what it is.

The network that fednet trains, a folder of diffusers and an object of Python are all this and nothing more to a site,
to the rules and to the samplers. Knows no network and no file; imports no torch, since capabilities are read without
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, StringConstraints

if TYPE_CHECKING:
    from torch import Tensor

CardText = Annotated[str, StringConstraints(max_length=120)]


LATENT_REACH = 10.0
"""Latents have unit variance; hardly one of a million is as large."""
COMBINABLE = ("space", "prompt_width", "latent_scale", "text_encoder", "autoencoder")
"""The fields of cards that must agree, or the scores are of different things."""


class ExpertCard(BaseModel):
    """What an expert says of itself; what scores are combined of must agree in `space`.

    Attributes:
        kind: `unet`, `diffusers` or `python`, as in `model.kind`.
        network: its class or object.
        prediction: what its network predicts.
        schedule: the noise that it was trained with.
        value_range: the smallest and the largest value of its own data; asked and answering it is always [-1, 1].
        space: whether its data are pictures or latents.
        prompt_width: how many numbers a token of an embedded prompt has; None where it takes no prompt.
        latent_scale: what latents are multiplied by, for a UNet that sees them.
        text_encoder: digest of the weights that its prompts are embedded with; empty where it has none.
        autoencoder: digest of the weights that its latents are decoded with.
        precision: the number format that its network computes in; it is asked and answers in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: CardText
    network: CardText
    prediction: CardText
    schedule: CardText
    value_range: tuple[float, float] = (-1.0, 1.0)
    space: Literal["pixels", "latents"] = "pixels"
    prompt_width: int | None = None
    latent_scale: float | None = None
    text_encoder: CardText = ""
    autoencoder: CardText = ""
    precision: CardText = "float32"

    @property
    def reach(self) -> float:
        """The largest absolute value of its data, as it is asked: 1 for pictures, LATENT_REACH for latents."""
        return 1.0 if self.space == "pixels" else LATENT_REACH


class ScoreExpert(Protocol):
    """A model of the density of noised data at every time of a run's SDE."""

    @property
    def card(self) -> ExpertCard:
        """What it is."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its data."""

    @property
    def classes(self) -> int:
        """How many labels can be asked for; 0 for an unconditional expert."""

    def score(self, x: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """Grad log p_t(x) of x_t = alpha(t) x_0 + std(t) z, float32 of x's shape.

        Args:
            x: float32 (n, *shape).
            t: a scalar in [eps, 1].
            labels: int64 (n,) in 0..classes-1; None for any class; for an expert that takes prompts, float32
                (2, tokens, width), the embedded negative prompt and prompt.
            guidance: classifier-free guidance, any + guidance (labelled - any); 1 is the plain conditional score.

        Raises:
            MethodError: it cannot answer this, for example guidance without having learnt "any class".
        """

"""The words between a site and whoever asks it, and the card that a site shows. Knows no model and no picture."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from fednet.methods.common.capabilities import ONE_CONFIGURATION
from fednet.methods.common.capabilities import read_capabilities as read

GAN, CLASSIFIER = "gan", "classifier"
"""The models; the GAN is generator and discriminator as one state."""
TRAIN = "train"
"""What a round is for."""
NOT_PRIVATE = "NOT PRIVATE"


class PrivacyStatement(BaseModel):
    """How a site protects its pictures.

    Attributes:
        level: "example", "client" or "none".
        private: whether the noise is, and has always been, secret; False is NOT PRIVATE.
        noise: in clipping norms.
        rate: of sampling.
        clip: the norm.
        delta: at which the epsilons hold.
        budget: the epsilon at which the site stops; None for no stop.
        epsilon_rdp: spent so far, by RDP.
        epsilon_prv: spent so far, by PRV.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    private: bool
    noise: float | None = None
    rate: float | None = None
    clip: float | None = None
    delta: float | None = None
    budget: float | None = None
    epsilon_rdp: float | None = None
    epsilon_prv: float | None = None


class PrivateGanCapabilities(BaseModel):
    """What a site says of itself.

    Attributes:
        pictures: how many it has; they count as public.
        classes: the classes' names.
        shape: channels, height and width of a picture.
        latent: numbers in a latent vector of its generator.
        privacy: how its pictures are protected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    latent: int
    privacy: PrivacyStatement


def read_private_gan_capabilities(capabilities: Mapping[str, str]) -> dict[str, PrivateGanCapabilities]:
    """The cards by name, checked.

    Raises:
        MethodError: there are none, they are malformed, or the sites' pictures or models do not fit each other.
    """
    return read(
        capabilities,
        PrivateGanCapabilities,
        "private-gan",
        dict.fromkeys(("shape", "classes", "latent"), ONE_CONFIGURATION),
    )

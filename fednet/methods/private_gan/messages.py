"""What a site and its callers exchange: names of models, tasks and questions, capabilities. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities

GAN, CLASSIFIER = "gan", "classifier"
"""The models; the GAN is generator and discriminator as one state."""
TRAIN = "train"
"""The task of a round."""
STATUS, DRAW, VALIDATE, AUDIT = "status", "draw", "validate", "audit"
"""The questions."""


class PrivacyStatement(BaseModel):
    """How a site protects its pictures.

    Attributes:
        level: "example", "client" or "none".
        private: whether the noise is, and has always been, secret, and nothing was told without noise; False is NOT
            PRIVATE.
        disclosed: whether the site tells, or has told, anything of its pictures without noise, see `disclose.audit`.
        noise: in clipping norms.
        rate: of sampling.
        clip: the norm.
        delta: at which the epsilons hold.
        budget: the epsilon at which the site stops; None for no stop.
        epsilon_rdp: spent so far, and by the rounds ahead, by RDP.
        epsilon_prv: the same by PRV.
        ahead: rounds that may be under way and are counted as if they had been released; with some of them, the
            epsilons are upper bounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    private: bool
    disclosed: bool = False
    noise: float | None = None
    rate: float | None = None
    clip: float | None = None
    delta: float | None = None
    budget: float | None = None
    epsilon_rdp: float | None = None
    epsilon_prv: float | None = None
    ahead: int = 0


class PrivateGanCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        pictures: how many it has; public.
        latent: numbers in a latent vector of its generator.
        privacy: how its pictures are protected.
    """

    pictures: int
    latent: int
    privacy: PrivacyStatement


def read_private_gan_capabilities(texts: Mapping[str, str]) -> dict[str, PrivateGanCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or the sites' pictures or models do not fit each other.
    """
    equal = dict.fromkeys(("shape", "classes", "latent"), ONE_CONFIGURATION)
    return read_capabilities(texts, PrivateGanCapabilities, "private-gan", equal)

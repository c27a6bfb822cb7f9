"""The words between a site and whoever asks it, and the card that a site shows. Knows no model and no picture."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from fednet.methods.common.capabilities import ONE_CONFIGURATION
from fednet.methods.common.capabilities import read_capabilities as read

AUTOENCODER, MOMENTS, GAN, PLAIN_GAN = "autoencoder", "moments", "gan", "plain"
"""The models: encoder and decoder; summed moments of latent vectors; the balancing GAN; the GAN to compare it with."""
TRAIN, SUM_MOMENTS, INITIALISE_GAN = "train", "add-up", "found"
"""What a round is for: training; the sum of moments; making the GAN of the autoencoder."""


class FedBaganCapabilities(BaseModel):
    """What a site says of itself.

    Attributes:
        pictures: how many it has; they count as public, as its weight in every round.
        classes: the classes' names.
        shape: channels, height and width of a picture.
        latent: numbers in a latent vector of its generator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=2)
    shape: tuple[int, int, int]
    latent: int = Field(ge=1)


def read_fedbagan_capabilities(capabilities: Mapping[str, str]) -> dict[str, FedBaganCapabilities]:
    """The cards by name, checked.

    Raises:
        MethodError: there are none, they are malformed, or the sites' pictures or models do not fit each other.
    """
    return read(
        capabilities, FedBaganCapabilities, "fedbagan", dict.fromkeys(("shape", "classes", "latent"), ONE_CONFIGURATION)
    )

"""What a site and its callers exchange: names of models, tasks and questions, capabilities. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from fednet.methods.common.capabilities import ONE_CONFIGURATION, ImageCapabilities, read_capabilities

AUTOENCODER, MOMENTS, GAN, PLAIN_GAN = "autoencoder", "moments", "gan", "plain"
"""The models: encoder and decoder; summed moments of latent vectors; the balancing GAN; the baseline GAN."""
TRAIN, SUM, INITIALISE = "train", "sum", "initialise"
"""The tasks of a round: training; the sum of moments; the GAN's weights from those of the autoencoder."""
DRAW = "draw"
"""The question for samples."""


class FedBaganCapabilities(ImageCapabilities):
    """What a site says of itself.

    Attributes:
        pictures: how many it has; public, as its weight in every round.
        latent: numbers in a latent vector of its generator.
    """

    pictures: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=2)
    latent: int = Field(ge=1)


def read_fedbagan_capabilities(texts: Mapping[str, str]) -> dict[str, FedBaganCapabilities]:
    """The sites' capabilities by name in sorted order.

    Raises:
        MethodError: there are none, one is malformed, or the sites' pictures or models do not fit each other.
    """
    equal = dict.fromkeys(("shape", "classes", "latent"), ONE_CONFIGURATION)
    return read_capabilities(texts, FedBaganCapabilities, "fedbagan", equal)

"""The privacy mechanism of a configuration of private GAN training; see `fednet.privacy.mechanism`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fednet.data.site_data import check_data
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.privacy.mechanism import PrivacyMechanism, make_mechanism


def privacy_mechanism(config: PrivateGanConfig) -> PrivacyMechanism | None:
    """The mechanism of a configuration; None where nothing is protected.

    Raises:
        PrivacyError: no noise meets the target epsilon, or the budget is below what one step costs.
    """
    level = config.privacy.level
    if level == "none":
        return None
    rate = 1.0 if level == "client" else config.train.rate
    return make_mechanism(config.privacy, level, config.federation, rate=rate, planned=config.planned())


def check(config: PrivateGanConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the budget buys anything at all, and that the data, those of a site with `overrides`, exists.

    Raises:
        DataError: the data is missing or malformed.
        PrivacyError: the budget is below what one step costs, or no noise meets the target.
    """
    privacy_mechanism(config)
    check_data(config.data, overrides)

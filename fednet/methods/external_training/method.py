"""The method `external-training`: rounds whose sites are training scripts, each of which calls `fednet.join`.

Registered as an entry point of the group `fednet.methods`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Method
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.disclosures import DISCLOSURES

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: ExternalTrainingConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:  # noqa: ARG001 - the contract
    """Makes the side that a training loop is; see `external_training.site`."""
    from fednet.methods.external_training.site import LoopSite  # noqa: PLC0415 - imports torch

    return LoopSite(config, context)


def job(config: ExternalTrainingConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:  # noqa: ARG001 - the contract
    """Requests the rounds that the sites request as well, and writes their results."""
    from fednet.methods.external_training.results import round_plan, write_results  # noqa: PLC0415 - imports torch

    records = network.run_rounds(round_plan(config))
    write_results(folder, config, records, records[-1].digest)


def check(config: ExternalTrainingConfig, overrides: Mapping[str, Any]) -> None:  # noqa: ARG001 - the contract
    """Checks that the privacy budget buys a round.

    Raises:
        PrivacyError: it does not, or no noise meets the target.
    """
    if config.privacy is not None:
        from fednet.privacy.mechanism import make_mechanism  # noqa: PLC0415 - imports torch

        make_mechanism(config.privacy, "client", config.federation, rate=1.0, planned=config.rounds)


METHOD = Method(
    name="external-training",
    summary="federated averaging of a model that your own training scripts train, see fednet.join",
    config=ExternalTrainingConfig,
    check=check,
    site=site,
    job=job,
    disclosures=DISCLOSURES,
    scripts="fednet.join(CONFIG, name=NAME), see docs/python.md",
)

"""The method `regression`: federated averaging of a line, the smallest example.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Method
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.disclosures import DISCLOSURES

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: RegressionConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:  # noqa: ARG001 - the shape
    """Makes the side that holds data and a model."""
    from fednet.methods.regression.site import RegressionSite  # noqa: PLC0415 - imports torch

    return RegressionSite(config, context)


def job(config: RegressionConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.regression.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


METHOD = Method(
    name="regression",
    summary="federated averaging of a line, the smallest example",
    config=RegressionConfig,
    site=site,
    job=job,
    preload=("fednet.methods.regression.job", "fednet.methods.regression.site"),
    disclosures=DISCLOSURES,
)

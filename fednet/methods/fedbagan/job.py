"""The job of a run: an autoencoder, a Gaussian a class, a GAN of both, a plain GAN beside it, and what they are worth.

Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.api import Network, Progress, SiteContext
from fednet.data.datasets import load
from fednet.data.site_data import own_data
from fednet.errors import DataError
from fednet.methods.common.capabilities import require_matching_data
from fednet.methods.fedbagan import pipeline
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.messages import FedBaganCapabilities, read_fedbagan_capabilities
from fednet.methods.fedbagan.results import summarise, write_metrics
from fednet.methods.fedbagan.site import FedBaganSite
from fednet.metrics.judge import train_judge
from fednet.reporting.summary import Summary, write_summary


def make_site(config: FedBaganConfig, site: SiteContext, own: Mapping[str, Any] | None = None) -> FedBaganSite:
    """Makes the side that holds pictures and models.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures; without, it gets its share of the run's partition.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    data, share = own_data(config.data, own)
    return FedBaganSite(config.model_copy(update={"data": data}), site, share)


def run_job(config: FedBaganConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every stretch of rounds), metrics.json, samples/ with grids and an animated
    GIF, checkpoints/ with the generator after every stretch and the best one, journal.json. A run that is started again
    in its folder goes on where it was.

    Args:
        config: rounds and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed.
        progress: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data, or nobody answers.
        Stopped: the watch asks for the end.
    """
    capabilities = read_fedbagan_capabilities(network.capabilities)
    _require_latent(capabilities, config.model.latent)
    splits = require_matching_data(load(config.data), capabilities)
    judge = train_judge(splits.judge, seed=seed, progress=progress, steps=config.report.judge_steps)
    job = pipeline.FedBaganPipeline(config, network, capabilities, splits, judge, folder, seed)
    found = pipeline.FedBaganFindings({}, {}, {})
    for found in pipeline.pipeline(job, progress):
        write_summary(folder, summarise(config, found, list(capabilities)))
    write_metrics(folder, config, found)
    return summarise(config, found, list(capabilities))


def _require_latent(capabilities: Mapping[str, FedBaganCapabilities], wanted: int) -> None:
    """The run draws latent vectors, and the sites decode them."""
    name, card = next(iter(capabilities.items()))
    if card.latent != wanted:
        raise DataError(f"{name} has latent vectors of {card.latent} numbers, the run {wanted}: use one configuration")

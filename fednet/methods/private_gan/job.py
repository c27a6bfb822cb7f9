"""The job of a run: rounds until they are all held or the budget is spent, samples on the way, measures at the end.

Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.api import Network, Progress, SiteContext
from fednet.data.datasets import load
from fednet.data.site_data import own_data
from fednet.methods.common.capabilities import require_matching_data
from fednet.methods.private_gan import pipeline
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import read_private_gan_capabilities
from fednet.methods.private_gan.results import summarise, write_metrics
from fednet.methods.private_gan.site import PrivateGanSite
from fednet.metrics.judge import train_judge
from fednet.reporting.summary import Summary, write_summary


def make_site(config: PrivateGanConfig, site: SiteContext, own: Mapping[str, Any] | None = None) -> PrivateGanSite:
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
    return PrivateGanSite(config.model_copy(update={"data": data}), site, share)


def run_job(config: PrivateGanConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every grid), metrics.json, samples/ with grids and an animated GIF,
    journal.json. A run that is started again in its folder goes on where it was.

    Args:
        config: rounds, privacy and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed; privacy noise does not come from it.
        progress: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data, or nobody answers.
        Stopped: the watch asks for the end.
    """
    capabilities = read_private_gan_capabilities(network.capabilities)
    splits = require_matching_data(load(config.data), capabilities)
    job = pipeline.PrivateGanPipeline(
        config, network, capabilities, splits, train_judge(splits.judge, seed=seed, progress=progress), folder, seed
    )
    found = pipeline.PrivateGanFindings()
    for found in pipeline.pipeline(job, progress):
        write_summary(folder, summarise(config, found, list(capabilities)))
    write_metrics(folder, config, found)
    summary = summarise(config, found, list(capabilities))
    write_summary(folder, summary)
    return summary

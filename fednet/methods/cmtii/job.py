"""The job of a run: sites teach one another classes by words, and every arm of the comparison is measured.

Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.api import Network, Progress, SiteContext
from fednet.data.site_data import own_data
from fednet.images import save_png
from fednet.methods.cmtii import pipeline
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.messages import read_cmtii_capabilities
from fednet.methods.cmtii.persistence import class_grid
from fednet.methods.cmtii.results import REAL_GRID, summarise, write_metrics
from fednet.methods.cmtii.site import CmtiiSite
from fednet.methods.cmtii.site_data import CmtiiDataSplit
from fednet.methods.common.capabilities import require_matching_data
from fednet.metrics.judge import train_judge
from fednet.reporting.summary import Summary, write_summary


def make_site(config: CmtiiConfig, site: SiteContext, own: Mapping[str, Any] | None = None) -> CmtiiSite:
    """Makes the side that holds pictures and models.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures, as they are; without, it gets its share of the run's.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    _, share = own_data(config.data, own)
    return CmtiiSite(config, site, share)


def run_job(config: CmtiiConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every step), metrics.json, journal.json, real.png. A run that is started
    again in its folder goes on where it was.

    Args:
        config: learning, tuning and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed.
        progress: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data or each other, or nobody takes part.
        Stopped: the watch asks for the end.
    """
    capabilities = read_cmtii_capabilities(network.capabilities)
    splits = require_matching_data(CmtiiDataSplit(config.data, config.public).measures(), capabilities)
    judge = train_judge(splits.judge, seed=seed, progress=progress)
    save_png(folder / REAL_GRID, class_grid(splits.test.images, splits.test.labels))
    job = pipeline.CmtiiPipeline(config, network, capabilities, splits, judge, folder, seed)
    found = pipeline.CmtiiFindings()
    for found in pipeline.pipeline(job, progress):
        write_summary(folder, summarise(config, capabilities, found, folder))
    write_metrics(folder, config, capabilities, found)
    summary = summarise(config, capabilities, found, folder)
    write_summary(folder, summary)
    return summary

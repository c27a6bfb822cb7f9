"""The job of a run, the source's whole flow: train, set a model, federate, make detectors, and say what is novel.

One site trains the classifier on a few labels and its model is set everywhere; rounds of FedProx teach it more; a
detector is made by rounds and one at every site alone; test pictures that belong and that do not are scored by all.
Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fednet.api import Network, Progress, SiteContext
from fednet.data.datasets import load
from fednet.data.site_data import own_data
from fednet.methods.common.capabilities import require_matching_data
from fednet.methods.common.journal import Journal
from fednet.methods.novelty import pipeline
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.messages import read_novelty_capabilities
from fednet.methods.novelty.results import NoveltyFindings, summarise, write_metrics
from fednet.methods.novelty.site import NoveltySite
from fednet.reporting.summary import Summary, write_summary


def make_site(config: NoveltyConfig, site: SiteContext, own: Mapping[str, Any] | None = None) -> NoveltySite:
    """Makes the side that holds data and models.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures; without, it gets its share of the run's partition.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    data, share = own_data(config.data, own)
    return NoveltySite(config.model_copy(update={"data": data}), site, share)


def run_job(config: NoveltyConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:  # noqa: ARG001 - the shape
    """Does the whole job.

    Leaves in `folder`: summary.json (after every step), metrics.json, figures/, journal.json and TensorBoard events.
    A run that is started again in its folder goes on where it was.

    Args:
        config: the steps, and how each is done.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed; the sites have it too, nothing else here is random.
        progress: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data or the steps, or nobody answers.
        Stopped: the watch asks for the end.
    """
    capabilities = read_novelty_capabilities(network.capabilities)
    job = pipeline.NoveltyPipeline(
        config, network, capabilities, require_matching_data(load(config.data), capabilities), Journal(folder), progress
    )
    pipeline.require_possible(job)
    sites = list(capabilities)
    found = NoveltyFindings(pipeline.broadcast_first_model(job))
    write_summary(folder, summarise(config, found, sites))
    found = replace(found, rounds=pipeline.classifier_rounds(job))
    write_summary(folder, summarise(config, found, sites))
    if config.flow.detector_rounds:
        found = replace(found, detector=pipeline.detector_rounds(job))
        write_summary(folder, summarise(config, found, sites))
        pipeline.train_own_detectors(job)
        found = replace(found, trials=pipeline.score_test_images(job), shown=pipeline.infer_examples(job))
    write_metrics(folder, found)
    summary = summarise(config, found, sites)
    write_summary(folder, summary)
    return summary

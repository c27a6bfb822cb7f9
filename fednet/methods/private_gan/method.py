"""The job of a run: rounds until they are all held or the budget is spent, samples on the way, measures at the end.

Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.cards import fitting
from fednet.conversations import Network, Site, Watch
from fednet.data.datasets import load
from fednet.data.own import own_share
from fednet.methods.private_gan import flow
from fednet.methods.private_gan.agent import GanAgent
from fednet.methods.private_gan.config import Config
from fednet.methods.private_gan.results import leave_numbers, summarise
from fednet.methods.private_gan.words import read_cards
from fednet.metrics.judge import train_judge
from fednet.summary import Summary, leave


def agent(config: Config, site: Site, own: Mapping[str, Any] | None = None) -> GanAgent:
    """Makes the side that holds pictures and models.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures; without, it gets its share of the run's partition.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    data, share = own_share(config.data, own)
    return GanAgent(config.model_copy(update={"data": data}), site, share)


def run(config: Config, network: Network, folder: Path, seed: int, watch: Watch) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every grid), metrics.json, samples/ with grids and an animated GIF,
    journal.json. A run that is started again in its folder goes on where it was.

    Args:
        config: rounds, privacy and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed; privacy noise does not come from it.
        watch: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data, or nobody answers.
        Stopped: the watch asks for the end.
    """
    cards = read_cards(network.cards)
    splits = fitting(load(config.data), cards)
    job = flow.GanJob(config, network, cards, splits, train_judge(splits.judge, seed=seed, watch=watch), folder, seed)
    found = flow.Found()
    for found in flow.steps(job, watch):
        leave(folder, summarise(config, found, list(cards)))
    leave_numbers(folder, config, found)
    summary = summarise(config, found, list(cards))
    leave(folder, summary)
    return summary

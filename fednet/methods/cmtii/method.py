"""The job of a run: sites teach one another classes by words, and every arm of the comparison is measured.

Knows how to ask and not whom: the same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednet.cards import fitting
from fednet.conversations import Network, Site, Watch
from fednet.data.own import own_share
from fednet.images import save_png
from fednet.methods.cmtii import flow
from fednet.methods.cmtii.agent import WordAgent
from fednet.methods.cmtii.config import Config
from fednet.methods.cmtii.holdings import World
from fednet.methods.cmtii.keeping import by_class
from fednet.methods.cmtii.results import REAL, leave_numbers, summarise
from fednet.methods.cmtii.words import read_cards
from fednet.metrics.judge import train_judge
from fednet.summary import Summary, leave


def agent(config: Config, site: Site, own: Mapping[str, Any] | None = None) -> WordAgent:
    """Makes the side that holds pictures and models.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures, as they are; without, it gets its share of the run's.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    _, share = own_share(config.data, own)
    return WordAgent(config, site, share)


def run(config: Config, network: Network, folder: Path, seed: int, watch: Watch) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every step), metrics.json, journal.json, real.png. A run that is started
    again in its folder goes on where it was.

    Args:
        config: learning, tuning and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed.
        watch: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data or each other, or nobody takes part.
        Stopped: the watch asks for the end.
    """
    cards = read_cards(network.cards)
    splits = fitting(World(config.data, config.public).measures(), cards)
    judge = train_judge(splits.judge, seed=seed, watch=watch)
    save_png(folder / REAL, by_class(splits.test.images, splits.test.labels))
    job = flow.WordJob(config, network, cards, splits, judge, folder, seed)
    found = flow.Found()
    for found in flow.steps(job, watch):
        leave(folder, summarise(config, cards, found, folder))
    leave_numbers(folder, config, cards, found)
    summary = summarise(config, cards, found, folder)
    leave(folder, summary)
    return summary

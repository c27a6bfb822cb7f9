"""The job of a run: an autoencoder, a Gaussian a class, a GAN of both, a plain GAN beside it, and what they are worth.

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
from fednet.errors import DataError
from fednet.methods.fedbagan import flow
from fednet.methods.fedbagan.agent import BalancingAgent
from fednet.methods.fedbagan.config import Config
from fednet.methods.fedbagan.results import leave_numbers, summarise
from fednet.methods.fedbagan.words import BalancingCard, read_cards
from fednet.metrics.judge import train_judge
from fednet.summary import Summary, leave


def agent(config: Config, site: Site, own: Mapping[str, Any] | None = None) -> BalancingAgent:
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
    return BalancingAgent(config.model_copy(update={"data": data}), site, share)


def run(config: Config, network: Network, folder: Path, seed: int, watch: Watch) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every stretch of rounds), metrics.json, samples/ with grids and an animated
    GIF, checkpoints/ with the generator after every stretch and the best one, journal.json. A run that is started again
    in its folder goes on where it was.

    Args:
        config: rounds and measures.
        network: reaches the sites, and knows their cards.
        folder: the run's folder.
        seed: the run's seed.
        watch: hears of every step, and asks for the end.

    Raises:
        MethodError: the sites do not fit the data, or nobody answers.
        Stopped: the watch asks for the end.
    """
    cards = read_cards(network.cards)
    _require_latent(cards, config.model.latent)
    splits = fitting(load(config.data), cards)
    judge = train_judge(splits.judge, seed=seed, watch=watch, steps=config.report.judge_steps)
    job = flow.BalancingJob(config, network, cards, splits, judge, folder, seed)
    found = flow.Found({}, {}, {})
    for found in flow.steps(job, watch):
        leave(folder, summarise(config, found, list(cards)))
    leave_numbers(folder, config, found)
    return summarise(config, found, list(cards))


def _require_latent(cards: Mapping[str, BalancingCard], wanted: int) -> None:
    """The run draws latent vectors, and the sites decode them."""
    name, card = next(iter(cards.items()))
    if card.latent != wanted:
        raise DataError(f"{name} has latent vectors of {card.latent} numbers, the run {wanted}: use one configuration")

"""What a site says of its own data takes the place of the run's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.api import SiteContext
from fednet.data.config import DataConfig, HeldOut, PartitionConfig
from fednet.data.datasets import load, training_images
from fednet.data.local_split import train_and_test
from fednet.data.partition import partition
from fednet.data.site_data import check_data, local_parts, own_data, run_parts, run_share, site_data_config
from fednet.errors import DataError


def test_own_keys_replace_the_common_ones() -> None:
    common = DataConfig(size=16, limit=100)
    assert site_data_config(common) == site_data_config(common, {}) == site_data_config(common, {"data": {}}) == common
    assert site_data_config(common, {"data": {"limit": 50}}) == DataConfig(size=16, limit=50)


@pytest.mark.parametrize("keys", [{"limit": -1}, {"name": "nothing"}, {"colour": 1}])
def test_keys_that_do_not_fit_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(DataError, match="data of its own"):
        site_data_config(DataConfig(), {"data": keys})


def test_a_site_with_data_of_its_own_keeps_all_of_it() -> None:
    common = DataConfig()
    assert own_data(common) is None
    assert own_data(common, {"data": {"limit": 30}}) == DataConfig(limit=30)
    assert len(training_images(DataConfig())) == 1797


def test_data_that_are_not_there_are_found_early(tmp_path: Path) -> None:
    check_data(DataConfig())
    with pytest.raises(DataError, match="not a folder"):
        check_data(DataConfig(), {"data": {"name": "mnist", "root": str(tmp_path / "nowhere")}})


def test_a_share_is_what_the_partition_gives() -> None:
    whole, regime = load(DataConfig(limit=60)).train, PartitionConfig(kind="disjoint")
    for index, chosen in enumerate(partition(whole.labels, regime, 5, 3)):
        share = run_share(DataConfig(limit=60), regime, SiteContext(f"a{index}", index, 5, 3, "cpu", Path()), HeldOut())
        assert share.images.equal(whole.subset(chosen).images)


def test_a_site_trains_on_its_part_and_tests_with_the_rest() -> None:
    data, regime = DataConfig(limit=200), PartitionConfig(kind="homogeneous", train_ratio=0.75)
    whole = load(data).train
    for index, chosen in enumerate(partition(whole.labels, regime, 2, 3)):
        site = SiteContext(f"a{index}", index, 2, 3, "cpu", Path())
        train, test = run_parts(data, regime, site, HeldOut())
        assert (len(train), len(test)) == (75, 25)
        assert run_share(data, regime, site, HeldOut()).images.equal(train.images)
        held = whole.subset(chosen)
        assert local_parts(held, regime, site)[1].images.equal(test.images)
        assert held.images[train_and_test(held.labels, 0.75, 3, index)[0]].equal(train.images)
        assert sorted(torch.cat([train.labels, test.labels]).tolist()) == sorted(held.labels.tolist())


def test_imbalance_cuts_what_sites_get_and_nothing_else() -> None:
    data, regime = DataConfig(), PartitionConfig(imbalance=dict.fromkeys(range(5, 10), 0.1))
    splits = load(data)
    sites = [SiteContext(f"a{index}", index, 5, 0, "cpu", Path()) for index in range(5)]
    shares = [run_share(data, regime, site, HeldOut()) for site in sites]
    held = [sum(share.histogram()[label] for share in shares) for label in range(10)]
    whole = splits.train.histogram()
    assert held == [*whole[:5], *(round(0.1 * size) for size in whole[5:])]
    assert min(splits.judge.histogram()) > 25
    assert min(splits.test.histogram()) > 25

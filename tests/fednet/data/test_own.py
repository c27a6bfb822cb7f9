"""What a site says of its own data takes the place of the run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fednet.data.config import DataConfig
from fednet.data.datasets import load
from fednet.data.own import data_of, own_share, require_data
from fednet.errors import DataError


def test_own_keys_replace_the_common_ones() -> None:
    common = DataConfig(size=16, limit=100)
    assert data_of(common) == data_of(common, {}) == data_of(common, {"data": {}}) == common
    assert data_of(common, {"data": {"limit": 50}}) == DataConfig(size=16, limit=50)


@pytest.mark.parametrize("keys", [{"limit": -1}, {"name": "nothing"}, {"colour": 1}])
def test_keys_that_do_not_fit_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(DataError, match="data of its own"):
        data_of(DataConfig(), {"data": keys})


def test_a_site_with_data_of_its_own_keeps_all_of_it() -> None:
    common = DataConfig()
    assert own_share(common) == (common, None)
    data, share = own_share(common, {"data": {"limit": 30}})
    assert data.limit == 30
    assert share is not None
    assert share.images.equal(load(data).train.images)


def test_data_that_are_not_there_are_found_early(tmp_path: Path) -> None:
    require_data(DataConfig())
    with pytest.raises(DataError, match="not a folder"):
        require_data(DataConfig(), {"data": {"name": "mnist", "root": str(tmp_path / "nowhere")}})

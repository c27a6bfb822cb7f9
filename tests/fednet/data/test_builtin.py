"""The built-in data sets are read by the functions of their names."""

from __future__ import annotations

import pytest

from fednet.data import builtin, sources
from fednet.data.config import DataConfig
from fednet.data.contract import Dataset

VALUES = [value for value in vars(builtin).values() if isinstance(value, Dataset)]
LISTED = [value for value in VALUES if value.listings is not None]


@pytest.mark.parametrize("dataset", [one for one in VALUES if one.listings is None], ids=lambda dataset: dataset.name)
def test_a_data_set_is_read_by_its_function(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, dataset.name.replace("-", "_"), lambda config: (dataset.name, config))
    config = DataConfig()
    assert dataset.read(config) == (dataset.name, config)  # type: ignore[comparison-overlap]


def test_the_others_list_their_images() -> None:
    assert {value.name for value in LISTED} == {"folder", "hugging-face", "python", "table"}

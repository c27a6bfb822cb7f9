"""One judge of real digits for all tests of what a judge measures."""

import pytest
import torch

from fednet.data.config import DataConfig
from fednet.data.datasets import Splits, load
from fednet.metrics.judge import Judge, train_judge


@pytest.fixture(scope="session")
def splits() -> Splits:
    return load(DataConfig())


@pytest.fixture(scope="session")
def judge(splits: Splits) -> Judge:
    torch.set_num_threads(1)
    return train_judge(splits.judge, seed=0)

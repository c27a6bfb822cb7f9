"""The labels of the run are the model's own, by the names of the classes."""

from __future__ import annotations

import pytest

from fednet.errors import ModelError
from fednet.models.own_labels import own_labels


def test_labels_of_the_run_are_the_models_own_by_name() -> None:
    assert own_labels(("b", "a"), ("a", "b"), None, "x") == {0: 1, 1: 0}
    assert own_labels(("b",), ("a", "b"), 1, "x") == {0: 1, 1: 0}
    with pytest.raises(ModelError, match="x knows no class 'a'"):
        own_labels(("b",), ("a", "b"), None, "x")

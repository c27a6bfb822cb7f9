"""The cache of models: made once, read by all; a damaged file is named; waiting can be stopped."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from fednet.api import NullProgress, Stopped
from fednet.errors import ModelError
from fednet.methods.cmtii.model_cache import ModelCache, cache_key


def test_it_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.arange(3.0)}

    once = ModelCache(tmp_path, NullProgress()).once("thing-1", make)
    again = ModelCache(tmp_path, NullProgress()).once("thing-1", make)
    assert torch.equal(once["a"], again["a"])
    assert made == [1]


def test_of_several_at_once_one_makes_it(tmp_path: Path) -> None:
    made: list[int] = []
    together = threading.Barrier(4)

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.ones(2)}

    def site() -> None:
        together.wait()
        ModelCache(tmp_path, NullProgress()).once("thing-1", make)

    threads = [threading.Thread(target=site) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    class Impatient:
        def report(self, phase: str, done: int, total: int, **values: float) -> None:
            raise Stopped

    def make() -> dict[str, torch.Tensor]:
        with pytest.raises(Stopped):
            ModelCache(tmp_path, Impatient()).once("thing-1", dict)
        return {"a": torch.ones(1)}

    assert ModelCache(tmp_path, NullProgress()).once("thing-1", make)["a"] == 1


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, torch.Tensor]:
        raise ModelError("no")

    with pytest.raises(ModelError):
        ModelCache(tmp_path, NullProgress()).once("thing-1", fail)
    assert ModelCache(tmp_path, NullProgress()).once("thing-1", lambda: {"a": torch.ones(1)})["a"] == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing-1.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"thing-1.safetensors is damaged"):
        ModelCache(tmp_path, NullProgress()).once("thing-1", dict)


def test_names_follow_the_terms() -> None:
    assert cache_key({"a": 1, "b": [2]}) == cache_key({"b": [2], "a": 1}) != cache_key({"a": 2, "b": [2]})

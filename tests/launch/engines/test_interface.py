"""Every engine is one; what they promise is tested with each."""

from __future__ import annotations

from pathlib import Path

from launch.engines.interface import LOOPBACK, Engine, Hint
from launch.engines.local import LocalEngine


def engines(folder: Path) -> list[Engine]:
    return [LocalEngine(folder, folder)]


def test_an_engine_says_where_this_machine_is_reached_and_what_there_is(tmp_path: Path) -> None:
    for engine in engines(tmp_path):
        assert engine.address == LOOPBACK
        assert all(callable(getattr(engine, name)) for name in ("capacity", "reserve", "place"))


def test_a_hint_that_says_nothing_leaves_everything_to_the_engine() -> None:
    assert (Hint().host, Hint().labels, Hint().gpus) == (None, {}, 0)

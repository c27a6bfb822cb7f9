"""The section `engine`: a name, or settings."""

from __future__ import annotations

import pytest

from launch.config.schema import load_config
from launch.errors import ConfigError


def test_everything_is_local_and_nothing_is_started_again_by_default() -> None:
    engine = load_config("regression").cluster.engine
    assert (engine.kind, engine.restarts) == ("local", 0)


@pytest.mark.parametrize("override", ["engine=local", "engine={kind: local}", "engine={restart: never}"])
def test_a_name_will_do_and_so_will_settings_of_the_default(override: str) -> None:
    assert load_config("regression", [override]).cluster.engine == load_config("regression").cluster.engine


def test_restarts_are_a_number_or_never() -> None:
    assert load_config("regression", ["engine.restart=3"]).cluster.engine.restarts == 3
    for wrong in ("0", "always", "-1"):
        with pytest.raises(ConfigError, match=r"engine\.restart: expected 'never' or"):
            load_config("regression", [f"engine.restart={wrong}"])


def test_the_dumped_configuration_says_it_all() -> None:
    loaded = load_config("regression", ["engine.restart=3"])
    assert "engine:\n  restart: 3\n  kind: local\n" in loaded.dump()


def test_an_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="'local'"):
        load_config("regression", ["engine=kubernetes"])

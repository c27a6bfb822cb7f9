"""What `fednet init` writes can be launched and tested in an empty place outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fednet.methods import registry
from fednet.reporting.summary import read_summary
from launch.commands.init import blank_files, example_of, init
from launch.config.schema import load_config
from launch.errors import ConfigError


@pytest.mark.parametrize("method", [name for name in registry.names() if name != "external-training"])
def test_the_example_of_a_method_is_a_configuration_with_comments(method: str, tmp_path: Path) -> None:
    init(tmp_path / "new", method=method)
    written = tmp_path / "new" / "cluster.yaml"
    assert load_config(str(written)).cluster.method == method
    assert "# devices: {device: auto}" in written.read_text()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="expected a folder that is new or empty"):
        init(tmp_path)


def test_an_unknown_method_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a method that an example shows \(.*novelty.*Did you mean novelty"):
        init(tmp_path / "new", method="novelti")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="either --method or --blank"):
        init(tmp_path / "new", method="novelty", blank=True)


def test_a_method_without_an_example_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        init(tmp_path / "new", method="nothing")
    assert "external-training" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"scripts of your own, with fednet\.join"):
        init(tmp_path / "new", method="external-training")


def test_a_blank_package_is_short() -> None:
    package = [text for path, text in blank_files() if path.startswith("my_method/")]
    assert 0 < sum(len(text.splitlines()) for text in package) <= 80
    assert example_of("regression").startswith("# ")


@pytest.mark.timeout(300)
def test_a_blank_package_passes_its_test_and_runs_outside_the_checkout(tmp_path: Path, warm_python: Any) -> None:
    init(tmp_path / "new", blank=True)

    def run(*arguments: str, module: str | None = None) -> None:
        with (tmp_path / "said").open("w+") as said:
            streams = {"stdout": said.fileno(), "stderr": said.fileno()}
            command = warm_python.start(arguments, cwd=tmp_path / "new", env=os.environ, module=module, **streams)
            assert command.wait(280) == 0, (tmp_path / "said").read_text()

    run("-q", "-p", "no:cacheprovider", "-p", "no:xdist", module="pytest")
    run("launch", "cluster.yaml", "--set", "rounds=2", "--set", "devices.threads=1")
    (section,) = read_summary(tmp_path / "new" / "runs" / "mine").sections
    assert section.table is not None
    assert len({value for _, value in section.table.rows}) == 1

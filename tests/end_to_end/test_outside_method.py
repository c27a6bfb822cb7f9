"""A method and a data set outside the repository, beside their cluster.yaml: launched, resumed, and run by hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fednet.reporting.summary import read_summary
from launch.commands.init import init
from tests.ports import free_ports

SETTINGS = ("--set", "rounds=100", "--set", "devices.threads=1")
DATA = """
from fednet.data.contract import Dataset

def read(config):
    raise RuntimeError("never read")

DATASET = Dataset("mine", "not there", read, root="optional", extra="their[extra]", requires=("no_such_library",))
"""


@pytest.fixture(scope="module")
def package(terminal: Any) -> Iterator[Path]:
    """A folder with a method package, which is not where the commands run."""
    folder = terminal.folder / "end_to_end_outside"
    init(folder, blank=True)
    yield folder
    shutil.rmtree(folder)


def predictions(run: Path) -> set[object]:
    """What the sites predict at the end."""
    (section,) = read_summary(run).sections
    assert section.table is not None
    return {row[1] for row in section.table.rows}


@pytest.mark.timeout(300)
def test_it_is_launched_and_resumed(terminal: Any, package: Path) -> None:
    arguments = ("launch", package / "cluster.yaml", "--out", "launched", *SETTINGS)
    launched = terminal.start(*arguments)
    launched.run = terminal.folder / "launched" / "mine"
    launched.until(lambda: launched.works_on("linear rounds"), "it holds rounds")
    assert launched.interrupt() == 130
    resumed = terminal.start(*arguments, "--resume")
    assert resumed.ends() == 0, resumed.err
    assert len(predictions(launched.run)) == 1
    resumed.leaves_nobody()


@pytest.mark.timeout(300)
def test_it_is_run_by_hand(terminal: Any, package: Path) -> None:
    ports = free_ports()
    address = f"tcp://127.0.0.1:{next(ports)}"
    common = ("--config", package / "cluster.yaml", "--out", "hand", "--set", "nodes=2", "--set", "rounds=2")
    clients = [
        terminal.start("node", "--role", "client", "--name", "a1", "--listen", address, *common),
        terminal.start("node", "--role", "client", "--name", "a2", "--join", address, *common),
    ]
    driver = terminal.start("node", "--role", "guest", "--join", address, *common)
    assert driver.ends() == 0, driver.err
    assert len(predictions(terminal.folder / "hand" / "mine")) == 1
    for client in clients:
        assert client.interrupt() == 0, client.err


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_library_that_is_not_there", "No module named 'a_library_that_is_not_there'"),
        ("raise OSError('no licence')", "OSError: no licence"),
        (DATA, "it needs no_such_library, not installed here: pip install 'their[extra]'"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_one_error_of_check(terminal: Any, source: str, reason: str) -> None:
    folder = terminal.folder / f"data-{len(source)}"
    (folder / f"mine{len(source)}").mkdir(parents=True)
    (folder / f"mine{len(source)}" / "images.py").write_text(source)
    settings = f"name: x\nmethod: fedbagan\ndata: {{name: mine{len(source)}.images}}\n"
    (folder / "cluster.yaml").write_text(settings)
    call = terminal.call("check", folder / "cluster.yaml")
    assert call.code == 2
    (line,) = call.err.splitlines()
    assert line.startswith(f"fednet: {folder / 'cluster.yaml'}:3: data.name: ")
    assert reason in line

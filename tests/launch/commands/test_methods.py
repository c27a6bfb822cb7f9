"""Methods' commands become groups of the command line, imported when they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from fednet.methods import registry
from launch.commands.app import app
from launch.commands.methods import guest_command
from launch.errors import ConfigError

if TYPE_CHECKING:
    from fednet.methods.contract import Cluster

SOURCE = '''
from dataclasses import replace
from fednet.methods.registry import find

def count(cluster, many: int = 3) -> None:
    """Counts."""
    print("counted", many, type(cluster).__name__)

METHOD = replace(find("regression"), commands={"count": count, "deep count": count})
'''


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_every_registered_method_is_a_group_of_the_help() -> None:
    shown = run("--help").stdout
    assert all(f"Commands of the method {name}." in shown for name in registry.names())


def test_a_group_shows_the_methods_summary_and_commands() -> None:
    shown = run("novelty", "--help").stdout
    method = registry.find("novelty")
    assert f"novelty: {method.summary}." in shown
    assert all(name.split()[0] in shown for name in method.commands)
    assert "no commands of its own; `fednet launch` runs it." in run("regression", "--help").stdout
    assert "its sites are your scripts: fednet.join" in " ".join(run("external-training", "--help").stdout.split())


def test_a_command_gets_the_options_of_a_guest() -> None:
    shown = run("novelty", "model", "get", "--help").stdout
    assert all(option in shown for option in ("FILE", "--model", "--join", "--listen", "--key", "--insecure"))


def test_a_module_beside_the_operator_is_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counters").mkdir()
    (tmp_path / "counters" / "counting.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for arguments in (("count", "--many", "5"), ("deep", "count", "--many", "5")):
        done = run("counters.counting", *arguments, "--join", "tcp://127.0.0.1:1")
        assert done.stdout == "counted 5 GuestCluster\n"
    assert run("counters.counting", "count").exit_code == 2, "--join is required"


@pytest.mark.parametrize("name", ["outside.nothing", "novelti"])
def test_an_unknown_method_is_the_operators_error(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code != 0
    if "." in name:
        assert isinstance(done.exception, ConfigError)
        assert "No module named 'outside" in str(done.exception)


def test_a_command_cannot_take_a_guests_own_option() -> None:
    def wrong(cluster: Cluster, *, key: Annotated[str, typer.Option()]) -> None:
        """Takes a key of its own."""

    with pytest.raises(ConfigError, match="parameter key"):
        guest_command("m", wrong)

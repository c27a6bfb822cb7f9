"""The commands about keys, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.commands.keys import app
from launch.errors import ConfigError


def say(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_keys_are_made_handed_over_trusted_listed_and_compared(tmp_path: Path) -> None:
    anna, ben = str(tmp_path / "anna"), str(tmp_path / "ben")
    made = say("new", "anna", "--folder", anna)
    say("new", "ben", "--folder", ben)
    assert "anna is trusted as a client," in say("trust", f"{anna}/anna.pub", "--folder", ben)
    shown = say("fingerprint", "anna", "--folder", ben).strip()
    assert shown == say("fingerprint", "anna", "--folder", anna).strip()
    assert shown in made
    listed = say("list", "--folder", ben)
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["ben", "own"], ["anna", "trusted"]]
    assert shown in listed


def test_no_command_shows_a_private_half(tmp_path: Path) -> None:
    folder = str(tmp_path)
    said = say("new", "anna", "--folder", folder) + say("list", "--folder", folder)
    private = (tmp_path / "anna.key").read_text()
    secret = [word for word in private.replace('"', " ").split() if len(word) == 64]
    assert len(secret) == 2
    assert not [half for half in secret if half in said]


def test_what_is_refused_is_an_error_of_the_operator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file with keys"):
        say("trust", str(tmp_path / "nobody.pub"), "--folder", str(tmp_path))


def test_a_guest_asks_for_rights_and_is_given_others(tmp_path: Path) -> None:
    mine, guest = str(tmp_path / "mine"), str(tmp_path / "guest")
    say("new", "anna", "--folder", mine)
    say("new", "bob", "--folder", guest, "--role", "guest", "--may", "ask,rounds")
    assert "as a guest who may ask, rounds, fingerprint" in say("trust", f"{guest}/bob.pub", "--folder", mine)
    said = say("trust", f"{guest}/bob.pub", "--folder", mine, "--may", "ask", "--until", "2020-01-31", "--replace")
    assert "as a guest who may ask, until 2020-01-31, fingerprint" in said
    assert "That day is past" in said
    assert "until 2020-01-31 (over)" in " ".join(say("list", "--folder", mine).split())


def test_a_folder_without_keys_is_said_to_hold_none(tmp_path: Path) -> None:
    assert f"no keys in {tmp_path}/none" in say("list", "--folder", f"{tmp_path}/none")
    assert json.loads(say("list", "--json", "--folder", f"{tmp_path}/none")) == []


def test_a_list_for_programs(tmp_path: Path) -> None:
    say("new", "hub", "--role", "relay", "--folder", str(tmp_path))
    (found,) = json.loads(say("list", "--json", "--folder", str(tmp_path)))
    assert (found["name"], found["whose"], found["role"], found["over"]) == ("hub", "own", "relay", False)
    assert found["fingerprint"] == say("fingerprint", "hub", "--folder", str(tmp_path)).strip()


def test_a_key_is_revoked(tmp_path: Path) -> None:
    mine, other = str(tmp_path / "mine"), str(tmp_path / "other")
    say("new", "anna", "--folder", mine)
    say("new", "bob", "--folder", other)
    say("trust", f"{other}/bob.pub", "--folder", mine)
    assert "bob is trusted no more" in say("revoke", "bob", "--folder", mine)
    assert "bob" not in say("list", "--folder", mine)

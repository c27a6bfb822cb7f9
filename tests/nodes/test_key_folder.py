"""A folder of keys as a node reads it; what an operator does with one is tests/launch/run/test_keys.py's."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from nodes.errors import KeyFileError, NodeError
from nodes.key_folder import read_keyring, trusted_keys
from protocol.security.keys import PrivateKeys


def write(folder: Path, *names: str) -> dict[str, PrivateKeys]:
    """Keys of the operator whose folder it is."""
    made = {name: PrivateKeys.make(name) for name in names}
    for name, keys in made.items():
        (folder / f"{name}.key").write_text(keys.text())
        (folder / f"{name}.key").chmod(0o600)
        (folder / f"{name}.pub").write_text(keys.public.text())
    return made


def test_a_node_trusts_its_operators_keys_and_those_of_others(tmp_path: Path) -> None:
    own, theirs = write(tmp_path, "anna", "ben"), PrivateKeys.make("cleo")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "cleo.pub").write_text(theirs.public.text())
    ring = read_keyring(tmp_path / "anna.key")
    assert (ring.own, set(ring.trusted), ring.file) == (own["anna"], {"anna", "ben", "cleo"}, tmp_path / "anna.key")


def test_another_key_of_the_folder_may_have_signed_a_grant(tmp_path: Path) -> None:
    own, theirs = write(tmp_path, "anna", "ben"), PrivateKeys.make("cleo")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "cleo.pub").write_text(theirs.public.granted(own["ben"], "monitor").text())
    assert read_keyring(tmp_path / "anna.key").trusted["cleo"].role == "monitor"
    (tmp_path / "ben.key").unlink()
    with pytest.raises(KeyFileError, match=r"expected a statement that cleo has signed, .* got one of ben"):
        trusted_keys(tmp_path)


def test_a_key_is_trusted_until_its_last_day(tmp_path: Path) -> None:
    own = write(tmp_path, "anna")["anna"]
    (tmp_path / "trusted").mkdir()
    for name, end in (("ben", date(2020, 1, 1)), ("cleo", date(2099, 1, 1))):
        granted = PrivateKeys.make(name).public.granted(own, "client", (), end)
        (tmp_path / "trusted" / f"{name}.pub").write_text(granted.text())
    assert set(read_keyring(tmp_path / "anna.key").trusted) == {"anna", "cleo"}


def test_an_error_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as raised:
        read_keyring(tmp_path / "anna.key")
    assert str(raised.value) == (
        f"{tmp_path}/anna.key: expected a file with keys, got No such file or directory. "
        f"`fednet keys new anna --folder {tmp_path}` makes keys."
    )

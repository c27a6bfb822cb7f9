"""Keys as files: who may read them, what is refused, and who trusts whom in the end."""

from __future__ import annotations

import re
import stat
from datetime import date
from pathlib import Path

import pytest

from launch.errors import ConfigError
from launch.run import keys
from protocol.security.key_roles import RIGHTS, KeyRole
from protocol.security.keys import PrivateKeys


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    public = keys.create_keys("anna", tmp_path / "keys")
    private = tmp_path / "keys" / "anna.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert keys.load_keyring(private).own.public == public == keys.own_keys(tmp_path / "keys")[0]
    assert "PRIVATE" not in (tmp_path / "keys" / "anna.pub").read_text()


def test_keys_are_never_written_over(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.create_keys("anna", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("what", ["", "trusted", "trusted/ben.pub", "anna.pub"])
def test_what_everybody_can_write_to_is_refused(tmp_path: Path, what: str) -> None:
    keys.create_keys("anna", tmp_path / "mine")
    keys.create_keys("ben", tmp_path / "his")
    keys.trust_keys(tmp_path / "his" / "ben.pub", tmp_path / "mine")
    for path in (tmp_path / "mine", tmp_path / "mine" / "trusted"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    open_to_all = tmp_path / "mine" / what
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigError) as raised:
        keys.node_keyring("anna", tmp_path / "mine")
    (problem,) = raised.value.problems
    assert (problem.where, problem.hint) == (str(open_to_all), f"chmod o-w {open_to_all}")
    open_to_all.chmod(0o775)
    assert set(keys.node_keyring("anna", tmp_path / "mine").trusted) == {"anna", "ben"}


def test_an_empty_folder_of_trusted_keys_that_everybody_can_fill_is_refused(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted").chmod(0o1777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        keys.node_keyring("anna", tmp_path)


@pytest.mark.parametrize("name", ["../anna", "Anna", "", "a b", "x" * 33])
def test_only_names_of_nodes_get_keys(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="NAME"):
        keys.create_keys(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_operators_who_hand_over_public_files_trust_each_other(tmp_path: Path) -> None:
    for name, other in (("anna", "ben"), ("ben", "anna")):
        keys.create_keys(name, tmp_path / name)
        assert other not in keys.node_keyring(name, tmp_path / name).trusted
    for name, other in (("anna", "ben"), ("ben", "anna")):
        keys.trust_keys(tmp_path / other / f"{other}.pub", tmp_path / name)
    rings = {name: keys.node_keyring(name, tmp_path / name) for name in ("anna", "ben")}
    assert rings["anna"].trusted == rings["ben"].trusted
    assert rings["anna"].own.name == "anna"


def test_one_operators_keys_trust_each_other(tmp_path: Path) -> None:
    roles: dict[str, KeyRole] = {"anna": "client", "ben": "guest", "cleo": "monitor"}
    rings = keys.ensure_keyrings(roles, tmp_path)
    assert set(rings["anna"].trusted) == set(rings["ben"].trusted) == set(roles)
    assert {name: (public.role, public.may) for name, public in rings["anna"].trusted.items()} == {
        "anna": ("client", ()), "ben": ("guest", RIGHTS), "cleo": ("monitor", ())
    }  # fmt: skip
    assert keys.ensure_keyrings(roles, tmp_path) == rings, "what is there is found, not made anew"


def test_another_key_under_a_known_name_is_refused_unless_told(tmp_path: Path) -> None:
    old, new = keys.create_keys("ben", tmp_path / "old"), keys.create_keys("ben", tmp_path / "new")
    keys.trust_keys(tmp_path / "old" / "ben.pub", tmp_path / "mine")
    with pytest.raises(ConfigError, match="--replace") as raised:
        keys.trust_keys(tmp_path / "new" / "ben.pub", tmp_path / "mine")
    assert old.fingerprint in str(raised.value)
    assert new.fingerprint in str(raised.value)
    assert keys.trusted_keys(tmp_path / "mine") == [old]
    keys.trust_keys(tmp_path / "new" / "ben.pub", tmp_path / "mine", replace=True)
    assert keys.trusted_keys(tmp_path / "mine") == [new]


def test_a_private_file_that_others_may_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    (tmp_path / "anna.key").chmod(0o640)
    with pytest.raises(ConfigError, match=r"chmod 600 .*anna\.key"):
        keys.node_keyring("anna", tmp_path)


def test_a_private_file_is_not_trusted_nor_shown(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    private = PrivateKeys.model_validate_json((tmp_path / "anna.key").read_text())
    with pytest.raises(ConfigError) as raised:
        keys.trust_keys(tmp_path / "anna.key", tmp_path / "other")
    assert private.curve not in str(raised.value)
    assert private.sign not in str(raised.value)
    assert "expected the public file, anna.pub, got the private one." in str(raised.value)


def test_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    (tmp_path / "anna.pub").write_text(PrivateKeys.make("anna").public.text())
    with pytest.raises(ConfigError, match=r"the other half of anna\.pub"):
        keys.node_keyring("anna", tmp_path)


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    keys.create_keys("anna", tmp_path)
    keys.create_keys("ben", tmp_path / "other")
    keys.trust_keys(tmp_path / "other" / "ben.pub", tmp_path)
    (tmp_path / "trusted" / "ben.pub").rename(tmp_path / "trusted" / "carl.pub")
    with pytest.raises(ConfigError, match="expected the keys of carl, got those of ben"):
        keys.node_keyring("anna", tmp_path)


def test_keys_that_are_not_there_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fednet keys new anna"):
        keys.node_keyring("anna", tmp_path)
    with pytest.raises(ConfigError, match="a name with keys"):
        keys.find_keys("anna", tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"x" * 10_000, b'{"name": "ben"}'])
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ben.pub").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ben\.pub"):
        keys.trust_keys(tmp_path / "ben.pub", tmp_path)


class TestGrants:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Anna's folder; ben's public file lies beside it."""
        keys.create_keys("anna", tmp_path / "mine")
        keys.create_keys("ben", tmp_path)
        return tmp_path / "mine"

    def test_who_trusts_says_as_what_and_how_long(self, folder: Path, tmp_path: Path) -> None:
        grant = keys.Grant("guest", ("ask",), date(2099, 1, 31))
        granted = keys.trust_keys(tmp_path / "ben.pub", folder, grant)
        assert keys.describe(granted) == "guest who may ask, until 2099-01-31"
        assert keys.node_keyring("anna", folder).trusted["ben"] == granted
        assert granted.signed_by == "anna"

    def test_what_is_not_said_stays_as_its_owner_has_it(self, tmp_path: Path) -> None:
        keys.create_keys("anna", tmp_path / "mine")
        keys.create_keys("cleo", tmp_path, "guest", ("ask", "rounds"))
        granted = keys.trust_keys(tmp_path / "cleo.pub", tmp_path / "mine", keys.Grant(not_after=date(2099, 1, 1)))
        assert (granted.role, granted.may) == ("guest", ("ask", "rounds"))

    def test_another_role_of_the_same_keys_is_said_aloud(self, folder: Path, tmp_path: Path) -> None:
        keys.trust_keys(tmp_path / "ben.pub", folder, keys.Grant("monitor"))
        with pytest.raises(ConfigError, match=r"as here: monitor, got client.*--replace"):
            keys.trust_keys(tmp_path / "ben.pub", folder)
        assert keys.trust_keys(tmp_path / "ben.pub", folder, replace=True).role == "client"

    def test_a_grant_of_somebody_else_counts_for_nothing(self, folder: Path, tmp_path: Path) -> None:
        eve = PrivateKeys.make("anna")
        (folder / "trusted").mkdir(0o700)
        forged = keys.find_keys("anna", folder).granted(eve, "client").text()
        (folder / "trusted" / "anna.pub").write_text(forged)
        with pytest.raises(ConfigError, match="a statement that anna has signed"):
            keys.node_keyring("anna", folder)
        (tmp_path / "given.pub").write_text(forged)
        with pytest.raises(ConfigError, match="the statement of anna itself, got what anna lets it in as"):
            keys.trust_keys(tmp_path / "given.pub", folder)

    def test_a_grant_needs_a_key_to_sign_it_with(self, tmp_path: Path) -> None:
        keys.create_keys("ben", tmp_path)
        with pytest.raises(ConfigError, match="a key of your own"):
            keys.trust_keys(tmp_path / "ben.pub", tmp_path / "empty", keys.Grant("monitor"))

    def test_rights_are_guests(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="only a guest"):
            keys.trust_keys(tmp_path / "ben.pub", folder, keys.Grant("monitor", ("ask",)))
        with pytest.raises(ConfigError, match="the role guest"):
            keys.create_keys("cleo", tmp_path, "client", ("ask",))
        with pytest.raises(ConfigError, match="some of ask,models,rounds, got order"):
            keys.rights("ask,order")


class TestRevocation:
    def test_who_is_revoked_is_not_trusted_again_by_mistake(self, tmp_path: Path) -> None:
        keys.create_keys("anna", tmp_path / "mine")
        keys.create_keys("ben", tmp_path)
        keys.trust_keys(tmp_path / "ben.pub", tmp_path / "mine")
        keys.revoke_keys("ben", tmp_path / "mine")
        assert set(keys.node_keyring("anna", tmp_path / "mine").trusted) == {"anna"}
        with pytest.raises(ConfigError, match=r"not revoked here, got .*--replace"):
            keys.trust_keys(tmp_path / "ben.pub", tmp_path / "mine")
        keys.trust_keys(tmp_path / "ben.pub", tmp_path / "mine", replace=True)
        assert set(keys.node_keyring("anna", tmp_path / "mine").trusted) == {"anna", "ben"}
        assert not list((tmp_path / "mine" / "revoked").iterdir())

    def test_new_keys_of_a_revoked_name_are_trusted(self, tmp_path: Path) -> None:
        keys.create_keys("ben", tmp_path / "old")
        keys.create_keys("ben", tmp_path / "new")
        keys.trust_keys(tmp_path / "old" / "ben.pub", tmp_path / "mine")
        keys.revoke_keys("ben", tmp_path / "mine")
        new = keys.trust_keys(tmp_path / "new" / "ben.pub", tmp_path / "mine")
        assert keys.find_keys("ben", tmp_path / "mine") == new

    @pytest.mark.parametrize(("name", "said"), [("cleo", "(ben)"), ("../ben", "(ben)"), ("anna", "It is your own")])
    def test_what_is_not_trusted_cannot_be_revoked(self, tmp_path: Path, name: str, said: str) -> None:
        keys.create_keys("anna", tmp_path / "mine")
        keys.create_keys("ben", tmp_path)
        keys.trust_keys(tmp_path / "ben.pub", tmp_path / "mine")
        with pytest.raises(ConfigError, match=re.escape(said)):
            keys.revoke_keys(name, tmp_path / "mine")

    def test_a_folder_that_nodes_cannot_read_is_told_of(self, tmp_path: Path) -> None:
        keys.create_keys("ben", tmp_path)
        keys.trust_keys(tmp_path / "ben.pub", tmp_path / "mine")
        (tmp_path / "mine" / "trusted" / "cleo.pub").write_text("?")
        with pytest.raises(ConfigError, match=r"cleo\.pub"):
            keys.revoke_keys("ben", tmp_path / "mine")
        assert not (tmp_path / "mine" / "trusted" / "ben.pub").exists()

"""Keys: what comes back from a text, what a keyring refuses, and that secrets are shown nowhere."""

from __future__ import annotations

import pickle
from datetime import date

import pytest

from protocol.errors import KeyFormatError
from protocol.security.key_roles import RIGHTS, KeyRole
from protocol.security.keys import Keyring, PrivateKeys, read_private, read_public

ANNA, BEN = PrivateKeys.make("anna"), PrivateKeys.make("ben")


def test_keys_come_back_from_their_texts() -> None:
    assert read_private(ANNA.text()) == ANNA
    assert read_public(ANNA.public.text()) == ANNA.public


def test_every_make_is_new() -> None:
    assert PrivateKeys.make("anna").curve != ANNA.curve
    assert PrivateKeys.make("anna").sign != ANNA.sign


def test_a_fingerprint_is_of_the_name_and_of_both_keys() -> None:
    others = [
        ANNA.public.model_copy(update=change)
        for change in ({"name": "ben"}, {"curve": BEN.public.curve}, {"sign": BEN.public.sign})
    ]
    assert len({each.fingerprint for each in (ANNA.public, *others)}) == 4
    assert len(ANNA.public.fingerprint.replace("-", "")) == 32


def test_private_keys_are_shown_nowhere() -> None:
    ring = Keyring.of(ANNA, [BEN.public])
    for shown in (repr(ANNA), str(ANNA), repr(ring), ANNA.public.text(), f"{ring.own}"):
        assert ANNA.curve not in shown
        assert ANNA.sign not in shown


class TestStatement:
    GUEST = PrivateKeys.make("guest", "guest", ("rounds", "ask", "ask"))

    def test_it_says_as_what_its_owner_asks_to_be_let_in(self) -> None:
        assert (ANNA.public.role, ANNA.public.may, ANNA.public.not_after) == ("client", (), None)
        assert (self.GUEST.public.role, self.GUEST.public.may) == ("guest", ("ask", "rounds"))
        assert PrivateKeys.make("hub", "relay").public.relay

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"guest",\n "role": "guest"', '"guest",\n "role": "client"'),
            ('"may": [\n  "ask",\n  "rounds"\n ]', '"may": ["ask", "models", "rounds"]'),
            ('"may": [\n  "ask",\n  "rounds"\n ]', '"may": ["ask"]'),
            ('"may": [\n  "ask",\n  "rounds"\n ]', '"may": ["rounds", "ask"]'),
            ('"not_after": null', '"not_after": "2099-01-01"'),
            ('"name": "guest"', '"name": "anna"'),
            (GUEST.public.curve, BEN.public.curve),
            (GUEST.public.sign, BEN.public.sign),
            (f',\n "signature": "{GUEST.public.signature}"', ""),
        ],
        ids=range(9),  # the same in every process: keys are not
    )
    def test_nobody_changes_it_on_the_way(self, old: str, new: str) -> None:
        text = self.GUEST.public.text()
        assert old in text
        with pytest.raises(KeyFormatError):
            read_public(text.replace(old, new))

    @pytest.mark.parametrize("role", ["client", "monitor", "relay"])
    def test_only_guests_have_rights(self, role: KeyRole) -> None:
        with pytest.raises(KeyFormatError, match="only a guest"):
            PrivateKeys.make("anna", role, ("ask",))

    def test_who_trusts_it_lets_its_owner_in_as_something_else_for_a_while(self) -> None:
        granted = BEN.public.granted(ANNA, "guest", ("ask",), date(2027, 1, 31))
        assert (granted.role, granted.may, granted.signed_by) == ("guest", ("ask",), "anna")
        assert granted.fingerprint == BEN.public.fingerprint
        assert read_public(granted.text()) == granted
        assert granted.is_signed_by(ANNA.public)
        assert not granted.is_signed_by(BEN.public)
        assert not granted.is_signed_by(self.GUEST.public)
        assert [granted.expired(date(2027, 1, day)) for day in (30, 31)] == [False, False]
        assert granted.expired(date(2027, 2, 1))

    @pytest.mark.parametrize("change", [{"role": "client", "may": ()}, {"not_after": None}, {"may": RIGHTS}])
    def test_a_grant_cannot_be_changed_either(self, change: dict[str, object]) -> None:
        granted = BEN.public.granted(ANNA, "guest", ("ask",), date(2027, 1, 31)).model_copy(update=change)
        assert not granted.is_signed_by(ANNA.public)

    def test_a_relay_becomes_no_member_and_no_member_a_relay(self) -> None:
        for keys, role in ((BEN, "relay"), (PrivateKeys.make("hub", "relay"), "client")):
            with pytest.raises(KeyFormatError, match="a relay is no member"):
                keys.public.granted(ANNA, role)  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [1, 10, 64])
def test_the_error_about_a_broken_private_text_does_not_repeat_it(cut: int) -> None:
    broken = ANNA.text().replace(ANNA.sign, ANNA.sign[:-cut] + "?" * cut)
    with pytest.raises(KeyFormatError, match="sign") as raised:
        read_private(broken)
    assert ANNA.sign[:8] not in str(raised.value)
    assert ANNA.curve not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", "\0", "x" * 5000, '{"name": "anna"}', ANNA.public.text()[:-3]])
def test_other_texts_are_not_keys(text: str) -> None:
    for read in (read_public, read_private):
        with pytest.raises(KeyFormatError):
            read(text)


def test_private_and_public_texts_are_not_taken_for_each_other() -> None:
    with pytest.raises(KeyFormatError):
        read_public(ANNA.text())
    with pytest.raises(KeyFormatError):
        read_private(ANNA.public.text())


@pytest.mark.parametrize("name", ["", "Anna", "a/b", "x" * 33, "../anna"])
def test_only_a_nodes_name_gets_keys(name: str) -> None:
    with pytest.raises(KeyFormatError):
        PrivateKeys.make(name)


def test_a_keyring_finds_owners_by_key() -> None:
    ring = Keyring.of(ANNA, [BEN.public, ANNA.public])
    assert ring.trusted == {"anna": ANNA.public, "ben": BEN.public}
    assert (
        ring.names_by_signing_key[bytes.fromhex(BEN.public.sign)]
        == ring.names_by_curve_key[bytes.fromhex(BEN.public.curve)]
        == "ben"
    )


def test_a_name_has_one_key_and_a_key_one_name() -> None:
    impostor = PrivateKeys.make("ben").public
    for wrong in (
        [BEN.public, impostor],
        [PrivateKeys.make("anna").public],
        [BEN.public, impostor.model_copy(update={"name": "carl", "sign": BEN.public.sign})],
        [BEN.public, impostor.model_copy(update={"name": "carl", "curve": BEN.public.curve})],
    ):
        with pytest.raises(KeyFormatError):
            Keyring.of(ANNA, wrong)


def test_a_keyring_reaches_a_process_that_is_started() -> None:
    ring = Keyring.of(ANNA, [BEN.public])
    assert ring.own.signer, "what has been used"
    assert pickle.loads(pickle.dumps(ring)) == ring  # noqa: S301 - multiprocessing does the same, within one machine

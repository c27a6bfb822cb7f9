"""A name is shown as it is written, and one plain word stands for it on the wire and in paths."""

from __future__ import annotations

import pytest

from launch.config.names import slug, written_name
from launch.config.schema import load_config
from launch.errors import ConfigError
from protocol.topics import is_run


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("tiny", "tiny"),
        ("a_1-b", "a_1-b"),
        ("Nord", "nord"),
        ("Hôpital Nord (2)", "hopital-nord-2"),
        ("Ｗｉｄｅ", "wide"),
        ("Straße", "strasse"),
        ("Lauf 3.5", "lauf-3-5"),
    ],
)
def test_a_slug_is_what_is_left_in_plain_letters(name: str, plain: str) -> None:
    assert slug(name) == plain


@pytest.mark.parametrize("name", ["Клиника", "病院", "病院 2", "Клиника a", "🙂", "é" * 64, "ﷺ" * 64])
def test_every_name_has_a_slug_that_the_wire_takes(name: str) -> None:
    assert is_run(slug(written_name(name)))


def test_slugs_of_other_scripts_differ_and_forms_of_one_name_do_not() -> None:
    others = ("Клиника", "Больница", "病院", "nord", "n\u043erd")  # the last with a Cyrillic o
    assert len({slug(name) for name in others}) == 5
    assert slug("Cafe\u0301") == slug("Caf\u00e9") == "cafe"
    assert written_name("Cafe\u0301") == "Caf\u00e9"


UNSEEN = ("a\nb", "a\x00b", "a\u202eb", "a\u200bb", "a\u2028b", "a\u00a0b")


@pytest.mark.parametrize("name", ["", "x" * 65, " x", ".", "..", "x.", "a/b", "a\\b", *UNSEEN])
def test_what_cannot_be_seen_or_leads_elsewhere_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"name"):
        written_name(name)
    with pytest.raises(ConfigError, match=r"name: .*name"):
        load_config({"name": name, "method": "regression"})

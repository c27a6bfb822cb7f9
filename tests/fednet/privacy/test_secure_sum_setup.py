"""Terms under which a sum would not be private are refused with the reason; a digest covers everything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fednet.errors import PrivacyError
from fednet.privacy.secure_sum_setup import (
    KEYS_BYTES,
    PartyKeys,
    SecureSumParameters,
    SecureSumParties,
    SurvivorSet,
)
from fednet.privacy.threshold import default_threshold

NAMES = ("a", "b", "c", "d", "e")
PARAMETERS = SecureSumParameters(NAMES, 3, b"attempt")


def keys(name: str) -> PartyKeys:
    return PartyKeys(*((name + part).encode().ljust(32) for part in "1234"))


PARTIES = SecureSumParties(PARAMETERS, {name: keys(name) for name in NAMES})
AGREEMENT = SurvivorSet(PARTIES, ("a", "b", "c", "d"), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("count", "threshold", "reason"),
    [
        (5, 6, "above the number of parties, 5"),
        (10, 5, "not more than half of 10 parties.*use at least 6"),
        (5, 2, "not more than half"),
        (5, 0, "not more than half"),
        (3, 2, "each learns the other's value"),
        (2, 2, "hides nothing"),
        (0, 0, "hides nothing"),
    ],
)
def test_a_threshold_that_does_not_protect_is_refused_with_the_reason(count: int, threshold: int, reason: str) -> None:
    with pytest.raises(PrivacyError, match=reason):
        SecureSumParameters(tuple(f"{index:02}" for index in range(count)), threshold, b"")


@pytest.mark.parametrize("names", [("a", "b", "b"), ("b", "a", "c"), ("", "a", "b"), ("a", "b", "c" * 256)])
def test_names_that_are_none_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(PrivacyError):
        SecureSumParameters(names, 3, b"")
    with pytest.raises(PrivacyError, match="1025 bytes"):
        SecureSumParameters(NAMES, 3, bytes(1025))


def test_the_usual_threshold_is_always_allowed() -> None:
    for count in range(3, 60):
        parameters = SecureSumParameters(tuple(f"{index:02}" for index in range(count)), default_threshold(count), b"")
        assert parameters.colluders >= (count - 1) // 3 - 1
    assert [default_threshold(count) for count in (3, 4, 5, 10, 30)] == [3, 3, 4, 7, 21]


def test_no_two_groups_reveal_different_things_unless_enough_collude() -> None:
    for count in range(3, 12):
        for threshold in range(max(3, count // 2 + 1), count + 1):
            bound = SecureSumParameters(tuple(f"{index:02}" for index in range(count)), threshold, b"").colluders
            for colluders in range(count + 1):
                honest = count - colluders
                both = any(
                    one + colluders >= threshold and honest - one + colluders >= threshold for one in range(honest + 1)
                )
                assert both == (colluders > bound)


def test_every_part_is_in_the_digest() -> None:
    others = [
        SecureSumParameters(NAMES, 4, b"attempt"),
        SecureSumParameters(NAMES, 3, b"attempt2"),
        SecureSumParameters((*NAMES[:4], "f"), 3, b"attempt"),
    ]
    assert len({parameters.digest for parameters in (PARAMETERS, *others)}) == 4
    directories = [PARTIES, SecureSumParties(PARAMETERS, {name: keys(name) for name in NAMES[:4]})]
    changed = [replace(keys("a"), **{part: b"x" * 32}) for part in ("seal", "mask", "sign", "commitment")]
    directories += [SecureSumParties(PARAMETERS, {**PARTIES.keys, "a": other}) for other in changed]
    directories.append(SecureSumParties(others[1], PARTIES.keys))
    assert len({parties.digest for parties in directories}) == len(directories)
    agreements = [
        AGREEMENT,
        SurvivorSet(PARTIES, ("a", "b", "c"), ("a", "b", "c")),
        SurvivorSet(PARTIES, ("a", "b", "c", "d"), ("a", "b", "d")),
        SurvivorSet(directories[1], ("a", "b", "c", "d"), ("a", "b", "c")),
    ]
    assert len({agreement.digest for agreement in agreements}) == 4


def test_of_a_survivor_the_seed_and_of_a_dropped_one_the_key() -> None:
    assert {name: AGREEMENT.kind(name) for name in AGREEMENT.sharers} == {
        "a": "seed",
        "b": "seed",
        "c": "seed",
        "d": "key",
    }


def test_keys_survive_the_way_and_others_are_refused_by_name() -> None:
    assert PartyKeys.unpacked(keys("a").packed(), "a") == keys("a")
    for packed in (b"", bytes(KEYS_BYTES - 1), bytes(KEYS_BYTES + 1)):
        with pytest.raises(PrivacyError, match="'a'") as caught:
            PartyKeys.unpacked(packed, "a")
        assert caught.value.peers == ("a",)


def test_parties_and_agreements_that_cannot_be_are_refused() -> None:
    with pytest.raises(PrivacyError, match="'z'") as caught:
        SecureSumParties(PARAMETERS, {**PARTIES.keys, "z": keys("z")})
    assert caught.value.peers == ("z",)
    with pytest.raises(PrivacyError, match="2 of 5 parties advertised keys, the threshold is 3"):
        SecureSumParties(PARAMETERS, {name: keys(name) for name in "ab"})
    with pytest.raises(PrivacyError, match="'a' and 'b' advertised the same key"):
        SecureSumParties(PARAMETERS, {**PARTIES.keys, "b": replace(keys("b"), seal=keys("a").mask)})
    with pytest.raises(PrivacyError, match="2 of 5 parties sent a masked vector"):
        SurvivorSet(PARTIES, ("a", "b", "c"), ("a", "b"))
    with pytest.raises(PrivacyError, match="'d' cannot survive"):
        SurvivorSet(PARTIES, ("a", "b", "c"), ("a", "b", "c", "d"))
    with pytest.raises(PrivacyError, match="'z' shared without keys"):
        SurvivorSet(PARTIES, ("a", "b", "c", "z"), ("a", "b", "c"))


def test_no_key_is_shown() -> None:
    text = repr(PARTIES) + repr(keys("a")) + repr(AGREEMENT) + str(PARTIES)
    assert "a1" not in text
    assert "seal" not in text

"""Shares are revealed for one set of survivors of a base, across restarts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import ModelError, PrivacyError
from nodes.rounds.revealed import REVEALED, RevealedSum, RevealedSums

ALL, FEWER = ("a", "b", "c", "d"), ("a", "b", "c")


def revealed(survivors: tuple[str, ...] = ALL, **changes: Any) -> RevealedSum:
    return RevealedSum(**{"model": "m", "number": 1, "base": "ab" * 32, "survivors": survivors, **changes})


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"number": 2}, {"base": "cd" * 32}], ids=["again", "other number", "other base"]
)
def test_of_one_base_or_round_no_other_survivors_are_unmasked(
    tmp_path: Path, changes: dict[str, Any], *, restarted: bool
) -> None:
    sums = RevealedSums(tmp_path / "new")
    sums.remember(revealed())
    if restarted:
        sums = RevealedSums(tmp_path / "new")
    with pytest.raises(PrivacyError, match="unmasked for a, b, c, d already"):
        sums.require_only(revealed(FEWER, **changes))
    with pytest.raises(PrivacyError):
        sums.remember(revealed(FEWER, **changes))
    sums.require_only(revealed(**changes))


@pytest.mark.parametrize(
    ("wanted", "peers"), [((*ALL, "e"), ("e",)), (FEWER, ()), ((*FEWER, "e"), ())], ids=["more", "fewer", "others"]
)
def test_those_without_whom_it_is_the_same_sum_are_named(wanted: tuple[str, ...], peers: tuple[str, ...]) -> None:
    sums = RevealedSums(None)
    sums.remember(revealed())
    with pytest.raises(PrivacyError) as caught:
        sums.require_only(revealed(wanted))
    assert caught.value.peers == peers


def test_other_models_and_other_bases_are_free(tmp_path: Path) -> None:
    sums = RevealedSums(tmp_path)
    sums.remember(revealed())
    sums.remember(revealed(FEWER, model="n"))
    sums.remember(revealed(FEWER, number=2, base="cd" * 32))


def test_a_sum_is_written_down_once_and_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    sums = RevealedSums(tmp_path / "new")
    sums.remember(revealed())
    assert flushed == [tmp_path.name, "new", REVEALED]
    sums.remember(revealed())
    assert len((tmp_path / "new" / REVEALED).read_text().splitlines()) == 1


def test_a_line_that_was_not_finished_was_not_revealed_for(tmp_path: Path) -> None:
    sums = RevealedSums(tmp_path)
    sums.remember(revealed())
    with (tmp_path / REVEALED).open("a") as file:
        file.write(revealed(FEWER, number=2, base="cd" * 32).model_dump_json()[:-9])
    again = RevealedSums(tmp_path)
    again.remember(revealed(ALL, number=2, base="cd" * 32))
    assert len((tmp_path / REVEALED).read_text().splitlines()) == 2
    assert RevealedSums(tmp_path)


@pytest.mark.parametrize("line", ["", "{}", "no JSON", '{"model": "m"}'])
def test_what_is_damaged_is_no_licence(tmp_path: Path, line: str) -> None:
    RevealedSums(tmp_path).remember(revealed())
    with (tmp_path / REVEALED).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ModelError, match="restore it"):
        RevealedSums(tmp_path)


def test_what_cannot_be_written_is_not_revealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = RevealedSums(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        sums.remember(revealed())

"""What changes in a folder of keys counts at the next look, and a folder that cannot be read changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodes import trust_watch
from nodes.key_folder import read_keyring
from nodes.trust_watch import TrustedKeys, watch_trust
from protocol.security.keys import Keyring, PrivateKeys

TODAY = date(2027, 1, 31)
ANNA, BEN, CLEO = (PrivateKeys.make(name) for name in ("anna", "ben", "cleo"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Anna's, who trusts ben."""
    (tmp_path / "anna.key").write_text(ANNA.text())
    (tmp_path / "anna.key").chmod(0o600)
    (tmp_path / "anna.pub").write_text(ANNA.public.text())
    (tmp_path / "trusted").mkdir(0o700)
    (tmp_path / "trusted" / "ben.pub").write_text(BEN.public.text())
    return tmp_path


def test_who_is_added_and_removed_is_found(folder: Path) -> None:
    keys = TrustedKeys(read_keyring(folder / "anna.key"))
    assert set(keys.look(TODAY).trusted) == {"anna", "ben"}
    (folder / "trusted" / "cleo.pub").write_text(CLEO.public.text())
    assert set(keys.look(TODAY).trusted) == {"anna", "ben", "cleo"}
    (folder / "trusted" / "ben.pub").unlink()
    assert set(keys.look(TODAY).trusted) == {"anna", "cleo"}
    (folder / "trusted" / "cleo.pub").write_text(CLEO.public.granted(ANNA, "monitor").text())
    assert keys.look(TODAY).trusted["cleo"].role == "monitor"


def test_a_folder_is_read_once_for_a_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, reads = TrustedKeys(read_keyring(folder / "anna.key")), list[Path]()
    monkeypatch.setattr(trust_watch, "read_keyring", lambda file: reads.append(file) or read_keyring(file))
    for _ in range(5):
        keys.look(TODAY)
    assert len(reads) == 1
    (folder / "trusted" / "ben.pub").write_text(BEN.public.text() + " ")
    for _ in range(5):
        keys.look(TODAY)
    assert len(reads) == 2


@pytest.mark.parametrize("break_it", [
    lambda folder: (folder / "trusted" / "ben.pub").write_text("?"),
    lambda folder: (folder / "trusted").chmod(0o777),
    lambda folder: (folder / "anna.key").unlink(),
    lambda folder: (folder / "anna.key").chmod(0o644),
])  # fmt: skip
def test_a_folder_that_cannot_be_read_changes_nothing_and_is_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], object]
) -> None:
    keys = TrustedKeys(read_keyring(folder / "anna.key"))
    (folder / "trusted" / "cleo.pub").write_text(CLEO.public.text())
    break_it(folder)
    for _ in range(3):
        assert set(keys.look(TODAY).trusted) == {"anna", "ben"}
    assert caplog.text.count("trusted until this is mended") == 1


def test_without_a_folder_only_days_pass(fake_time: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring.of(ANNA, [BEN.public.granted(ANNA, "client", (), TODAY), CLEO.public])
    days, told = iter([TODAY, TODAY, date(2027, 2, 1), date(2027, 2, 1), date(2027, 2, 2)]), list[set[str]]()

    clock = SimpleNamespace(now=lambda _zone: SimpleNamespace(date=lambda: next(days)))
    monkeypatch.setattr(trust_watch, "datetime", clock)

    def changed(before: Keyring, after: Keyring) -> None:
        told.append({*before.trusted} - {*after.trusted})

    async def story() -> None:
        watching = asyncio.create_task(watch_trust(ring, changed))
        await asyncio.sleep(4.5)
        watching.cancel()

    fake_time(story())
    assert told == [{"ben"}]

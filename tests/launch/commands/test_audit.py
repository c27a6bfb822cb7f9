"""`fednet audit` prints a whole trail, and says of a broken one where."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.commands.audit import audit
from launch.errors import ConfigError
from nodes.trail import Trail
from protocol.security.keys import PrivateKeys
from protocol.trail import next_entry

KEYS = PrivateKeys.make("a1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    first = next_entry(None, "a1", "began", {"ledgers": {}}, now=0.0, sign=KEYS.signer.sign)
    order = {"peer": "guest", "what": "rounds \x1b[2J", "count": 1}
    second = next_entry(first, "a1", "order", order, now=1.0, sign=KEYS.signer.sign)
    path = tmp_path / "a1.jsonl"
    path.write_text(f"{first.line()}\n{second.line()}\n")
    (tmp_path / "a1.pub").write_text(KEYS.public.text())
    return path


def test_a_trail_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(file, key=file.with_suffix(".pub"))
    shown = capsys.readouterr().out
    assert "peer guest" in shown
    assert "2 entries, each follows the one before; signed by that key" in " ".join(shown.split())
    assert "\x1b" not in shown


def test_a_broken_trail_is_an_error_with_its_line(file: Path) -> None:
    file.write_text(file.read_text().replace('"count": 1', '"count": 2'))
    with pytest.raises(ConfigError, match="not signed by the key of a1"):
        audit(file, key=file.with_suffix(".pub"))
    lines = file.read_text().splitlines()
    file.write_text(lines[1])
    with pytest.raises(ConfigError, match="line=1"):
        audit(file)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with the trail of a1, which has two ledgers."""
    for name in ("trail", "privacy", "checkpoints/a1-rounds-0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "privacy" / "a1.json").write_text("1")
    (tmp_path / "privacy" / "a10.json").write_text("another site's")
    (tmp_path / "checkpoints" / "a1-rounds-0" / "revealed.jsonl").write_text("r")
    trail = Trail(tmp_path / "trail" / "a1.jsonl", "a1", None, tmp_path / "checkpoints" / "a1-rounds-0")
    site = SimpleNamespace(ledgers=tmp_path / "privacy")
    trail.begin(site)
    (tmp_path / "privacy" / "a1.json").write_text("2")
    trail.end()
    return tmp_path


def test_ledgers_are_as_the_trail_has_them(run: Path) -> None:
    audit(run / "trail" / "a1.jsonl")


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda run: (run / "privacy" / "a1.json").unlink(), r"a1\.json was deleted"),
        (lambda run: shutil.rmtree(run / "privacy"), r"a1\.json was deleted"),
        (lambda run: (run / "privacy" / "a1.json").write_text("1"), r"a1\.json was set back"),
        (lambda run: (run / "privacy" / "a1.json").write_text("3"), r"after the last note"),
        (lambda run: shutil.rmtree(run / "checkpoints"), r"a1-rounds-0/revealed\.jsonl was deleted"),
    ],
    ids=["deleted", "all deleted", "set back", "replaced", "revealed"],
)
def test_a_ledger_that_was_deleted_or_set_back_is_an_error(
    run: Path, change: Callable[[Path], object], remark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run)
    with pytest.raises(ConfigError, match=remark):
        audit(run / "trail" / "a1.jsonl")
    assert "ended" in capsys.readouterr().out


def test_of_a_trail_elsewhere_the_ledgers_have_to_be_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copy(run / "trail" / "a1.jsonl", run / "a1.jsonl"))
    audit(copy)
    assert "name theirs with --ledgers" in " ".join(capsys.readouterr().out.split())
    audit(copy, ledgers=run / "privacy")
    (run / "privacy" / "a1.json").write_text("1")
    with pytest.raises(ConfigError, match="was set back"):
        audit(copy, ledgers=run / "privacy")

"""`fednet audit` prints a whole trail, and says of a broken one where."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.commands.audit import audit
from launch.errors import ConfigError
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

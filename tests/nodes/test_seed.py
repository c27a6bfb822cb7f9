"""The seed's file: whole, bounded, and an address or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.errors import NodeError, PeersMissing
from nodes.seed import announce_seed, find_seed

ADDRESS = "tcp://127.0.0.1:7000"


@pytest.mark.parametrize(("keyed", "endpoint"), [(True, f"driver@{ADDRESS}"), (False, ADDRESS)])
def test_what_is_announced_is_found(tmp_path: Path, keyed: bool, endpoint: str) -> None:
    announce_seed(tmp_path / "rank0.json", "driver", ADDRESS)
    assert find_seed(tmp_path / "rank0.json", 0.0, keyed=keyed) == endpoint


def test_a_seed_that_does_not_come_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PeersMissing, match=r"rank0\.json \(nobody has announced an address there\)"):
        find_seed(tmp_path / "rank0.json", 0.0, keyed=True)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"name": "driver", "address": "tcp://:0"}', '{"name": "../x", "address": "tcp://a:1"}']
)
def test_a_file_that_is_no_announcement_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "rank0.json").write_text(text)
    with pytest.raises(NodeError, match=r"rank0\.json"):
        find_seed(tmp_path / "rank0.json", 0.0, keyed=True)

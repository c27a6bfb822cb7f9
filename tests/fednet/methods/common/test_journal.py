"""What a run remembers."""

from __future__ import annotations

import pytest

from fednet.methods.common.journal import Journal


def test_a_measurement_is_done_once_in_a_folder(tmp_path) -> None:
    count = []

    def measure():
        count.append(1)
        return {"a": (1, 2), "b": {3: 0.1}}

    found = [Journal(tmp_path).once("key", measure) for _ in range(3)]
    assert found == [{"a": [1, 2], "b": {"3": 0.1}}] * 3
    assert len(count) == 1


def test_one_that_fails_is_done_again(tmp_path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ZeroDivisionError):
        journal.once("key", lambda: {"a": 1 / 0})
    assert journal.once("key", lambda: {"a": 1}) == {"a": 1}

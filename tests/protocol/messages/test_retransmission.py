"""Which ranges of numbers can be requested."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocol.messages import RetransmitRequest, RetransmitUnavailable


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 1024), (2**63 - 1, 2**63 - 1)])
def test_ranges(first: int, last: int) -> None:
    assert RetransmitRequest(topic="queries/", incarnation=0, first=first, last=last).last == last
    assert RetransmitUnavailable(topic="queries/", first=first, last=last).first == first


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 1025), (1, 2**63), (-5, -1)])
def test_invalid_ranges(first: int, last: int) -> None:
    with pytest.raises(ValidationError):
        RetransmitRequest(topic="queries/", incarnation=0, first=first, last=last)
    with pytest.raises(ValidationError):
        RetransmitUnavailable(topic="queries/", first=first, last=last)

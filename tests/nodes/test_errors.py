"""The errors of the bus say who is missing and why."""

from __future__ import annotations

from nodes.errors import BlobUnavailable, NodeError, NoQuorum, PeerError, PeersMissing


def test_they_are_one_family() -> None:
    assert issubclass(PeersMissing, PeerError)
    assert issubclass(NoQuorum, PeerError)
    assert issubclass(PeerError, NodeError)


def test_missing_peers_are_named_in_order_with_their_reasons() -> None:
    error = PeersMissing({"b": "never seen", "a": "lost: silent for 3.0 s"}, 12.4)
    assert str(error) == "not ready after 12 s: a (lost: silent for 3.0 s), b (never seen)"
    assert str(PeersMissing({}, 5)) == "not ready after 5 s: nobody answered"


def test_no_quorum_says_who_is_there_and_who_is_not() -> None:
    error = NoQuorum(("a", "b"), 3, {"d": "late", "c": "refused: no"})
    assert str(error) == "2 of 3 needed peers contributed (a, b); missing: c: refused: no, d: late"
    assert (error.have, error.need, error.missing) == (("a", "b"), 3, {"d": "late", "c": "refused: no"})
    assert str(NoQuorum((), 1, {})) == "0 of 1 needed peers contributed (none); missing: nobody else is known"


def test_unobtainable_says_what_came_of_every_holder() -> None:
    error = BlobUnavailable("ab" * 32, {"c": "lacks it", "b": "lost: silent for 3.0 s"})
    assert isinstance(error, PeerError)
    assert str(error) == "nobody gave the data abababababab: b: lost: silent for 3.0 s, c: lacks it"
    assert str(BlobUnavailable("ab" * 32, {})).endswith(": nobody is said to have it")

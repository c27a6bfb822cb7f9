"""The errors of the bus, by what became of a peer.

    NodeError                this node cannot do its work (address in use, unknown method, bad settings)
    +-- KeyFileError         a file or folder of keys cannot be used
    +-- PeerError            another node is late, lost or never came; the run's policy decides what follows
        +-- PeersMissing     expected peers did not become ready in time
        +-- MethodMismatch   the peers run another method than the one that was asked for
        +-- NoQuorum         too few peers are left to go on
        +-- BlobUnavailable  no holder gave the data that was fetched
        +-- ModelsDiffer     a client that is alive does not hold the model that the last round has left

A peer's malformed bytes are `protocol.errors.WireError`; they are dropped and counted and never end a node.
"""

from __future__ import annotations

from pathlib import Path


class NodeError(Exception):
    """This node cannot do its work."""


class KeyFileError(NodeError):
    """A file or folder of keys cannot be used.

    Attributes:
        path: of the file or folder.
        expected: what would have been right; empty where `hint` says it all.
        given: what is there instead; empty where nothing is.
        hint: what to do; may be empty.
    """

    def __init__(self, path: Path, expected: str = "", given: str = "", hint: str = "") -> None:
        self.path, self.expected, self.given, self.hint = path, expected, given, hint
        fault = f"expected {expected}{f', got {given}' if given else ''}." if expected else ""
        super().__init__(f"{path}: " + " ".join(filter(None, (fault, hint))))


class PeerError(NodeError):
    """Another node is late, lost or never came."""


class PeersMissing(PeerError):
    """Expected peers did not become ready in time."""

    def __init__(self, missing: dict[str, str], waited: float) -> None:
        self.missing = missing
        self.waited = waited
        states = ", ".join(f"{name} ({state})" for name, state in sorted(missing.items())) or "nobody answered"
        super().__init__(f"not ready after {waited:.0f} s: {states}")


class MethodMismatch(PeerError):
    """The peers run another method than the one that was asked for."""

    def __init__(self, wanted: str, methods: dict[str, str]) -> None:
        self.wanted = wanted
        self.methods = methods
        kinds = {
            kind: ", ".join(sorted(name for name in methods if methods[name] == kind)) for kind in methods.values()
        }
        there = "; ".join(f"{names} run {kind or 'none that they name'}" for kind, names in sorted(kinds.items()))
        super().__init__(f"this is for a cluster of the method {wanted}, and here {there}")


class NoQuorum(PeerError):
    """Too few peers are left to go on."""

    def __init__(self, have: tuple[str, ...], need: int, missing: dict[str, str]) -> None:
        self.have = have
        self.need = need
        self.missing = missing
        gone = ", ".join(f"{name}: {reason}" for name, reason in sorted(missing.items())) or "nobody else is known"
        super().__init__(
            f"{len(have)} of {need} needed peers contributed ({', '.join(have) or 'none'}); missing: {gone}"
        )


class BlobUnavailable(PeerError):
    """No holder gave the data that was fetched."""

    def __init__(self, key: str, reasons: dict[str, str]) -> None:
        self.key = key
        self.reasons = reasons
        why = ", ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items())) or "nobody is said to have it"
        super().__init__(f"nobody gave the data {key[:12]}: {why}")


class ModelsDiffer(PeerError):
    """A client that is alive does not hold the model that the last round has left.

    Args:
        lacking: the models, by client.
    """

    def __init__(self, lacking: dict[str, tuple[str, ...]]) -> None:
        self.lacking = lacking
        which = "; ".join(f"{name} ({', '.join(models)})" for name, models in sorted(lacking.items()))
        super().__init__(
            f"the rounds are over, and not every site holds their last model: {which}. "
            "These sites are alive and still behind; their logs say why"
        )

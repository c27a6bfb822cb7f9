"""Whether a configuration is feasible with its number of clients: quorums, rules and secure sums. Pure.

A method's settings are looked through for a `Federation`, wherever it keeps one; nothing else of them is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from fednet.federated.config import Federation, Secure
from fednet.privacy.threshold import MIN_PARTIES, default_threshold
from launch.config.document import KeyPath, YamlDocument
from launch.errors import ConfigProblem


def infeasible(
    clients: int, quorums: dict[KeyPath, int], method: BaseModel, document: YamlDocument
) -> list[ConfigProblem]:
    """What would fail at every step, however well the run goes.

    Args:
        clients: how many there are.
        quorums: fewest contributors of a step, by the key that says so.
        method: the method's settings.
        document: where each key came from.
    """
    faults = [
        _fault(document, key, f"at most {clients}, as many as there are clients", quorum)
        for key, quorum in quorums.items()
        if quorum > clients
    ]
    for key, federation in _federations(method, ()):
        faults += _of_federation(clients, key, federation, document)
    return faults


def _of_federation(
    clients: int, key: KeyPath, federation: Federation, document: YamlDocument
) -> Iterator[ConfigProblem]:
    drawn = max(1, round(federation.participation * clients))
    there = f"as many as are drawn of {clients} clients" if drawn < clients else "as many as there are clients"
    if federation.quorum > drawn:
        yield _fault(document, (*key, "quorum"), f"at most {drawn}, {there}", federation.quorum)
    if federation.least > drawn:
        rule = federation.rule
        options = " and ".join(f"{name} {value}" for name, value in rule if name != "kind")
        expected = f"a rule that {drawn} contributions suffice for ({rule.kind}{f' with {options}' if options else ''} "
        expected += f"needs {federation.least})"
        yield _fault(document, (*key, "rule"), expected, rule.kind)
    if federation.secure is not None:
        yield from _of_secure(drawn, there, (*key, "secure"), federation.secure, document)


def _of_secure(drawn: int, there: str, key: KeyPath, secure: Secure, document: YamlDocument) -> Iterator[ConfigProblem]:
    if drawn < MIN_PARTIES:
        expected = f"at least {MIN_PARTIES} contributors, since a sum of fewer shows them ({drawn}, {there})"
        yield _fault(document, key, expected, "a secure sum")
        return
    least, threshold = max(MIN_PARTIES, drawn // 2 + 1), secure.threshold or default_threshold(drawn)
    if threshold > drawn:
        yield _fault(document, (*key, "threshold"), f"at most {drawn}, {there}", threshold)
    if threshold < least:
        expected = f"at least {least}, more than half of {drawn} contributors, or two halves could open an update"
        yield _fault(document, (*key, "threshold"), expected, threshold)


def _federations(part: BaseModel, above: KeyPath) -> Iterator[tuple[KeyPath, Federation]]:
    """Every `Federation` among settings, with its key."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Federation):
            yield (*above, name), value
        elif isinstance(value, BaseModel):
            yield from _federations(value, (*above, name))


def _fault(document: YamlDocument, key: KeyPath, expected: str, given: object) -> ConfigProblem:
    place = document.place(key)
    return ConfigProblem(place.where, expected, repr(given), place.line, ".".join(map(str, key)))

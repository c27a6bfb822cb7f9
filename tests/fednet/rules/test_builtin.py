"""The built-in rules are registered like any other, each under its own name."""

from __future__ import annotations

from importlib.metadata import entry_points

from fednet.federated.config import Krum
from fednet.rules import builtin, registry
from fednet.rules.contract import Rule


def test_every_built_in_rule_is_registered_under_its_name() -> None:
    values = {value.name: value for value in vars(builtin).values() if isinstance(value, Rule)}
    ours = {point.name for point in entry_points(group="fednet.rules") if point.value.startswith("fednet.")}
    assert values.keys() == ours
    assert all(registry.find(name) is value for name, value in values.items())
    assert all(value.summary and (value.scores or value.updates) for value in values.values())


def test_krum_compares_whole_contributions_and_needs_some() -> None:
    rule = builtin.KRUM.updates
    assert rule is not None
    assert rule.compares
    assert [rule.least(Krum(byzantine=b, keep=k)) for b, k in ((0, 1), (1, 1), (1, 4))] == [3, 5, 7]

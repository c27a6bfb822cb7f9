"""Finds rules: by name in the entry-point group `fednet.rules`, or by the path of a module with a `RULE`.

Imports no torch. What a peer names is never imported for it: `known` finds only rules that are installed as entry
points or that this process's own configuration has named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SerializeAsAny, ValidationInfo
from pydantic_core import PydanticCustomError

from fednet.errors import UnknownRule
from fednet.plugins import PluginRegistry
from fednet.rules.contract import Rule, RuleSettings, ScoreRule, UpdateRule

_RULES = PluginRegistry("fednet.rules", "RULE", Rule, UnknownRule)
Side = Literal["scores", "updates"]
OF_A_PEER = {"fednet.rules": "known"}
"""The context of pydantic under which settings may only name rules that are `known`."""


def names(side: Side | None = None) -> tuple[str, ...]:
    """The registered rules in alphabetical order; with a side those that have it, which are imported for it."""
    return tuple(name for name in _RULES.names() if side is None or getattr(find(name), side) is not None)


def find(name: str) -> Rule:
    """The rule of this name.

    Args:
        name: a registered name (`mixture`), or the path of a module that defines `RULE` (`my_package.my_module`).

    Raises:
        UnknownRule: nothing is registered under the name, its module cannot be imported (with the import's own
            message), or it defines no `Rule`.
    """
    return _RULES.find(name)


def known(name: str) -> Rule:
    """The same of a name that a peer has sent.

    Raises:
        UnknownRule: it is not registered, and no configuration of this process has named it.
    """
    return _RULES.known(name)


def score_rule(settings: RuleSettings) -> ScoreRule:
    """The rule for scores that settings name.

    Raises:
        UnknownRule: there is none.
    """
    rule = find(settings.kind).scores
    if rule is None:
        raise UnknownRule(settings.kind, "it combines updates, and no scores", names("scores"))
    return rule


def update_rule(settings: RuleSettings) -> UpdateRule:
    """The rule for updates that settings name.

    Raises:
        UnknownRule: there is none.
    """
    rule = find(settings.kind).updates
    if rule is None:
        raise UnknownRule(settings.kind, "it combines scores, and no updates", names("updates"))
    return rule


def _settings(side: Side, value: Any, info: ValidationInfo) -> RuleSettings:
    """The settings that a configuration gives: a rule's name, or a mapping with its `kind`."""
    given = value.kind if isinstance(value, RuleSettings) else value
    kind = given.get("kind") if isinstance(given, Mapping) else given
    if not isinstance(kind, str):
        raise PydanticCustomError("rule_type", "a rule: its name, or a mapping with its name as `kind`")
    rule = _usable(side, kind, own=not info.context)
    if isinstance(value, rule.settings):
        return value
    fields = {**(given if isinstance(given, Mapping) else {}), "kind": kind}
    if info.mode == "json":
        return rule.settings.model_validate_json(json.dumps(fields), strict=True)
    return rule.settings.model_validate(fields)


def _usable(side: Side, kind: str, *, own: bool) -> ScoreRule | UpdateRule:
    try:
        if not own:
            known(kind)
        settings = RuleSettings(kind=kind)
        return score_rule(settings) if side == "scores" else update_rule(settings)
    except UnknownRule as error:
        if not error.known:
            raise ValueError(str(error)) from error
        expected = ", ".join(map(repr, names(side)))
        message = "one of {expected}, or the path of a module (a.b)"
        raise PydanticCustomError("unknown_rule", message, {"expected": expected}) from error


ScoreRuleSettings = Annotated[SerializeAsAny[RuleSettings], BeforeValidator(partial(_settings, "scores"))]
"""In a configuration: a rule for scores."""
UpdateRuleSettings = Annotated[SerializeAsAny[RuleSettings], BeforeValidator(partial(_settings, "updates"))]
"""In a configuration: a rule for updates."""

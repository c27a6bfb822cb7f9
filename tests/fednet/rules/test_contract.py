"""The settings of a rule are strict, and a rule without settings of its own has but its name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.rules.contract import RuleSettings, UpdateRule


def test_settings_are_strict_and_frozen() -> None:
    with pytest.raises(ValidationError, match="strength"):
        RuleSettings.model_validate({"kind": "mean", "strength": 1})
    settings = RuleSettings(kind="mean")
    assert len({settings, RuleSettings(kind="mean")}) == 1


def test_a_rule_for_updates_is_content_with_one_contribution_and_streams() -> None:
    rule = UpdateRule(lambda _settings, _contributions: lambda blocks: (blocks[0],))
    assert (rule.settings, rule.compares, rule.least(None)) == (RuleSettings, False, 1)

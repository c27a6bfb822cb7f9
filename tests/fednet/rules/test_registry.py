"""Rules are found by entry point or by module path, in configurations and in rounds; a peer makes nobody import one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fednet.diffusion.combination import LabelCounts
from fednet.errors import UnknownRule
from fednet.federated.config import Federation, Krum
from fednet.federated.update_rules import reduce
from fednet.methods.score_inference.config import ArmConfig, ScoreInferenceConfig
from fednet.methods.score_inference.rules import make_rule
from fednet.rules import registry
from fednet.rules.contract import RuleSettings
from fednet.testing import check_rule

SOURCE = """
from fednet.rules.contract import Rule, RuleSettings, ScoreRule, UpdateRule

class Powers(RuleSettings):
    power: float = 0.5

def formula(settings, contributions):
    from fednet.federated.averaging import mean_formula
    weights = {name: weight ** settings.power for name, weight in contributions.weights.items()}
    return mean_formula(contributions.names, weights)

def make(settings, held):
    from dataclasses import replace
    from fednet.methods.score_inference.rules import data_size
    return data_size(settings, replace(held, counts=held.counts.float() ** settings.power))

RULE = Rule("powers", "weights to a power", ScoreRule(make, Powers), UpdateRule(formula, Powers))
"""


@pytest.fixture
def powers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The path of a module with a rule for scores and for updates."""
    package = f"powers_{abs(hash(request.node.name))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "rule.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{package}.rule"


def test_a_module_path_is_a_rule_for_updates(powers: str) -> None:
    federation = Federation.model_validate({"rule": {"kind": powers, "power": 2.0}})
    states = {name: {"w": torch.tensor([value])} for name, value in (("a", 0.0), ("b", 10.0))}
    assert reduce(federation.rule, states, {"a": 1.0, "b": 3.0})["w"].item() == 9.0
    assert Federation.model_validate_json(federation.model_dump_json()) == federation
    assert federation.sharded(3)
    check_rule(powers, power=2.0)


def test_a_module_path_is_a_rule_for_scores(powers: str) -> None:
    arms = ScoreInferenceConfig.model_validate({"arms": {"mine": {"rule": powers}}}).arms
    held = LabelCounts(("a", "b"), torch.tensor([[4], [36]]), None)
    (phase,) = arms["mine"].phases()
    assert make_rule(phase.rule, held).init(3).log_p.shape == (2, 3)
    schedule = ArmConfig.model_validate({"rule": [{"below": 1, "rule": "mean"}, {"below": 0.5, "rule": powers}]})
    assert [phase.rule.kind for phase in schedule.phases()] == ["mean", powers]


def test_a_peer_s_rule_is_not_imported(powers: str) -> None:
    text = f'{{"rule": {{"kind": "{powers}"}}}}'
    with pytest.raises(ValidationError, match="not registered here"):
        Federation.of_peer(text)
    assert powers not in sys.modules
    Federation.model_validate({"rule": powers})
    assert Federation.of_peer(text).rule.kind == powers
    assert Federation.of_peer('{"rule": {"kind": "krum", "keep": 2}}').rule == Krum(keep=2)


def test_a_process_that_receives_a_configuration_knows_its_rules(powers: str) -> None:
    federation = Federation.model_validate({"rule": powers})
    code = (
        "import pickle, sys; federation = pickle.loads(sys.stdin.buffer.read()); "
        "from fednet.federated.config import Federation; Federation.of_peer(federation.model_dump_json())"
    )
    found = Path(sys.modules[powers].__file__ or "").parent.parent
    path = [str(found), *(entry for entry in sys.path if entry)]
    subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(federation), check=True, env={"PYTHONPATH": ":".join(path)}
    )


def test_a_rule_has_the_sides_that_it_has() -> None:
    with pytest.raises(ValidationError, match="one of 'krum', 'mean', 'median', 'trimmed-mean', or the path"):
        Federation.model_validate({"rule": "mixture"})
    with pytest.raises(ValidationError, match=r"one of .*'mixture'"):
        ArmConfig.model_validate({"rule": {"kind": "krum"}})
    with pytest.raises(UnknownRule, match="combines scores, and no updates"):
        registry.update_rule(RuleSettings(kind="mixture"))


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"kind": "krum", "keeep": 2}, "keeep"),
        ({"keep": 2}, "its name, or a mapping with its name as `kind`"),
        (3, "its name, or a mapping"),
        ("no_such_package.rule", "No module named 'no_such_package'"),
        ("os.path", "has no attribute 'RULE'"),
    ],
)
def test_what_is_no_rule_says_what_is_wrong(rule: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Federation.model_validate({"rule": rule})


def test_a_configuration_is_read_without_torch() -> None:
    code = "import sys; from fednet.federated.config import Federation; Federation(rule='krum').least; "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)

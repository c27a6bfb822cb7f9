"""The fuzzer's first inputs, those that once broke a reader among them: each is read, or refused as it should be."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, inputs


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_break_nothing(name: str) -> None:
    valid = [TARGETS[name](data) for data in inputs(name)]
    assert any(valid), "no input is valid: the fuzzer would learn nothing"


def test_the_corpus_has_no_other_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= TARGETS.keys()

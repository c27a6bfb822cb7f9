"""Documents: where everything stands, and overrides."""

from __future__ import annotations

from typing import Any

import pytest

from launch.config.document import parse
from launch.errors import ConfigError

TEXT = """\
name: one
train:
  epochs: 3
  lr: 1e-3
arms:
  - rule: mean
  - {rule: median}
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [(("name",), 1), (("train", "lr"), 4), (("arms", "1", "rule"), 7), (("train", "nothing"), 2), ((), 1)],
)
def test_every_key_knows_its_line(key: Any, line: Any) -> None:
    place = parse(TEXT, "c.yaml").place(key)
    assert (place.where, place.line) == ("c.yaml", line)


@pytest.mark.parametrize(("written", "value"), [("1e-3", 1e-3), ("-2E+4", -2e4), ("1.5", 1.5), ("3", 3), ("1e", "1e")])
def test_numbers_are_those_of_yaml_1_2(written: Any, value: Any) -> None:
    found = parse(f"x: {written}", "c.yaml").values["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=10", ("train", "epochs"), 10),
        ("train.batch=8", ("train", "batch"), 8),
        ("arms.1.rule=mixture", ("arms", 1, "rule"), "mixture"),
        ("train={steps: 5}", ("train",), {"steps": 5}),
        ("new.deep.key=[1, 2]", ("new", "deep", "key"), [1, 2]),
        ("data.root=/a=b", ("data", "root"), "/a=b"),
        ("train.lr=", ("train", "lr"), None),
    ],
)
def test_overrides_replace_values_and_places(override: Any, path: Any, value: Any) -> None:
    document = parse(TEXT, "c.yaml", [override])
    found = document.values
    for step in path:
        found = found[step]
    assert found == value
    place = document.place(tuple(map(str, path)))
    assert (place.where, place.line) == (f"--set {override}", None)
    assert document.place(("name",)).line == 1


def test_the_last_override_counts() -> None:
    assert parse(TEXT, "c.yaml", ["train.epochs=4", "train.epochs=5"]).values["train"] == {"epochs": 5, "lr": 1e-3}


NINES = ", ".join(["*b{0}"] * 9)
BOMB = "b0: &b0 [x, x]\n" + "".join(f"b{level}: &b{level} [{NINES.format(level - 1)}]\n" for level in range(1, 10))


def test_an_own_key_stands_before_a_merged_one() -> None:
    document = parse("d: &d {a: 1, b: 2}\ne:\n  <<: *d\n  a: 3\n", "c.yaml")
    assert document.values["e"] == {"a": 3, "b": 2}
    assert document.place(("e", "a")).line == 4
    assert document.place(("e", "b")).line == 1


def test_a_value_that_python_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="month must be in"):
        parse("a: 2001-99-99", "c.yaml")


def test_a_value_of_an_override_is_bounded_as_well() -> None:
    with pytest.raises(ConfigError, match="more than 100 collections") as caught:
        parse(TEXT, "c.yaml", ["a=" + "[" * 3000])
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "well-formed YAML"),
        ("- a", "a mapping"),
        ("", "a mapping"),
        ("a: 1\nb: {c: 1, c: 2}\na: 3\n", "each key once"),
        ("a: {c: 1, c: 2}", "each key once"),
        ("a: " + "[" * 3000, "more than 100 collections within each other"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 100 collections within each other"),
        ("a: &x [*x]", "the node &x contains itself"),
        ("a: &x {b: {c: *x}}", "the node &x contains itself"),
        (BOMB, "more than 100000 values, aliases followed"),
        ("a: {b: 1}\n<<: {c: 1}\n<<: {d: 1}", "each key once"),
        ("a: !!python/object/apply:os.system [ls]", "well-formed YAML"),
        ("a: !!timestamp x", "no value of the tag 'tag:yaml.org,2002:timestamp'"),
        ("a: !!bool x", "no value of the tag 'tag:yaml.org,2002:bool'"),
        ("? !!int\n: 1", "no value of the tag 'tag:yaml.org,2002:int'"),
        ("a: !!float ''", "no value of the tag 'tag:yaml.org,2002:float'"),
    ],
)
def test_malformed_documents_are_refused(text: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(text, "c.yaml")
    assert all(problem.where == "c.yaml" and problem.line for problem in caught.value.problems)


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', f"%YAML {'1' * 5000}.1\n---\na: 1"])
def test_what_is_no_character_and_no_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="well-formed YAML"):
        parse(text, "c.yaml")
    with pytest.raises(ConfigError, match="a YAML value after the ="):
        parse(TEXT, "c.yaml", [f"name={text}"])


def test_a_key_that_stands_twice_is_named_with_both_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("a: 1\nb: 2\na: 3\n", "c.yaml")
    assert str(caught.value) == "c.yaml:3: a: expected each key once (it stands in line 1 already)."


@pytest.mark.parametrize("override", ["train", "=3", "train..lr=3", "arms.7.rule=mean", "arms.x=1", "a=[1"])
def test_bad_overrides_are_refused(override: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TEXT, "c.yaml", [override])
    assert caught.value.problems[0].where == f"--set {override}"

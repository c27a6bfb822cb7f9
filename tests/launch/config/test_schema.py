"""cluster.yaml: loading, resolving, and every way to get it wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config, load_launchable
from launch.errors import ConfigError

LEAST = "name: tiny\nmethod: score-inference\nnodes: 2\n"


@pytest.fixture
def written(tmp_path: Any) -> Any:
    def write(text: Any) -> Any:
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_file_is_split_between_launcher_and_method(written: Any) -> None:
    loaded = load_config(written(LEAST + "seed: 3\ntrain: {epochs: 7}\n"))
    assert (loaded.cluster.name, loaded.cluster.seed, loaded.method.model_dump()["train"]["epochs"]) == ("tiny", 3, 7)
    assert list(loaded.cluster.entries) == ["a1", "a2"]


def test_overrides_win(written: Any) -> None:
    loaded = load_config(written(LEAST), ["nodes=3", "train.epochs=1", "bus.transport=ipc"])
    assert (
        len(loaded.cluster.entries),
        loaded.method.model_dump()["train"]["epochs"],
        loaded.cluster.bus.transport,
    ) == (3, 1, "ipc")


def test_the_resolved_configuration_resolves_to_itself(written: Any) -> None:
    first = load_config("score-inference", ["nodes={north: {data: {limit: 50}}, south: {device: cpu}}"])
    second = load_config(written(first.dump()))
    assert (second.cluster, second.method) == (first.cluster, first.method)
    assert second.dump() == first.dump()


@pytest.mark.parametrize(
    ("more", "line", "key", "said"),
    [
        ("sed: 4", 4, "sed", "Did you mean seed?"),
        ("partitoin: {kind: iid}", 4, "partitoin", "Did you mean partition?"),
        ("seed: '4'", 4, "seed", "a valid integer"),
        ("seed: -1", 4, "seed", "greater than or equal to 0"),
        ("train:\n  epochs: ten", 5, "train.epochs", "a valid integer"),
        ("bus: {transport: udp}", 4, "bus.transport", "'tcp' or 'ipc'"),
        ("sde: {kind: vq}", 4, "sde.kind", "'vp'"),
        ("arms:\n  mean: {rule: meen}", 5, "arms.mean.rule", "Did you mean mean?"),
        ("samples: {total: 3, per_label: 4}", 4, "samples", "not both"),
    ],
)
def test_a_wrong_key_is_named_with_file_line_and_what_was_expected(
    written: Any, more: Any, line: Any, key: Any, said: Any
) -> None:
    path = written(LEAST + more)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert (problem.where, problem.line, problem.key) == (path, line, key)
    assert said in str(problem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "metod: regression\n",
            "x.yaml:1: method: expected this key, got nothing. The key 'metod' is unknown: did you",
        ),
        ("name: 2024\nmethod: regression\n", "x.yaml:1: name: expected a valid string, got 2024. YAML reads it as"),
        ("name: a/b\nmethod: regression\n", "x.yaml:1: name: Expected a name without '/': no separators of paths"),
        (
            "name: a\nmethod: regression\nnodes:\n  a1:\n",
            "x.yaml:4: nodes.a1: expected a mapping of keys to values, got nothing. Write {} where",
        ),
        ("", "x.yaml:1: expected a mapping of keys to values, got nothing."),
        ("- a\n", "x.yaml:1: expected a mapping of keys to values, got a list."),
    ],
)
def test_a_first_file_with_a_mistake_is_told_what_to_write(tmp_path: Any, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "x.yaml")
    assert f"{tmp_path}/{said}" in str(caught.value)


def test_every_pattern_of_the_schema_is_told_in_words() -> None:
    for nodes in ("{A: {}}", "{a: {listen: x}}", "{a: {fingerprint: x}}", "{a: {model: {kind: python, object: x}}}"):
        with pytest.raises(ConfigError) as caught:
            load_config("score-inference", [f"nodes={nodes}"])
        assert "matches ^" not in str(caught.value)


def test_a_site_is_called_as_it_is_written(written: Any) -> None:
    """Norway's is no boolean, and 010 is not 8."""
    loaded = load_config(written("name: x\nmethod: regression\nnodes: {no: {}, 010: {}, 1e3: {}, 2024-01-01: {}}\n"))
    assert list(loaded.cluster.entries) == ["no", "010", "1e3", "2024-01-01"]


def test_a_cluster_of_scripts_is_not_launched(written: Any) -> None:
    path = written("name: x\nmethod: external-training\nnodes: 3\n")
    assert load_config(path).cluster.method == "external-training"
    with pytest.raises(ConfigError, match=r"cluster\.yaml:2: method: No launcher starts .* with fednet\.join"):
        load_launchable(path)
    assert load_launchable("regression").cluster.method == "regression"


def test_a_folder_is_no_configuration(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a file, got a folder\.$"):
        load_config(tmp_path)
    (tmp_path / "cluster.yaml").touch()
    with pytest.raises(ConfigError, match=r"a folder\. Give the file in it: .*cluster\.yaml"):
        load_config(tmp_path)


def test_an_unknown_section_of_an_override_is_the_overrides_fault() -> None:
    with pytest.raises(ConfigError, match=r"^--set foo\.bar=1: foo: expected one of the keys"):
        load_config("regression", ["foo.bar=1"])


def test_all_faults_are_listed_in_the_order_of_the_file(written: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written("name: No/Name\nmethod: score-inference\ntrain: {epochs: x}\nbus: {wire: y}\nmodel: 3\n"))
    assert [problem.key for problem in caught.value.problems] == ["name", "train.epochs", "bus.wire", "model"]


def test_a_fault_of_an_override_names_the_override() -> None:
    with pytest.raises(ConfigError, match=r"^--set train.epochs=x: train.epochs: expected a valid integer, got 'x'\.$"):
        load_config("control", ["train.epochs=x"])


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("{driver: {}}", "uses itself"),
        ("{monitor: {}}", "uses itself"),
        ("{}", "at least one node"),
        ("0", "greater than or equal to 1"),
        ("{A1: {}}", r"nodes\.A1: expected a name of 1 to 32"),
        ("{a1: {listen: 'udp://x'}}", r"nodes\.a1\.listen: expected an address, tcp://HOST:PORT"),
        ("{a1: {data: {nam: mnist}}}", r"nodes\.a1\.data\.nam.*Did you mean name\?"),
        ("{a1: {data: {name: mnist}}}", r"nodes\.a1\.data: .*root"),
    ],
)
def test_nodes_are_checked(nodes: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("control", [f"nodes={nodes}"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["bus.policy.quorum=3"], r"bus\.policy\.quorum: expected at most 2, as many as there are clients, got 3\."),
        (["bus.rounds.quorum=3"], r"bus\.rounds\.quorum: expected at most 2"),
        (["federation.quorum=3"], r"federation\.quorum: expected at most 2, as many as there are clients"),
        (["federation={quorum: 2, participation: 0.5}"], r"federation\.quorum: expected at most 1, .* drawn of 2"),
        (["nodes=4", "federation.rule={kind: krum}"], r"federation\.rule: expected .* 4 contributions .*needs 5"),
        (["nodes=5", "federation.rule={kind: krum, keep: 3}"], r"byzantine 1 and keep 3 needs 6"),
        (["federation.secure={}"], r"federation\.secure: expected at least 3 contributors.*2, as many as there are"),
        (["nodes=5", "federation={secure: {}, participation: 0.4}"], r"expected at least 3 .*2, .*drawn of 5 clients"),
        (["nodes=3", "federation.secure={threshold: 4}"], r"secure\.threshold: expected at most 3, .* got 4\."),
        (
            ["nodes=6", "federation.secure={threshold: 3}"],
            r"secure\.threshold: expected at least 4, more than half of 6",
        ),
    ],
)
def test_what_as_many_clients_can_never_reach_is_refused(given: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("novelty", ["nodes=2", *given])


def test_what_they_just_reach_is_not() -> None:
    settings = ["nodes=5", "bus.policy.quorum=5", "bus.rounds.quorum=5", "federation.rule={kind: krum, keep: 2}"]
    assert load_config("novelty", [*settings, "federation.quorum=5"]).cluster.bus.rounds.quorum == 5
    assert load_config("novelty", ["nodes=3", "federation.secure={threshold: 3}"])
    assert load_config("novelty", ["nodes=10", "federation={secure: {threshold: 3}, participation: 0.5}"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{secure: {}, rule: {kind: krum}}", "rule krum compares single contributions, and a secure sum reveals none"),
        ("{secure: {}, rule: {kind: median}}", "rule median compares single contributions"),
        ("{secure: {}, rule: {kind: trimmed-mean}}", "rule trimmed-mean compares single contributions"),
        ("{secure: {}, buffer: {size: 3}}", "masks cancel only within one round: remove `secure` or `buffer`"),
        ("{secure: {threshold: 2}}", "greater than or equal to 3"),
        ("{quorum: 3, buffer: {size: 2}}", "`buffer.size` = 2 contributions, but the quorum is 3"),
    ],
)
@pytest.mark.parametrize("example", ["novelty", "private-gan", "regression"])
def test_what_no_secure_or_buffered_round_can_do_is_refused_with_the_reason(
    example: Any, given: Any, said: Any
) -> None:
    with pytest.raises(ConfigError, match=rf"(?i)federation.*{re.escape(said)}"):
        load_config(example, ["nodes=7", f"federation={given}"])


def test_rounds_have_more_patience_whatever_else_is_said_of_them() -> None:
    bus = load_config("novelty", ["bus.rounds={kind: survivors}"]).cluster.bus
    assert (bus.rounds.hard_limit, bus.rounds.cold_start) == (1800.0, 600.0)
    assert load_config("novelty", ["bus.rounds.hard_limit=5"]).cluster.bus.rounds.hard_limit == 5.0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere/cluster.yaml", "nowhere/cluster.yaml: expected an existing file"),
        ("cluster.yml", "an existing file"),
        ("contrl", "Did you mean control?"),
    ],
)
def test_a_source_that_is_not_there(source: Any, said: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert said in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(str(path))


@pytest.mark.parametrize(("method", "said"), [("score-infrence", "Did you mean score-inference?"), ("7", "expected")])
def test_an_unknown_method(written: Any, method: Any, said: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(f"name: x\nmethod: {method}\n"))
    assert said in str(caught.value)
    assert caught.value.problems[0].line == 2


@pytest.mark.parametrize(
    ("root", "override", "expected"),
    [
        ("pictures", None, "site/pictures"),
        ("../pictures", None, "site/../pictures"),
        ("unused", "mine", "mine"),
        ("/data", None, "/data"),
    ],
)
def test_a_relative_root_is_relative_to_the_file_that_says_it(
    root: str, override: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    text = f"name: own\nmethod: score-inference\ndata: {{name: folder, root: {root}}}\n"
    text += "nodes: {a1: {data: {root: here}}, a2: {}}\nmeasure: {data: {name: folder, root: held-out}}\n"
    (tmp_path / "site" / "cluster.yaml").write_text(text)
    loaded = load_config("site/cluster.yaml", [f"data.root={override}"] if override else [])
    assert str(loaded.method.data.root) == str(tmp_path / expected)  # type: ignore[attr-defined]
    assert loaded.cluster.entries["a1"].data == {"root": str(tmp_path / "site" / "here")}
    assert str(loaded.method.measure.data.root) == str(tmp_path / "site" / "held-out")  # type: ignore[attr-defined]
    again = tmp_path / "elsewhere.yaml"
    again.write_text(loaded.dump())
    assert load_config(again).method == loaded.method

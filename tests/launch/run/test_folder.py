"""The run's folder: whose it is, and what of an earlier run stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.errors import ConfigError
from launch.run.folder import differences, guest_folder, joined_folder, locked_folder


def test_an_earlier_runs_results_go_and_its_checkpoints_stay(tmp_path: Any) -> None:
    folder = tmp_path / "runs" / "x"
    with locked_folder(folder, "name: x\n"):
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "a1.safetensors").touch()
        (folder / "samples" / "mean").mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    with locked_folder(folder, "name: y\n"):
        assert sorted(path.name for path in folder.iterdir()) == [
            ".launch.lock", "checkpoints", "config.yaml", "data.sha256",
        ]  # fmt: skip
        assert (folder / "checkpoints" / "a1.safetensors").exists()
        assert (folder / "config.yaml").read_text() == "name: y\n"


@pytest.mark.parametrize(
    ("then", "stay"),
    [
        ("name: x\nseed: 1\n", True),
        ("name: x\nseed: 1\nbus: {policy: {hard_limit: 9}}\ndevices: {threads: 2}\n", True),
        ("name: x\nseed: 2\n", False),
        ("name: x\n", False),
    ],
)
def test_a_journal_and_the_closed_rounds_stay_or_go_together(tmp_path: Any, then: Any, stay: Any) -> None:
    folder = tmp_path / "x"
    remembered = [
        folder / "journal.jsonl",
        folder / "checkpoints" / "a1-rounds-0123" / "rounds.jsonl",
        folder / "sites" / "a1" / "words.safetensors",
    ]
    with locked_folder(folder, "name: x\nseed: 1\nbus: {transport: ipc}\n"):
        for path in remembered:
            path.parent.mkdir(parents=True, exist_ok=True)
        for path in (*remembered, folder / "checkpoints" / "a1-own.safetensors"):
            path.touch()
    with locked_folder(folder, then):
        assert [path.exists() for path in remembered] == [stay, stay, stay]
        assert (folder / "checkpoints" / "a1-own.safetensors").exists()


def test_a_run_is_known_by_its_configuration_and_its_data(tmp_path: Path) -> None:
    folder, config = tmp_path / "x", "name: x\nseed: 1\n"
    assert differences(folder, config, "one") == ""
    with locked_folder(folder, config, data="one"):
        (folder / "journal.jsonl").write_text("{}")
    assert differences(folder, config, "one") == ""
    assert differences(folder, "name: x\nseed: 2\n", "one") == "other values of seed"
    assert differences(folder, config, "two") == "other data: files have been added, removed or changed"
    with pytest.raises(ConfigError, match="other data"), locked_folder(folder, config, data="two", resume=True):
        pass
    assert (folder / "journal.jsonl").exists()
    with locked_folder(folder, config, data="two"):
        assert not (folder / "journal.jsonl").exists(), "what was measured on other data is stale"


def test_names_of_one_slug_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "nord", "name: Nord\n") as folder:
        pass
    with pytest.raises(ConfigError, match=r"the run 'Nord', which has this folder, got 'nord'\. Choose another"):
        differences(folder, "name: nord\n", "")
    with pytest.raises(ConfigError, match="which has this folder"):
        guest_folder(folder, "name: NORD\n", "")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Any) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "precious").touch()
    with pytest.raises(ConfigError, match="nothing here is overwritten"), locked_folder(tmp_path, ""):
        pass
    assert (tmp_path / "samples" / "precious").exists()
    assert not (tmp_path / "config.yaml").exists()


def test_one_launch_at_a_time(tmp_path: Any) -> None:
    folder = tmp_path / "x"
    with locked_folder(folder, "a"):
        (folder / "metrics.json").touch()
        with pytest.raises(ConfigError, match="no other launch"), locked_folder(folder, "b"):
            pass
        assert (folder / "metrics.json").exists()
    with locked_folder(folder, "b"):
        assert (folder / "config.yaml").read_text() == "b"


def test_what_a_link_points_to_is_not_removed(tmp_path: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = tmp_path / "x"
    with locked_folder(folder, ""):
        (folder / "samples").symlink_to(outside)
    with locked_folder(folder, "another"):
        assert not (folder / "samples").exists()
    assert (outside / "precious").exists()


def test_a_place_that_cannot_be_written(tmp_path: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a folder that can be written"), locked_folder(tmp_path / "file" / "x", ""):
        pass


def test_nodes_by_hand_share_a_folder(tmp_path: Any) -> None:
    first = joined_folder(tmp_path / "x", "a")
    (first / "metrics.json").touch()
    second = joined_folder(tmp_path / "x", "b")
    assert first == second
    assert (second / "metrics.json").exists()
    assert (second / "config.yaml").read_text() == "a"


def test_a_guest_takes_over_what_a_guest_like_it_has_left(tmp_path: Path) -> None:
    folder = joined_folder(tmp_path / "x", "seed: 1\n")
    (folder / "checkpoints" / "a1-rounds-0123").mkdir(parents=True)
    assert guest_folder(folder, "seed: 1\n", "one") == (folder, "")
    (folder / "journal.jsonl").touch()
    assert guest_folder(folder, "seed: 1\n", "one")[1] == ""
    assert (folder / "journal.jsonl").exists()
    assert guest_folder(folder, "seed: 1\n", "two")[1].startswith("other data")
    assert not (folder / "journal.jsonl").exists()
    (folder / "journal.jsonl").touch()
    assert guest_folder(folder, "seed: 2\n", "two")[1] == "other values of seed"
    assert not (folder / "journal.jsonl").exists()
    assert (folder / "checkpoints" / "a1-rounds-0123").exists(), "the clients beside it go on"


RUN = "name: x\nseed: 1\nbus: {transport: ipc}\n"


def test_resuming_takes_over_what_the_run_remembers(tmp_path: Any) -> None:
    folder = tmp_path / "x"
    with locked_folder(folder, RUN):
        (folder / "samples").mkdir()
        for name in ("journal.jsonl", "samples/round-0001.png", "metrics.json"):
            (folder / name).touch()
    with locked_folder(folder, RUN.replace("ipc", "tcp"), resume=True):
        assert (folder / "journal.jsonl").exists()
        assert (folder / "samples" / "round-0001.png").exists()
        assert not (folder / "metrics.json").exists()


def test_resuming_never_begins_anew(tmp_path: Any) -> None:
    folder = tmp_path / "x"
    with (
        pytest.raises(ConfigError, match=r"run that was started.*without --resume"),
        locked_folder(folder, RUN, resume=True),
    ):
        pass
    assert not folder.exists()
    with locked_folder(folder, RUN):
        (folder / "journal.jsonl").touch()
    other = RUN.replace("seed: 1", "seed: 2") + "rounds: 3\n"
    with pytest.raises(ConfigError, match="other values of rounds, seed"), locked_folder(folder, other, resume=True):
        pass
    assert (folder / "config.yaml").read_text() == RUN
    assert (folder / "journal.jsonl").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_configuration_that_may_not_be_read_is_said_with_its_path(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, resume: Any
) -> None:
    folder = tmp_path / "x"
    with locked_folder(folder, "name: x\n"):
        pass

    def refused(path: Path, *_: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    said = rf"{folder / 'config.yaml'}: expected .*, got Permission denied"
    with pytest.raises(ConfigError, match=said), locked_folder(folder, "name: x\n", resume=resume):
        pass

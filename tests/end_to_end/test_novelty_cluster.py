"""A cluster that has trained together, and what guests ask of it, one command after the other."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from markupsafe import escape
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.timeout(300)


def rows(said: str) -> dict[str, list[str]]:
    """The cells of every line of a table by the first one."""
    return {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}


@dataclass
class Visited:
    """A novelty cluster that went on serving, what visitors asked of it in order, and the code of Ctrl-C."""

    launched: Any
    commands: dict[str, Any]
    code: int

    def rows(self, command: str) -> dict[str, list[str]]:
        """What a command printed, as rows."""
        return rows(self.commands[command].out)


@pytest.fixture(scope="module")
def visited(terminal: Any) -> Visited:
    launched, address = terminal.serve("visited")
    picture = (8 * torch.arange(64).view(8, 8) % 255).to(torch.uint8).numpy()
    Image.fromarray(picture).save(terminal.folder / "stripes.png")
    (terminal.folder / "belonging" / "any").mkdir(parents=True)
    for index in range(6):
        Image.fromarray(picture // 2 + 20 * index).save(terminal.folder / "belonging" / "any" / f"{index}.png")
    asked = {
        "sample": ("sample", "--method", "score-inference", "-o", "none.png"),
        "train": ("novelty", "train", "--labels", "0-2", "--node", "a1", "--epochs", "3"),
        "apart": ("novelty", "validate", "--labels", "0-4"),
        "get": ("novelty", "model", "get", "a1.safetensors", "--node", "a1"),
        "set": ("novelty", "model", "set", "a1.safetensors"),
        "equal": ("novelty", "validate", "--labels", "0-4", "--node", "a2"),
        "get again": ("novelty", "model", "get", "a2.safetensors", "--node", "a2"),
        "rounds": ("novelty", "train", "--labels", "a1=0-3", "--labels", "a2=0-2,4", "--rounds", "2", "--mu", ".001"),
        "average": ("novelty", "average"),
        "detector": ("novelty", "model", "get", "detector.safetensors", "--model", "detector"),
        "detector back": ("novelty", "model", "set", "detector.safetensors", "--model", "detector"),
        "calibrate": ("novelty", "calibrate", "--model", "detector", "--labels", "0-4", "--false-alarms", "0.2"),
        "infer before": ("novelty", "infer", "stripes.png"),
        "calibrate jointly": ("novelty", "calibrate", "--images", "belonging", "--false-alarms", "0.2"),
        "infer": ("novelty", "infer", "stripes.png", "-o", "stripes-anew.png"),
        "infer, uncertain": ("novelty", "infer", "stripes.png", "--uncertainty", "--passes", "5"),
    }
    commands = {name: terminal.call(*arguments, "--join", address) for name, arguments in asked.items()}
    return Visited(launched, commands, launched.interrupt())


class TestTrainingTogether:
    """What a run of the method novelty leaves, and what a visitor can ask of its cluster."""

    def test_the_report_and_the_terminal_show_the_sections_of_the_summary(self, visited: Visited) -> None:
        summary = json.loads((visited.launched.run / "summary.json").read_text())
        page = (visited.launched.run / "report.html").read_text()
        for section in summary["sections"]:
            assert f"<h2>{escape(section['title'])}</h2>" in page
            if section["table"]:
                assert section["title"] in visited.launched.out
        assert {name: account["steps"] for name, account in summary["accounts"].items()} == {
            "classifier": 2,
            "detector": 1,
        }
        for account in summary["accounts"].values():
            assert {name: tally["contributed"] for name, tally in account["nodes"].items()} == dict.fromkeys(
                ("a1", "a2"), account["steps"]
            )

    def test_the_rounds_were_told_while_they_were_held(self, visited: Visited) -> None:
        told = [event.data for event in visited.launched.happened("progress", "driver")]
        rounds = [data for data in told if data["phase"] == "classifier rounds"]
        assert rounds
        assert {data["note"] for data in rounds if data["values"]["contributed"] == 2} == {"a1 a2"}
        assert visited.launched.works_on("training classifier")

    def test_a_visitor_for_another_method_is_refused_and_the_cluster_lives_on(self, visited: Visited) -> None:
        refused = visited.commands["sample"]
        assert refused.code == 3
        assert refused.err == (
            "fednet: this is for a cluster of the method score-inference, and here a1, a2 run novelty\n"
        )
        assert not (visited.launched.folder / "none.png").exists()

    def test_everything_else_is_done(self, visited: Visited) -> None:
        failed = {name: command.err for name, command in visited.commands.items() if command.code}
        assert list(failed) == ["sample"]
        assert {command.err for name, command in visited.commands.items() if name != "sample"} == {""}

    def test_only_the_site_that_was_asked_has_trained(self, visited: Visited) -> None:
        assert set(visited.rows("train")) & {"a1", "a2"} == {"a1"}
        apart = visited.rows("apart")
        assert apart["a1"][-1] != apart["a2"][-1]
        assert apart["a1"][-1] in " ".join(visited.rows("train")["a1"])

    def test_a_model_goes_out_and_in_byte_for_byte(self, visited: Visited) -> None:
        folder = visited.launched.folder
        assert (folder / "a1.safetensors").read_bytes() == (folder / "a2.safetensors").read_bytes()
        assert set(load_file(folder / "a1.safetensors")) == set(load_file(folder / "a2.safetensors"))
        assert visited.rows("equal")["a2"][-1] == visited.rows("apart")["a1"][-1]

    def test_rounds_name_their_contributors_and_what_they_left(self, visited: Visited) -> None:
        out = visited.commands["rounds"].out
        assert out.count("a1:") == out.count("a2:") == 2
        assert len(set(visited.rows("rounds")["model"])) == 2
        assert "drift" in out

    def test_a_picture_is_inferred_and_shown(self, visited: Visited) -> None:
        said = visited.commands["infer"].out
        for wanted in ("prediction", "confidence", "is_ood", "score", "threshold", "together"):
            assert wanted in said
        with Image.open(visited.launched.folder / "stripes-anew.png") as picture:
            assert picture.size[0] > picture.size[1]
        assert "deviation" not in said
        assert "deviation" in visited.commands["infer, uncertain"].out

    def test_images_of_a_folder_set_the_joint_threshold_which_then_decides(self, visited: Visited) -> None:
        joint = [re.search(r"above (\S+), their joint threshold", said) for said in self._inferred(visited)]
        said = visited.commands["calibrate jointly"].out
        told = re.fullmatch(r"joint threshold (\S+), in thresholds of the sites", said.strip())
        assert told is not None
        before, after = (float(found[1]) if found else None for found in joint)
        assert before != after == pytest.approx(float(told[1]), rel=0.01)

    @staticmethod
    def _inferred(visited: Visited) -> list[str]:
        """What was printed before and after the joint threshold was set."""
        return [" ".join(visited.commands[name].out.split()) for name in ("infer before", "infer")]

    def test_it_ends_well(self, visited: Visited) -> None:
        assert visited.code == 0
        assert visited.launched.err == ""
        visited.launched.leaves_nobody()

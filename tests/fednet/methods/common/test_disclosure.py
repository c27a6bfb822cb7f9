"""Everything that leaves a site is declared and documented, and what reads private data at a peer's wish is off."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Question, SiteContext
from fednet.errors import MethodError
from fednet.methods import registry
from fednet.methods.common.disclosure import COMMON, EXPOSURES, disclosure_table
from fednet.methods.common.site import MethodSite
from fednet.methods.contract import Method
from launch.commands.init import blank_files

PAGE = Path(__file__).parents[4] / "docs" / "what-leaves-a-site.md"

CLAIMS = ("cmtii", "fedbagan", "novelty", "private_gan", "score_inference")
"""The methods whose README says what does not leave a site."""


@pytest.fixture(params=registry.names())
def method(request: pytest.FixtureRequest) -> Method:
    return registry.find(request.param)


@pytest.fixture
def blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Method:
    """The method that `fednet init --blank` writes."""
    for path, text in blank_files():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_method", raising=False)
    return registry.find("my_method.method")


def made(method: Method, folder: Path) -> Any:
    return method.site(method.config(), SiteContext("a1", 0, 3, 0, "cpu", folder), {})


def test_every_question_is_declared_and_every_declared_one_is_answered(method: Method, tmp_path: Path) -> None:
    site = made(method, tmp_path)
    if isinstance(site, MethodSite):
        assert set(site.handlers()) == method.questions
        assert site.disclosures is method.disclosures
    else:
        assert not method.questions
        with pytest.raises(MethodError, match="answers no questions"):
            site.answer(Question("any", {}))


def test_the_blank_method_declares_its_question(blank: Method, tmp_path: Path) -> None:
    site = made(blank, tmp_path)
    assert blank.questions == {"predict"}
    assert site.answer(Question("predict", {"x": torch.zeros(1, 2)}))["y"].shape == (1, 1)
    assert {one.channel for one in blank.disclosures} == {"capabilities", "round", "question"}


def test_what_is_declared_once_stands_once(method: Method) -> None:
    names = [(one.channel, one.name) for one in method.disclosures]
    assert len(set(names)) == len(names)
    assert {one.exposure for one in method.disclosures} <= set(EXPOSURES)


def test_a_site_permits_nothing_by_default(method: Method, tmp_path: Path) -> None:
    for one in method.disclosures:
        if one.exposure == "private":
            section, key = one.permission.split(".")
            assert section == "disclose"
            assert getattr(method.config().disclose, key) is None  # type: ignore[attr-defined]
            site = made(method, tmp_path)
            with pytest.raises(MethodError, match=f"its owner may set {one.permission}"):
                site.disclose(one.name, 1000)


def test_a_permission_has_a_floor_and_a_number_of_times(method: Method, tmp_path: Path) -> None:
    for one in method.disclosures:
        if one.exposure == "private":
            key = one.permission.removeprefix("disclose.")
            config = method.config.model_validate({"disclose": {key: {"times": 2, "pictures": 30}}})
            folder = tmp_path / one.name
            site: Any = method.site(config, SiteContext("a1", 0, 3, 0, "cpu", folder), {})
            with pytest.raises(MethodError, match="from 30 pictures or more"):
                site.disclose(one.name, 29)
            for _ in range(2):
                site.disclose(one.name, 30)
            again: Any = method.site(config, SiteContext("a1", 0, 3, 0, "cpu", folder), {})
            with pytest.raises(MethodError, match="was answered 2 times, and 2 are permitted"):
                again.disclose(one.name, 30)
            assert again.disclosed() == (one.permission,)


def test_the_page_has_the_table_of_every_method(method: Method) -> None:
    assert f"## {method.name}\n\n{disclosure_table(method.disclosures)}\n" in PAGE.read_text()


def test_the_page_has_what_leaves_every_site() -> None:
    page = PAGE.read_text()
    assert disclosure_table(COMMON) in page
    assert all(f"| {name} | {means} |" in page for name, means in EXPOSURES.items())
    named = {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")}
    assert named == {"Every method", *registry.names()}


@pytest.mark.parametrize("name", ["README.md", *(f"fednet/methods/{name}/README.md" for name in CLAIMS)])
def test_what_claims_a_protection_links_to_what_it_is_worth(name: str) -> None:
    page = PAGE.parents[1] / name
    (link,) = set(re.findall(r"\[SECURITY\.md\]\(([^)]*)\)", page.read_text()))
    assert (page.parent / link).resolve() == PAGE.parents[1] / "SECURITY.md"

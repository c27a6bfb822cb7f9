"""The command `fednet init`: writes an example's cluster.yaml, or a method package of one's own, to start from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from launch.config.examples import example_texts
from launch.errors import ConfigError, ConfigProblem, did_you_mean
from launch.output import open_console

TEMPLATES = "launch.templates"
SUFFIX = ".template"
CONFIG = "cluster.yaml"
STARTING_POINT = r"^# `fednet init` starts from this example\.$"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    *,
    method: Annotated[str | None, typer.Option(help="The method of the example.")] = None,
    blank: Annotated[bool, typer.Option("--blank", help="A method package of your own, with its test.")] = False,
) -> None:
    """Writes a commented cluster.yaml to start from, or with --blank a method package of your own."""
    if blank and method:
        raise ConfigError(ConfigProblem("--blank", "either --method or --blank", "both"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(ConfigProblem(str(folder), "a folder that is new or empty"))
    files = dict(blank_files()) if blank else {CONFIG: example_of(method)}
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    console = open_console()
    console.print(f"wrote {', '.join(files)} in {folder}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: fednet launch {folder / CONFIG}", markup=False, highlight=False, soft_wrap=True)


def example_of(method: str | None) -> str:
    """The first example of a method, with the settings that every cluster has as comments.

    Without a method it is the example that says that it is the one to start from.

    Raises:
        ConfigError: the method is not registered, or no example shows it.
    """
    wanted = STARTING_POINT if method is None else rf"^method: {re.escape(method)}\s*(#.*)?$"
    declares = re.compile(wanted, re.MULTILINE)
    texts = {name: text for name, text in example_texts().items() if declares.search(text)}
    if not texts:
        from fednet.methods import registry  # noqa: PLC0415 - imports pydantic, which the other commands need not wait for

        shown = "\n".join(example_texts().values())
        known = [name for name in registry.names() if re.search(rf"^method: {re.escape(name)}\b", shown, re.MULTILINE)]
        if method in registry.names() and (scripts := registry.find(method or "").scripts):
            hint = f"The sites of {method} are scripts of your own, with {scripts}."
            raise ConfigError(ConfigProblem("--method", hint=hint))
        expected = f"a method that an example shows ({', '.join(known)})"
        raise ConfigError(ConfigProblem("--method", expected, repr(method), hint=did_you_mean(method or "", known)))
    text = texts.get(method or "") or next(iter(texts.values()))
    return text + template("settings.yaml")


def template(name: str) -> str:
    """The text of a template."""
    return (resources.files(TEMPLATES) / name).read_text("utf-8")


def blank_files() -> Iterator[tuple[str, str]]:
    """The files of a method package by their path, in alphabetical order."""

    def below(entry: Traversable, path: str) -> Iterator[tuple[str, str]]:
        for child in sorted(entry.iterdir(), key=lambda each: each.name):
            if child.is_dir():
                yield from below(child, f"{path}{child.name}/")
            elif child.name.endswith((SUFFIX, ".yaml")):
                yield path + child.name.removesuffix(SUFFIX), child.read_text("utf-8")

    yield from below(resources.files(TEMPLATES) / "blank", "")

"""The commands of those who visit a live cluster: they read arguments and call what asks. Thin on purpose.

Nothing that is imported here imports torch, see `launch.cli`, which has these commands beside its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from launch.commands import novelty
from launch.commands.node import EndpointOptions
from launch.commands.sample import sample_checkpoint, sample_cluster
from launch.commands.visit import parse_label_list as numbers
from launch.errors import ConfigError, ConfigProblem

JoinOption = Annotated[
    list[str],
    typer.Option("--join", metavar="ADDRESS", help="A client of a cluster that is up; with keys NAME@ADDRESS."),
]
ListenOption = Annotated[str, typer.Option(help="The address this guest binds.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="This guest's private file, made by `fednet keys new`.")
]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Allow addresses beyond loopback, without keys.")]
LabelsOption = Annotated[str | None, typer.Option("--labels", help="Which labels, e.g. 0-9 or 1,3,7; all without.")]
NodesOption = Annotated[
    list[str] | None, typer.Option("--node", metavar="NAME", help="Only this site; may be repeated.")
]
SharedModelOption = Annotated[Literal["classifier", "detector"], typer.Option(help="Which model.")]

RuleOption = Literal["mean", "data-size", "label-count", "mixture", "consensus", "median"]
SamplerOption = Literal["ode", "euler-maruyama", "predictor-corrector"]

ANYWHERE = "tcp://127.0.0.1:0"

console = Console()
model = typer.Typer(help="Gets the model of a site into a file, or gives one from a file to all.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the visitors' commands to a command line."""
    for command in (sample, infer, train, validate, calibrate, average):
        app.command()(command)
    app.add_typer(model, name="model")


def sample(
    *,
    join: Annotated[
        list[str] | None, typer.Option("--join", metavar="ADDRESS", help="A client of a cluster that is up.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Instead: a generator that a run has left.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Which labels, e.g. 0-9 or 1,3,7; all, or none, without.")] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many of each label, or in all without labels.")] = 10,
    rule: Annotated[
        RuleOption | None, typer.Option(help="How scores are combined (score-inference; mixture without).")
    ] = None,
    sampler: Annotated[
        SamplerOption | None,
        typer.Option(help="How noise becomes a picture (score-inference; euler-maruyama without)."),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Classifier-free guidance (score-inference; 1, for none, without).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the noise.")] = 0,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .png for one grid, or a folder for a file each.")
    ] = Path("grid.png"),
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Asks a cluster that is up for samples, or draws them from a checkpoint (score-inference, fedbagan)."""
    if (join is None) == (checkpoint is None):
        given = "neither" if join is None else "both"
        raise ConfigError(ConfigProblem("fednet sample", "either --join ADDRESS or --checkpoint FILE", given))
    wish = {
        "labels": None if labels is None else numbers(labels),
        "count": count,
        "rule": rule,
        "sampler": sampler,
        "guidance": guidance,
        "seed": seed,
    }
    if checkpoint is not None:
        sample_checkpoint(checkpoint, output, console, **wish)
    else:
        sample_cluster(_endpoint_options(join or [], listen, key, insecure), output, console, **wish)


def infer(
    *,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture of the size that the sites know.")],
    join: JoinOption,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="With dropout, and how far it deviates.")] = False,
    passes: Annotated[int, typer.Option(min=1, help="Of dropout.")] = 100,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write original, masked, reconstructions and difference.")
    ] = None,
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Asks a cluster what a picture is and whether it belongs to anything that the sites have seen (novelty)."""
    given = passes if uncertainty else None
    novelty.infer(_endpoint_options(join, listen, key, insecure), image, output, console, passes=given)


def train(
    *,
    join: JoinOption,
    labels: Annotated[
        list[str], typer.Option("--labels", help="Which labels, e.g. 0-2; or for each site, e.g. a1=0-3 (repeat it).")
    ],
    node: NodesOption = None,
    model: Annotated[
        Literal["classifier", "detector", "own-detector"], typer.Option(help="Which model; the last stays at its site.")
    ] = "classifier",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Together, in so many rounds; each for itself without.")
    ] = None,
    mu: Annotated[float | None, typer.Option(min=0.0, help="FedProx's pull in rounds; 0 is FedAvg.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the pictures (of each round).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead: batches (of each round).")] = None,
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Has the sites of a cluster train on some labels: each for itself, or together in rounds (novelty)."""
    if epochs is not None and steps is not None:
        raise ConfigError(ConfigProblem("--steps", "either --epochs or --steps", "both"))
    if model == "own-detector" and (rounds is not None or mu is not None):
        raise ConfigError(
            ConfigProblem("--model own-detector", hint="It never leaves its site: train it without rounds.")
        )
    place = _endpoint_options(join, listen, key, insecure)
    novelty.train(
        place, labels, console, model=model, nodes=node or (), rounds=rounds, mu=mu, epochs=epochs, steps=steps
    )


def validate(
    *,
    join: JoinOption,
    labels: LabelsOption = None,
    node: NodesOption = None,
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Says how good the classifier of each site is on pictures that nothing learnt from (novelty)."""
    novelty.validate(_endpoint_options(join, listen, key, insecure), labels, console, nodes=node or ())


def calibrate(
    *,
    join: JoinOption,
    labels: Annotated[str | None, typer.Option("--labels", help="What belongs; what was trained on without.")] = None,
    model: Annotated[Literal["detector", "own-detector"], typer.Option(help="Which detector.")] = "own-detector",
    false_alarms: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Of the shared detector: the share that it may reject wrongly.")
    ] = 0.05,
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Sets the thresholds of detectors from pictures that nothing learnt from (novelty)."""
    novelty.calibrate(
        _endpoint_options(join, listen, key, insecure), labels, console, model=model, false_alarms=false_alarms
    )


def average(
    *,
    join: JoinOption,
    model: SharedModelOption = "classifier",
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Makes one model of those that the sites have, and gives it to all (novelty)."""
    novelty.average(_endpoint_options(join, listen, key, insecure), console, model=model)


@model.command("get")
def get_model(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to write.")],
    join: JoinOption,
    model: SharedModelOption = "classifier",
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Whose; the first site's without.")] = None,
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Writes the model of a site into a file (novelty)."""
    novelty.get_model(_endpoint_options(join, listen, key, insecure), file, console, model=model, node=node)


@model.command("set")
def set_model(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to read.")],
    join: JoinOption,
    model: SharedModelOption = "classifier",
    listen: ListenOption = ANYWHERE,
    key: KeyOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Gives the model in a file to every site (novelty)."""
    novelty.set_model(_endpoint_options(join, listen, key, insecure), file, console, model=model)


def _endpoint_options(join: list[str], listen: str, key: Path | None, insecure: bool) -> EndpointOptions:
    return EndpointOptions(listen, join=tuple(join), key=key, insecure=insecure)

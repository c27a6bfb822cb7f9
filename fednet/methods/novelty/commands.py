"""The commands `fednet novelty ...`: each reads its arguments, asks a live cluster, and prints the answer.

Every file that is read or written is one that the operator named. Imports no torch until a command runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fednet.data.label_ranges import parse_label_ranges
from fednet.errors import UsageError
from fednet.files import read_bounded, require_writable, write_whole

if TYPE_CHECKING:
    from fednet.api import Network, Progress
    from fednet.methods.contract import Cluster
    from fednet.methods.novelty.services import Classes
    from fednet.methods.novelty.validation import ClassifierValidation

MAX_IMAGE_BYTES = 16 * 2**20
MAX_MODEL_BYTES = 2**30
"""Bytes of a file that is read."""

LabelsOption = Annotated[str | None, typer.Option("--labels", help="Classes, e.g. cat,dog or 0-9; default: all.")]
NodesOption = Annotated[list[str] | None, typer.Option("--node", metavar="NAME", help="Only this site; repeatable.")]
SharedModelOption = Annotated[Literal["classifier", "detector"], typer.Option(help="The model.")]


def infer(
    cluster: Cluster,
    *,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file of the sites' image size.")],
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Estimate uncertainty by MC dropout.")] = False,
    passes: Annotated[int, typer.Option(min=1, help="Dropout passes.")] = 100,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write a .png of original, masked, reconstructions, difference."),
    ] = None,
) -> None:
    """Classifies an image and says whether it is novel: unlike anything that the sites were trained on."""
    content = read_bounded(image, MAX_IMAGE_BYTES)
    written = require_writable(output, "--output", ".png") if output else None
    from fednet.images import save_png  # noqa: PLC0415 - imports torch, as the next three
    from fednet.methods.novelty import figures, image_decoding, inference  # noqa: PLC0415
    from fednet.methods.novelty.command_output import (  # noqa: PLC0415
        joint_note,
        print_missing,
        print_note,
        print_table,
        print_written,
    )
    from fednet.methods.novelty.messages import read_novelty_capabilities  # noqa: PLC0415

    def ask(network: Network, _: object) -> inference.NoveltyInference:
        shape = next(iter(read_novelty_capabilities(network.capabilities).values())).shape
        picture = image_decoding.decode_image(content, shape, str(image))
        return inference.infer(network, picture, passes=passes if uncertainty else None, keep=written is not None)

    picture_inference = cluster.run(ask)
    heads, rows = picture_inference.table()
    print_table(heads, rows, str(image), cluster.console)
    print_missing(picture_inference.missing, cluster.console)
    print_note(joint_note(picture_inference), cluster.console)
    if written and picture_inference.verdicts:
        save_png(written, figures.reconstruction_grid(picture_inference))
        print_written(written, cluster.console)


def train(
    cluster: Cluster,
    *,
    labels: Annotated[
        list[str],
        typer.Option("--labels", help="Classes, e.g. cat,dog or 0-2; or by site, a1=0-3 (repeatable)."),
    ],
    node: NodesOption = None,
    model: Annotated[
        Literal["classifier", "detector", "own-detector"], typer.Option(help="The model; the last never leaves a site.")
    ] = "classifier",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Federated rounds; default: every site trains alone.")
    ] = None,
    mu: Annotated[float | None, typer.Option(min=0.0, help="FedProx's proximal weight; 0 is FedAvg.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs (of each round).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of epochs: batches (of each round).")] = None,
) -> None:
    """Trains the sites' models on some labels: every site alone, or together in rounds."""
    if epochs is not None and steps is not None:
        raise UsageError("--steps", "either --epochs or --steps", "both")
    if model == "own-detector" and (rounds is not None or mu is not None):
        raise UsageError("--model own-detector", hint="It never leaves its site: train it without rounds.")
    wanted = label_lists(labels, node or ())
    from fednet.federated.config import Federation  # noqa: PLC0415
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_rounds, print_site_reports  # noqa: PLC0415

    if rounds is None and mu is None:
        reports = cluster.run(
            lambda network, _: services.train(
                network, services.labels_of_classes(network, wanted), model=model, epochs=epochs, steps=steps
            )
        )
        print_site_reports(reports, f"{model}, trained", cluster.console)
        return
    records = cluster.run(
        lambda network, _: services.run_training_rounds(
            network, services.labels_of_classes(network, wanted), key=_plan_key("train"), federation=Federation(),
            model=model, rounds=rounds or 1, mu=mu, epochs=epochs, steps=steps,
        )
    )  # fmt: skip
    print_rounds(records, cluster.console)


def validate(cluster: Cluster, *, labels: LabelsOption = None, node: NodesOption = None) -> None:
    """Measures every site's classifier on held-out images, which no site trains on."""
    wanted = None if labels is None else parse_label_ranges(labels)
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_validations  # noqa: PLC0415

    def ask(network: Network, _: object) -> dict[str, ClassifierValidation]:
        labels_ = None if wanted is None else services.labels_of_classes(network, wanted)
        return services.validate(network, labels_, nodes=node or None)

    validations = cluster.run(ask)
    print_validations(validations, cluster.console)


def calibrate(
    cluster: Cluster,
    *,
    labels: Annotated[
        str | None, typer.Option("--labels", help="In-distribution classes; default: those trained on.")
    ] = None,
    model: Annotated[Literal["detector", "own-detector"], typer.Option(help="The detector.")] = "own-detector",
    false_alarms: Annotated[
        float,
        typer.Option(min=0.001, max=0.999, help="Of the shared detector, and with --images: the false alarm rate."),
    ] = 0.05,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="In-distribution images of yours, which no site has: sets the joint threshold of all own detectors.",
        ),
    ] = None,
) -> None:
    """Sets the detectors' thresholds from held-out images, which no site trains on, or the joint one from yours."""
    wanted = None if labels is None else parse_label_ranges(labels)
    if model == "detector" and wanted is None:
        raise UsageError("--labels", "the in-distribution labels, for the shared detector", "nothing")
    if images is not None and (model == "detector" or wanted is not None):
        raise UsageError("--images", hint="It is for all sites' own detectors: leave --model and --labels out.")
    from fednet.methods.novelty import scoring, services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_note, print_site_reports  # noqa: PLC0415
    from fednet.methods.novelty.image_decoding import read_images  # noqa: PLC0415
    from fednet.methods.novelty.messages import read_novelty_capabilities  # noqa: PLC0415

    if images is not None:

        def calibrate_on(network: Network, progress: Progress) -> float:
            shape = next(iter(read_novelty_capabilities(network.capabilities).values())).shape
            return scoring.calibrate_jointly(network, read_images(images, shape), false_alarms, progress)

        print_note(f"joint threshold {cluster.run(calibrate_on):.4g}, in thresholds of the sites", cluster.console)
        return
    if wanted is not None and model == "detector":
        threshold = cluster.run(
            lambda network, _: services.calibrate_together(
                network, services.labels_of_classes(network, wanted), false_alarms
            )
        )
        print_note(f"threshold {threshold:.4g}", cluster.console)
        return
    reports = cluster.run(
        lambda network, _: services.calibrate(
            network, None if wanted is None else services.labels_of_classes(network, wanted)
        )
    )
    print_site_reports(reports, f"{model}, calibrated", cluster.console)


def average(cluster: Cluster, *, model: SharedModelOption = "classifier") -> None:
    """Averages the sites' models as they are, weighted by images trained on, and gives the result to all."""
    from fednet.federated.config import Federation  # noqa: PLC0415
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_rounds  # noqa: PLC0415

    key = _plan_key("average")
    record = cluster.run(
        lambda network, _: services.average_models(network, key=key, federation=Federation(), model=model)
    )
    print_rounds([record], cluster.console)


def get_model(
    cluster: Cluster,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to write.")],
    model: SharedModelOption = "classifier",
    node: Annotated[str | None, typer.Option(metavar="NAME", help="The site; default: the first.")] = None,
) -> None:
    """Writes a site's model into a file, byte for byte as the site sends it."""
    written = require_writable(file, "FILE")
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_written  # noqa: PLC0415

    content = cluster.run(lambda network, _: services.get_model(network, node or min(network.capabilities), model))
    write_whole(written, content, shared=True)
    print_written(written, cluster.console)


def set_model(
    cluster: Cluster,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to read.")],
    model: SharedModelOption = "classifier",
) -> None:
    """Gives the model in a file to every site."""
    content = read_bounded(file, MAX_MODEL_BYTES)
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty.command_output import print_rounds  # noqa: PLC0415

    key = _plan_key("set")
    record = cluster.run(lambda network, _: services.set_model(network, content, key=key, model=model))
    print_rounds([record], cluster.console)


def label_lists(texts: Sequence[str], nodes: Sequence[str]) -> Classes | Mapping[str, Classes]:
    """Labels as an operator gives them: one list for all sites or for some, or one for each as `a1=0-3`.

    Raises:
        UsageError: a text is no list of labels, or both ways are mixed.
    """
    by_node = {name: parse_label_ranges(text) for name, mark, text in (part.partition("=") for part in texts) if mark}
    if not by_node and len(texts) == 1:
        shared = parse_label_ranges(texts[0])
        return dict.fromkeys(nodes, shared) if nodes else shared
    if len(by_node) == len(texts) and not nodes:
        return by_node
    expected = "one list such as 0-3, with --node where only some sites are meant, or a list a site such as a1=0-3"
    raise UsageError("--labels", expected, " ".join(texts) or "nothing")


def _plan_key(work: str) -> str:
    """A round plan's key that no earlier plan has had."""
    return f"{work}-{secrets.token_hex(8)}"


COMMANDS: Mapping[str, Callable[..., None]] = {
    "infer": infer,
    "train": train,
    "validate": validate,
    "calibrate": calibrate,
    "average": average,
    "model get": get_model,
    "model set": set_model,
}

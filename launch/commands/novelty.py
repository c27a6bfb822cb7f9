"""What a visitor asks of a live cluster that runs the method novelty, and how the answers are printed.

Knows the method's services and terminals; the services decide what can be asked, and every file that is read or
written here is one that the operator has named.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fednet.reporting.summary import Cell, SummaryTable
from launch.commands.node import EndpointOptions
from launch.commands.visit import parse_label_list, read_bounded, require_writable, run_as_guest
from launch.errors import ConfigError, ConfigProblem
from launch.report import tables

if TYPE_CHECKING:
    from fednet.api import RoundRecord
    from fednet.methods.novelty.labels import LabelSpec
    from fednet.methods.novelty.services import SiteReports

METHOD = "novelty"
MAX_IMAGE_BYTES = 16 * 2**20
MAX_MODEL_BYTES = 2**30
"""Bytes of a file that is read."""

_DIGITS = 16
"""Characters of a digest that are printed."""


def infer(place: EndpointOptions, image: Path, output: Path | None, console: Console, *, passes: int | None) -> None:
    """Asks what a picture is and whether it belongs; prints a table and writes the picture of how that was found.

    Args:
        place: where the guest stands, and whom it joins through.
        image: the file of the picture.
        output: where to write original, masked, reconstructions and difference; None for nowhere.
        console: hears of it.
        passes: of dropout, for the uncertainty; None for none.

    Raises:
        ConfigError: a file cannot be read or written.
        DataError: it is no picture, or not one of the sites' size.
        MethodError, NodeError: the cluster cannot tell.
    """
    content = read_bounded(image, MAX_IMAGE_BYTES)
    written = require_writable(output, "--output") if output else None
    from fednet.images import save_png  # noqa: PLC0415 - imports torch, as the next two
    from fednet.methods.novelty import figures, image_decoding, inference  # noqa: PLC0415
    from fednet.methods.novelty.messages import read_novelty_capabilities  # noqa: PLC0415

    def job(network: Any, _progress: Any) -> inference.NoveltyInference:
        shape = next(iter(read_novelty_capabilities(network.capabilities).values())).shape
        picture = image_decoding.decode_image(content, shape, str(image))
        return inference.infer(network, picture, passes=passes, keep=written is not None)

    found = run_as_guest(place, METHOD, job, console)
    heads, rows = found.table()
    console.print(tables.rich_table(_table(heads, rows), str(image), console.width))
    _print_missing(found.missing, console)
    if not found.verdicts:
        _print_remark(
            "whether it belongs is not known: no detector has a threshold yet, see `fednet calibrate`", console
        )
    elif written:
        save_png(written, figures.reconstruction_grid(found))
        _print_written(written, console)


def train(
    place: EndpointOptions,
    wanted: Sequence[str],
    console: Console,
    *,
    model: str,
    nodes: Sequence[str],
    rounds: int | None,
    **budget: Any,
) -> None:
    """Has sites train: each for itself, or together in rounds, with FedProx's pull where `mu` is given.

    Raises:
        ConfigError: the labels are none.
        MethodError, NodeError: a site or a label is nobody's, or the cluster cannot.
    """
    lists, mu = label_lists(wanted, nodes), budget.pop("mu")
    from fednet.federated.config import Federation  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty import services  # noqa: PLC0415

    if rounds is None and mu is None:
        told = run_as_guest(
            place, METHOD, lambda network, _: services.train(network, lists, model=model, **budget), console
        )
        _print_site_reports(told, f"{model}, trained", console)
        return
    together = {"federation": Federation(), "model": model, "rounds": rounds or 1, "mu": mu, **budget}
    closed = run_as_guest(
        place,
        METHOD,
        lambda network, _: services.run_training_rounds(network, lists, key=_key("train"), **together),
        console,
    )
    _show_rounds(closed, console)


def validate(place: EndpointOptions, wanted: str | None, console: Console, *, nodes: Sequence[str]) -> None:
    """Prints how good each site's classifier is on its held-out pictures of some labels, or of all.

    Raises:
        ConfigError: the labels are none.
        MethodError, NodeError: a site or a label is nobody's, or the cluster cannot.
    """
    asked = None if wanted is None else parse_label_list(wanted)
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch

    found = run_as_guest(
        place, METHOD, lambda network, _: services.validate(network, asked, nodes=list(nodes) or None), console
    )
    there = sorted({label for one in found.values() for label in one.by_label})
    rows = [
        (name, one.accuracy, one.pictures, *(one.by_label.get(label) for label in there), one.digest[:_DIGITS])
        for name, one in found.items()
    ]
    heads = ("site", "accuracy", "pictures", *map(str, there), "model")
    console.print(tables.rich_table(_table(heads, rows), "classifier, validated", console.width))


def calibrate(place: EndpointOptions, wanted: str | None, console: Console, *, model: str, false_alarms: float) -> None:
    """Sets the threshold of every site's own detector, or one of the detector that all share.

    Raises:
        ConfigError: the labels are none, or not given where they must be.
        MethodError, NodeError: there are too few pictures, or the cluster cannot.
    """
    asked = None if wanted is None else parse_label_list(wanted)
    if model == "detector" and asked is None:
        raise ConfigError(
            ConfigProblem("--labels", "the labels that belong, for the detector that all share", "nothing")
        )
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch

    if asked is not None and model == "detector":
        given = asked
        limit = run_as_guest(
            place, METHOD, lambda network, _: services.calibrate_together(network, given, false_alarms), console
        )
        _print_remark(f"threshold {limit:.4g}", console)
        return
    told = run_as_guest(place, METHOD, lambda network, _: services.calibrate(network, asked), console)
    _print_site_reports(told, f"{model}, calibrated", console)


def average(place: EndpointOptions, console: Console, *, model: str) -> None:
    """Makes one model of what the sites have now, by the number of pictures each was trained on.

    Raises:
        MethodError, NodeError: the round cannot be held.
    """
    from fednet.federated.config import Federation  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.novelty import services  # noqa: PLC0415

    def job(network: Any, _progress: Any) -> RoundRecord:
        return services.average_models(network, key=_key("average"), federation=Federation(), model=model)

    closed = run_as_guest(place, METHOD, job, console)
    _show_rounds([closed], console)


def get_model(place: EndpointOptions, file: Path, console: Console, *, model: str, node: str | None) -> None:
    """Writes a site's model into a safetensors file, byte for byte as the site would send it to anybody.

    Raises:
        ConfigError: the file cannot be written there.
        MethodError, NodeError: there is no such site, or the cluster cannot.
    """
    written = require_writable(file, "FILE")
    from fednet.files import write_whole  # noqa: PLC0415 - beside the next, which imports torch
    from fednet.methods.novelty import services  # noqa: PLC0415

    def job(network: Any, _progress: Any) -> bytes:
        return services.get_model(network, node or min(network.capabilities), model)

    write_whole(written, run_as_guest(place, METHOD, job, console))
    _print_written(written, console)


def set_model(place: EndpointOptions, file: Path, console: Console, *, model: str) -> None:
    """Gives the model in a safetensors file to every site.

    Raises:
        ConfigError: the file cannot be read.
        ModelError: it is no safetensors file, or a model of another shape.
        MethodError, NodeError: the round cannot be held.
    """
    content = read_bounded(file, MAX_MODEL_BYTES)
    from fednet.methods.novelty import services  # noqa: PLC0415 - imports torch

    closed = run_as_guest(
        place, METHOD, lambda network, _: services.set_model(network, content, key=_key("set"), model=model), console
    )
    _show_rounds([closed], console)


def label_lists(wanted: Sequence[str], nodes: Sequence[str]) -> LabelSpec | Mapping[str, LabelSpec]:
    """Labels as an operator gives them: one list for all or for some nodes, or one for each as `a1=0-3`.

    Raises:
        ConfigError: they are none, or both ways are mixed.
    """
    own = {name: parse_label_list(text) for name, mark, text in (part.partition("=") for part in wanted) if mark}
    if not own and len(wanted) == 1:
        common = parse_label_list(wanted[0])
        return dict.fromkeys(nodes, common) if nodes else common
    if len(own) == len(wanted) and not nodes:
        return own
    expected = "one list such as 0-3, with --node where only some sites are meant, or a list a site such as a1=0-3"
    raise ConfigError(ConfigProblem("--labels", expected, " ".join(wanted) or "nothing"))


def _key(work: str) -> str:
    """A name for a programme that nobody has had before."""
    return f"{work}-{secrets.token_hex(8)}"


def _show_rounds(closed: Sequence[RoundRecord], console: Console) -> None:
    """A row a round: who contributed with what weight, who did not and why, and what was left."""
    measured = sorted({value for record in closed for values in record.values.values() for value in values})
    rows = [
        (
            record.number,
            " ".join(f"{name}:{weight:g}" for name, weight in record.weights.items()) or None,
            *(_mean(record, value) for value in measured),
            record.seconds,
            record.digest[:_DIGITS],
        )
        for record in closed
    ]
    heads = ("round", "contributed, by weight", *measured, "seconds", "model")
    console.print(tables.rich_table(_table(heads, rows), f"{closed[0].model}, in rounds", console.width))
    for record in closed:
        missing = {**dict.fromkeys(record.late, "late"), **record.lost, **record.refused}
        _print_missing({f"round {record.number}: {name}": why for name, why in missing.items()}, console)


def _mean(record: RoundRecord, value: str) -> float | None:
    """A measured value, averaged over those who told it by their weights."""
    told = [(record.weights.get(name, 1.0), values[value]) for name, values in record.values.items() if value in values]
    whole = sum(weight for weight, _ in told)
    return sum(weight * number for weight, number in told) / whole if whole else None


def _print_site_reports(told: SiteReports, title: str, console: Console) -> None:
    """A row a site, with all that it told."""
    columns = list(dict.fromkeys(key for values in told.by_node.values() for key in values))
    rows = [(name, *(_shorten(values.get(key)) for key in columns)) for name, values in told.by_node.items()]
    console.print(tables.rich_table(_table(("site", *columns), rows), title, console.width))
    _print_missing(told.missing, console)


def _shorten(value: Any) -> Cell:
    return value[:_DIGITS] if isinstance(value, str) else value


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> SummaryTable:
    return SummaryTable(columns=tuple(heads), rows=tuple(map(tuple, rows)))


def _print_missing(missing: Mapping[str, str], console: Console) -> None:
    for name, why in sorted(missing.items()):
        _print_remark(f"{name}: {why}", console)


def _print_remark(line: str, console: Console) -> None:
    console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _print_written(path: Path, console: Console) -> None:
    console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)

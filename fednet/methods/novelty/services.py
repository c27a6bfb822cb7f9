"""What a live cluster can be asked to do, each a function of a `Network`: the run's job and the commands call these.

train, run_training_rounds (FedProx), average_models, validate, get_model, set_model, calibrate, status; inference is
in `inference.py`. Every service checks the sites' capabilities before it starts something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fednet.api import Network, Question, RoundPlan, RoundRecord, Scalar
from fednet.data.classes import labels_of
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError, ModelError
from fednet.federated.config import Federation
from fednet.federated.state import require_finite, require_like, unpack
from fednet.federated.state_file import Layout
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.methods.common.model_transfer import fetch_model
from fednet.methods.novelty.labels import LabelSpec, format_labels, labels_options, parse_labels
from fednet.methods.novelty.messages import (
    AVERAGE,
    CALIBRATE,
    CLASSIFIER,
    DETECTOR,
    HELD_OUT_SCORES,
    OWN_DETECTOR,
    SET_THRESHOLD,
    TRAIN,
    VALIDATE,
    VALIDATE_HELD_OUT,
    read_novelty_capabilities,
)
from fednet.methods.novelty.validation import ClassifierValidation, read_validation
from fednet.metrics.novelty import threshold


@dataclass(frozen=True)
class SiteReports:
    """The sites' reports by name, and which sites did not report and why.

    Attributes:
        by_node: JSON objects.
        missing: sites that were late, lost or refused, with the reason.
    """

    by_node: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str] = field(default_factory=dict)


def status(network: Network) -> SiteReports:
    """The digest of every model of every site, and the thresholds of their detectors."""
    return _ask_json(network, Question("status", {}), "status")


def train(
    network: Network,
    labels: LabelSpec | Mapping[str, LabelSpec],
    *,
    model: str = CLASSIFIER,
    nodes: Sequence[str] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    fresh: bool = False,
) -> SiteReports:
    """Has sites train their copies of a model on some labels, each for itself.

    Args:
        network: reaches the sites.
        labels: of the pictures, one list for all or one by site.
        model: "classifier", "detector" or "own-detector".
        nodes: which sites; all, or those that `labels` names, where None.
        epochs: passes over the pictures, or
        steps: batches; where neither is given, what the configuration says.
        fresh: from the model's initial state instead of its present one.

    Raises:
        MethodError: a site does not exist, no site has pictures of a label, or every site refuses.
    """
    options = _training_options(network, labels, epochs, steps) | {"model": model, "fresh": fresh}
    chosen = tuple(labels) if nodes is None and isinstance(labels, Mapping) else nodes
    return _ask_json(network, Question("train", {}, options, _require_sites(network, chosen)), "trained")


def run_training_rounds(
    network: Network,
    labels: LabelSpec | Mapping[str, LabelSpec],
    *,
    key: str,
    federation: Federation,
    model: str = CLASSIFIER,
    rounds: int = 1,
    mu: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
) -> tuple[RoundRecord, ...]:
    """Has rounds of training held: FedAvg, or FedProx where mu > 0.

    Args:
        network: reaches the sites.
        labels: as for `train`; a site that has none of its own there declines.
        key: the plan's name in the run.
        federation: how contributions become one model.
        model: "classifier" or "detector".
        rounds: how many.
        mu: of FedProx; that of the configuration where None.
        epochs: of each round, or
        steps: of each round.

    Raises:
        MethodError: a site does not exist, no site has pictures of a label, or the rounds cannot be held.
    """
    options = _training_options(network, labels, epochs, steps)
    if mu is not None:
        options["mu"] = float(mu)
    return network.run_rounds(RoundPlan(key, model, TRAIN, rounds, federation, options))


def average_models(network: Network, *, key: str, federation: Federation, model: str = CLASSIFIER) -> RoundRecord:
    """Averages the sites' copies of a model, and gives the result to all sites.

    Raises:
        MethodError: the round cannot be held.
    """
    return network.run_rounds(RoundPlan(key, model, AVERAGE, 1, federation))[-1]


def validate(
    network: Network,
    labels: LabelSpec | Mapping[str, LabelSpec] | None = None,
    *,
    pictures: ImageSet | None = None,
    nodes: Sequence[str] | None = None,
) -> dict[str, ClassifierValidation]:
    """How good the sites' classifiers are, by name.

    Args:
        network: reaches the sites.
        labels: on the held-out pictures of these labels at each site; of all where None.
        pictures: instead on these pictures, the same for all.
        nodes: which sites; all where None.

    Raises:
        MethodError: a label is nobody's, or every site refuses.
    """
    to = _require_sites(network, nodes)
    if pictures is not None:
        question = Question(VALIDATE, {"images": pictures.images, "labels": pictures.labels}, {}, to)
    else:
        options = {} if labels is None else _training_options(network, labels, None, None)
        question = Question(VALIDATE_HELD_OUT, {}, options, to)
    replies = network.ask(question)
    return {name: read_validation(reply) for name, reply in replies.by_node.items()}


def get_model(network: Network, node: str, model: str = CLASSIFIER) -> bytes:
    """A site's model as the bytes of a safetensors file.

    Raises:
        MethodError: there is no such site, or the model is one that never leaves it.
    """
    _require_sites(network, [node])
    return fetch_model(network, node, model)


def set_model(network: Network, content: bytes, *, key: str, model: str = CLASSIFIER) -> RoundRecord:
    """Gives all sites a model, in a round that has it instead of contributions.

    Args:
        network: reaches the sites.
        content: the bytes of a safetensors file, as `get_model` returns them.
        key: the plan's name in the run.
        model: "classifier" or "detector".

    Raises:
        ModelError: it is no such file, a model of another shape, or not finite.
        MethodError: the round cannot be held.
    """
    given = unpack(content)
    require_like(given, _layout(network, model), "the given model")
    require_finite(given, "the given model")
    return network.run_rounds(RoundPlan(key, model, "set", 1, Federation(), replacement=given))[-1]


def calibrate(network: Network, labels: LabelSpec | Mapping[str, LabelSpec] | None = None) -> SiteReports:
    """Has every site set the threshold of its own detector from its held-out pictures.

    Args:
        network: reaches the sites.
        labels: what belongs; what each was trained on where None.

    Raises:
        MethodError: a site has too few pictures, or no detector of its own.
    """
    options = {"model": OWN_DETECTOR} | ({} if labels is None else _training_options(network, labels, None, None))
    replies = network.ask(Question(CALIBRATE, {}, options))
    return SiteReports(
        {name: {"threshold": float(reply["threshold"])} for name, reply in replies.by_node.items()},
        _missing(replies.late, replies.lost),
    )


def calibrate_together(network: Network, labels: LabelSpec | Mapping[str, LabelSpec], false_alarms: float) -> float:
    """Sets one threshold of the shared detector everywhere, from the held-out pictures of all sites.

    The sites send the scores of their pictures and nothing else of them.

    Args:
        network: reaches the sites.
        labels: what belongs, one list for all or one by site.
        false_alarms: the share of pictures that belong which the threshold may reject.

    Raises:
        MethodError: there are too few pictures in all, or every site refuses.
    """
    scores = held_out_scores(network, labels, DETECTOR)
    limit = threshold(torch.cat([scores[name] for name in sorted(scores)]), false_alarms)
    network.ask(Question(SET_THRESHOLD, {}, {"model": DETECTOR, "threshold": limit}))
    return limit


def held_out_scores(network: Network, labels: LabelSpec | Mapping[str, LabelSpec], model: str) -> dict[str, Tensor]:
    """The scores (n,) of the pictures that sites hold out, by the detector that each has, by name.

    Args:
        network: reaches the sites.
        labels: of the pictures, one list for all or one by site; only these sites are asked.
        model: "detector" or "own-detector".

    Raises:
        MethodError: there is no such site, no site has pictures of a label, every site refuses, or a score is not
            finite.
    """
    options = _training_options(network, labels, None, None) | {"model": model}
    nodes = tuple(labels) if isinstance(labels, Mapping) else None
    replies = network.ask(Question(HELD_OUT_SCORES, {}, options, _require_sites(network, nodes))).by_node
    for name, reply in replies.items():
        if not bool(torch.isfinite(reply["scores"]).all()):
            raise MethodError(f"{name} sent scores of its {model} that are not finite")
    return {name: reply["scores"] for name, reply in replies.items()}


Classes = Iterable[int | str]
"""Classes as a person writes them, by name or number."""


def labels_of_classes(
    network: Network, classes: Classes | Mapping[str, Classes]
) -> LabelSpec | Mapping[str, LabelSpec]:
    """The labels of classes that somebody has written, one list for all or one by site.

    Raises:
        UnknownClass: the sites have no such class.
    """
    names = next(iter(read_novelty_capabilities(network.capabilities).values())).classes
    if isinstance(classes, Mapping):
        return {site: labels_of(own, names, f"--labels {site}") for site, own in classes.items()}
    return labels_of(classes, names, "--labels")


def _training_options(
    network: Network, labels: LabelSpec | Mapping[str, LabelSpec], epochs: int | None, steps: int | None
) -> dict[str, Scalar]:
    """Options of a training, once it is known that the sites have pictures of its labels."""
    options = labels_options(labels)
    capabilities = read_novelty_capabilities(network.capabilities)
    classes = next(iter(capabilities.values())).classes
    for name, text in options.items():
        wanted = parse_labels(str(text), len(classes))
        nodes = (
            tuple(capabilities) if name == "labels" else _require_sites(network, [name.removeprefix("labels.")]) or ()
        )
        available = {label for node in nodes for label in capabilities[node].labels()}
        if lacking := [label for label in wanted if label not in available]:
            who = "no site has" if name == "labels" else f"{nodes[0]} has no"
            raise MethodError(
                f"{who} pictures of label {format_labels(lacking)}; there are pictures of {format_labels(available)}"
            )
    return {**options, **({} if epochs is None else {"epochs": epochs}), **({} if steps is None else {"steps": steps})}


def _require_sites(network: Network, nodes: Sequence[str] | None) -> tuple[str, ...] | None:
    if nodes is None:
        return None
    if unknown := sorted(set(nodes) - set(network.capabilities)):
        raise MethodError(f"there is no site {', '.join(unknown)}: there are {', '.join(network.capabilities)}")
    return tuple(sorted(set(nodes)))


def _layout(network: Network, model: str) -> dict[str, Tensor]:
    """What a state of a model looks like: tensors without memory."""
    first = min(network.capabilities)
    replies = network.ask(Question("layout", {}, {"model": model}, (first,)))
    header = replies.by_node[first].get("layout")
    if header is None or header.dtype != torch.uint8:
        raise MethodError(f"{first} sent no layout of its {model}: its reply has no uint8 tensor 'layout'")
    try:
        entries = Layout.of_header(header.contiguous().numpy().tobytes()).entries
    except ModelError as error:
        raise ModelError(f"{first} sent a layout of its {model} that cannot be read ({error})") from error
    return {entry.name: torch.empty(entry.shape, dtype=entry.dtype, device="meta") for entry in entries}


def _ask_json(network: Network, question: Question, key: str) -> SiteReports:
    replies = network.ask(question)
    by_node = {name: from_json_tensor(reply.get(key), name) for name, reply in replies.by_node.items()}
    return SiteReports(by_node, _missing(replies.late, replies.lost))


def _missing(late: Sequence[str], lost: Mapping[str, str]) -> dict[str, str]:
    return dict.fromkeys(late, "late") | dict(lost)

"""Rows of the table of method 2: measured over the seeds, the prototype's value and what must be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import mean

Values = dict[str, float]
"""What one part measured, by name."""


def rows(measured_parts: Mapping[tuple[str, int], Values], seeds: list[int]) -> Iterator[tuple[str, str, str, str]]:
    """(what, measured over the seeds, the prototype's, must reach)."""

    def of(part: str, key: str) -> list[float]:
        return [measured_parts[part, seed][key] for seed in seeds if (part, seed) in measured_parts]

    def each(values: list[float]) -> str:
        if not values:
            return "not measured"
        fewer = "" if len(values) == len(seeds) else f"; {len(values)} of {len(seeds)} seeds"
        return f"{mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)}{fewer})"

    gain = [ten - one for ten, one in zip(of("single", "auroc"), of("single", "auroc_1"), strict=True)]
    yield "AUROC, 10 reconstructions", each(of("single", "auroc")), ".960", ">= .90"
    yield "AUROC, 1 reconstruction (mean of the ten)", each(of("single", "auroc_1")), ".897", "-"
    yield "10 against 1", each(gain), ".063", ">= .03"
    yield "roles swapped", each(of("swapped", "auroc")), ".933", ">= .88"
    yield "control: untrained network", each(of("untrained", "auroc")), ".51", ".4 to .6"
    yield "control: trained on the novel digits", each(of("swapped", "control")), ".07", "<= .2"
    for name in ("rotated", "inverted", "shuffled", "noise"):
        yield f"in-domain digits, {name}", each(of("single", name)), ">= .999", ">= .98"
    yield "threshold at 95% of held-out in-domain: FPR", each(of("single", "fpr")), "-", "<= .10"
    yield "... TPR", each(of("single", "tpr")), ".81", ">= .65"
    yield "two sites, {0, 1, half of 2} alone", each(of("sites", "site-0")), ".758", "-"
    yield "two sites, {half of 2, 3, 4} alone", each(of("sites", "site-1")), ".823", "-"
    yield "federated, minimum of the sites' scores", each(of("sites", "minimum")), ".970", ">= .92"
    yield "... novel where every site says so: FPR", each(of("sites", "fpr")), "-", "-"
    yield "... TPR", each(of("sites", "tpr")), "-", "-"
    yield "federated, FedAvg, 25 rounds x 100 batches", each(of("averaged", "auroc")), ".935", ">= .88"
    yield from _rounds_rows("digits", lambda key: each(of("rounds-digits", key)))
    yield from _rounds_rows("MNIST", lambda key: each(of("rounds", key)))
    yield "baseline: distance to the nearest training picture", each(of("single", "nearest")), ".991", "beside it"
    yield "baseline: 1 - largest softmax of a LeNet", each(of("single", "softmax")), "-", "beside it"


def _rounds_rows(data: str, measured: Callable[[str], str]) -> Iterator[tuple[str, str, str, str]]:
    """The classifier's rows; the prototype's numbers are those of MNIST."""
    reached = (".650", ".914", ".948", ".952", ".968", ".966") if data == "MNIST" else ("-",) * 6
    bounds = {3: ">= .90", 6: ">= .95"} if data == "MNIST" else {}
    for number, prototype in enumerate(reached, 1):
        name = f"{data}, FedAvg, accuracy on 0-4: round 1" if number == 1 else f"... round {number}"
        yield name, measured(f"accuracy-0.0-{number}"), prototype, bounds.get(number, "-")
    for mu, prototype in ((0.0, "2.25"), (0.1, "1.11"), (1.0, ".51")):
        name = f"{data}, FedProx, mu {mu:g}: squared distance from the start after a site's first round"
        yield name, measured(f"drift-{mu}"), prototype if data == "MNIST" else "-", "falls with mu"

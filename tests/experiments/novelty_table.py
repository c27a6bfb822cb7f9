"""The table of method 2, measured: trains and tries detectors on digits with several seeds and prints what came out.

    python tests/experiments/novelty_table.py [--seeds 0 1 2] [--out runs/novelty] [--mnist FOLDER] [--write]

In-domain are the digits 0 to 4, novel the digits 5 to 9. Detectors are trained on the train split, calibrated on the
judge split and tried on the test split; the classifier's rounds are held on digits, and on MNIST, too, where --mnist
says where it lies (the folder above MNIST/raw). Everything runs in this process on one thread, about ten minutes a
seed. A part whose numbers are below --out is not repeated.
`--write` puts the table into the method's README.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from novelty_rows import Values, rows
from tables import write
from torch import Tensor
from torch.nn.functional import cross_entropy

from fednet.api import Network, NullProgress, SiteContext
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, Splits, load
from fednet.diffusion.config import ScoreTrainConfig
from fednet.diffusion.sde import VP
from fednet.diffusion.training import joint_state, load_joint_state, resume, train
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Federation
from fednet.federated.local_network import local_network
from fednet.federated.state import detached_copy
from fednet.files import write_whole
from fednet.methods.novelty.config import ClassifierTrainConfig, DetectorConfig, NoveltyConfig
from fednet.methods.novelty.detector import Detector, lowest_scores, median_distance
from fednet.methods.novelty.services import run_training_rounds, validate
from fednet.methods.novelty.site import NoveltySite
from fednet.metrics.novelty import alarm_rate, auroc, nearest_distance, softmax_doubt
from fednet.models.config import UNetConfig
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet
from fednet.seeds import derive, generator

README = Path("fednet/methods/novelty/README.md")
LOW, HIGH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
"""In-domain and novel digits."""
NETWORK = UNetConfig(channels=(16, 16), attention=False)
TRAIN = ScoreTrainConfig(steps=4000, batch=32)
GROSS = 60
"""In-domain pictures that are rotated, inverted, shuffled or made of noise."""
ROUNDS, LOCAL = 25, ScoreTrainConfig(steps=100, batch=32)
"""FedAvg of the detector: rounds, and what a site does in each."""

SHARES = {"a1": (0, 1, 2, 3), "a2": (0, 1, 2, 4)}
"""The classifier's labels at its two sites."""
DIGITS = ClassifierTrainConfig(epochs=10, lr=0.05, momentum=0.5)
MNIST = ClassifierTrainConfig(epochs=1, lr=0.01, momentum=0.9)
"""What a site does in a round."""

HEAD = (
    "Seeds {seeds}; mean (each seed). Digits, 8 x 8: in-domain 0-4, novel 5-9, {inside} and {outside} test pictures. "
    "U-Net {channels}, VP, {steps} batches of {batch}; alternating checkerboard, 10 reconstructions of 100 steps, MSE. "
    "Classifier: two sites, {{0-3}} and {{0-2, 4}}, half of the pictures each, a fifth of it held out; SGD in batches "
    "of 16; digits: {digits}; MNIST: {mnist}, 300 training pictures a class and site."
)


@dataclass(frozen=True)
class Experiment:
    """One seed's pictures, and where its numbers lie."""

    seed: int
    out: Path
    splits: Splits

    def inside(self, split: ImageSet, digits: tuple[int, ...] = LOW) -> Tensor:
        """The pictures of some digits, (n, 1, 8, 8)."""
        return split.images[torch.isin(split.labels, torch.tensor(digits))]

    def measured(self, part: str, measure: Callable[[Experiment], Values]) -> None:
        """Measures the numbers of a part if they are not there."""
        path = self.out / f"{part}-{self.seed}.json"
        if not path.exists():
            values = measure(self)
            write_whole(path, json.dumps(values, indent=2).encode())
            print(f"{path}: {values}", flush=True)  # noqa: T201 - progress

    def present(self) -> Iterator[tuple[str, Values]]:
        """The parts that are measured, and their numbers."""
        for part in (*PARTS, "rounds"):
            path = self.out / f"{part}-{self.seed}.json"
            if path.exists():
                yield part, json.loads(path.read_text())

    def detector(self, name: str, images: Callable[[], Tensor]) -> Detector:
        """A detector trained on some pictures, or read from its file."""
        path = self.out / f"{name}-{self.seed}.safetensors"
        if not path.exists():
            net = self.fresh(name)
            train(net, images(), None, TRAIN, seed=derive(self.seed, "detector", name), progress=NullProgress())
            Detector(net, DetectorConfig(), seed=self.seed).save(path)
        return Detector.load(path)

    def fresh(self, name: str) -> ScoreNet:
        """A network before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "init", name))
            return ScoreNet(NETWORK, VP(), self.splits.train.shape, 0)

    def site(self, which: int) -> Tensor:
        """The training pictures of one of two sites: {0, 1, half of 2} and {half of 2, 3, 4}."""
        middle = self.inside(self.splits.train, (2,))
        half = len(middle) // 2
        own = ((0, 1), middle[:half]) if which == 0 else ((3, 4), middle[half:])
        return torch.cat([self.inside(self.splits.train, own[0]), own[1]])


def single(experiment: Experiment) -> Values:
    """One detector of 0-4: AUROC, the threshold, gross novelties, and the baselines."""
    detector = experiment.detector("low", lambda: experiment.inside(experiment.splits.train))
    inside, outside = experiment.inside(experiment.splits.test), experiment.inside(experiment.splits.test, HIGH)
    near, far = detector.distances(inside), detector.distances(outside)
    low, high = median_distance(near), median_distance(far)
    bound = detector.calibrate(experiment.inside(experiment.splits.judge))
    values = {
        "auroc": auroc(low, high),
        "auroc_1": mean(auroc(near[:, k], far[:, k]) for k in range(near.shape[1])),
        "fpr": alarm_rate(low, bound),
        "tpr": alarm_rate(high, bound),
        "nearest": _baseline(experiment, lambda x: nearest_distance(x, experiment.inside(experiment.splits.train))),
        "softmax": _baseline(experiment, _doubt(experiment)),
    }
    return values | {
        name: auroc(low, detector.score(change)) for name, change in changed(inside[:GROSS], experiment.seed).items()
    }


def swapped(experiment: Experiment) -> Values:
    """A detector of 5-9: with the roles swapped, and as the control that was trained on what it should find."""
    detector = experiment.detector("high", lambda: experiment.inside(experiment.splits.train, HIGH))
    low, high = (detector.score(experiment.inside(experiment.splits.test, digits)) for digits in (LOW, HIGH))
    return {"auroc": auroc(high, low), "control": auroc(low, high)}


def untrained(experiment: Experiment) -> Values:
    """A network before training."""
    detector = Detector(experiment.fresh("low"), DetectorConfig(), seed=experiment.seed)
    low, high = (detector.score(experiment.inside(experiment.splits.test, digits)) for digits in (LOW, HIGH))
    return {"auroc": auroc(low, high)}


def sites(experiment: Experiment) -> Values:
    """Two sites: each on its own, and the minimum of their scores."""
    detectors = {f"site-{k}": experiment.detector(f"site-{k}", partial(experiment.site, k)) for k in (0, 1)}
    values: Values = {}
    scores: dict[int, dict[str, Tensor]] = {0: {}, 1: {}}
    for k, (name, detector) in enumerate(detectors.items()):
        held_out = experiment.inside(experiment.splits.judge, ((0, 1, 2), (2, 3, 4))[k])
        bound = detector.calibrate(held_out)
        for novel, digits in enumerate((LOW, HIGH)):
            scores[novel][name] = detector.score(experiment.inside(experiment.splits.test, digits))
        values[name] = auroc(scores[0][name], scores[1][name])
        values[f"{name}_threshold"] = bound
    bounds = {name: values[f"{name}_threshold"] for name in detectors}
    relative = [{name: one / bounds[name] for name, one in scores[novel].items()} for novel in (0, 1)]
    return values | {
        "minimum": auroc(lowest_scores(scores[0]), lowest_scores(scores[1])),
        "relative": auroc(lowest_scores(relative[0]), lowest_scores(relative[1])),
        "fpr": alarm_rate(lowest_scores(relative[0]), 1.0),
        "tpr": alarm_rate(lowest_scores(relative[1]), 1.0),
    }


def averaged(experiment: Experiment) -> Values:
    """FedAvg of the detector's parameters, raw and averaged weights together."""
    net = experiment.fresh("federated")
    average = copy.deepcopy(net)
    shares = {f"site-{k}": experiment.site(k) for k in (0, 1)}
    base = detached_copy(joint_state(net, average))
    for number in range(1, ROUNDS + 1):
        states: dict[str, dict[str, Tensor]] = {}
        for name, images in shares.items():
            load_joint_state(net, average, base)
            seed = derive(experiment.seed, "round", name, number)
            resume(net, average, images, None, LOCAL, before=(number - 1) * 100, seed=seed, progress=NullProgress())
            states[name] = detached_copy(joint_state(net, average))
        base = weighted_mean(states, {name: float(len(images)) for name, images in shares.items()})
    load_joint_state(net, average, base)
    detector = Detector(average, DetectorConfig(), seed=experiment.seed)
    low, high = (detector.score(experiment.inside(experiment.splits.test, digits)) for digits in (LOW, HIGH))
    return {"auroc": auroc(low, high)}


def rounds(experiment: Experiment, config: NoveltyConfig) -> Values:
    """The classifier's rounds: FedAvg's accuracy on 0-4 round by round, and FedProx's drift in the first."""
    known = load(config.data).test
    known = known.subset(torch.isin(known.labels, torch.tensor(LOW)).nonzero().flatten())
    values: Values = {}
    for mu in (0.0, 0.1, 1.0):
        network = _network(experiment, config)
        for number in range(1, 1 + (6 if mu == 0.0 else 1)):
            (closed,) = run_training_rounds(network, SHARES, key=f"round-{number}", federation=Federation(), mu=mu)
            values[f"accuracy-{mu}-{number}"] = validate(network, pictures=known)["a1"].accuracy
            if number == 1:
                values[f"drift-{mu}"] = mean(told["drift"] for told in closed.values.values())
    return values


PARTS: dict[str, Callable[[Experiment], Values]] = {
    "single": single,
    "sites": sites,
    "averaged": averaged,
    "swapped": swapped,
    "untrained": untrained,
    "rounds-digits": partial(rounds, config=NoveltyConfig(classifier=DIGITS)),
}


def on_mnist(root: Path) -> NoveltyConfig:
    """Rounds on MNIST, 300 training pictures a class and site: halved, and a fifth of each half held out."""
    return NoveltyConfig(data=DataConfig(name="mnist", root=root, limit=7500), classifier=MNIST)


def _network(experiment: Experiment, config: NoveltyConfig) -> Network:
    """Two sites of this process, which have learnt nothing yet."""
    names = sorted(SHARES)
    agents = {
        name: NoveltySite(
            config, SiteContext(name, index, len(names), experiment.seed, "cpu", experiment.out / "sites")
        )
        for index, name in enumerate(names)
    }
    return local_network(
        agents, {name: agent.prepare(NullProgress()) for name, agent in agents.items()}, experiment.seed
    )


def changed(images: Tensor, seed: int) -> dict[str, Tensor]:
    """Pictures that are grossly novel, made of in-domain ones."""
    chance = generator(seed, "changed")
    order = torch.stack([torch.randperm(64, generator=chance) for _ in images])
    return {
        "rotated": images.rot90(1, (2, 3)),
        "inverted": -images,
        "shuffled": images.flatten(1).gather(1, order).view_as(images),
        "noise": 2 * torch.rand(images.shape, generator=chance) - 1,
    }


def _baseline(experiment: Experiment, score: Callable[[Tensor], Tensor]) -> float:
    low, high = (score(experiment.inside(experiment.splits.test, digits)) for digits in (LOW, HIGH))
    return auroc(low, high)


def _doubt(experiment: Experiment) -> Callable[[Tensor], Tensor]:
    """Max-softmax of a LeNet trained on the in-domain digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.seed, "lenet"))
        net = LeNet(classes=len(LOW))
        chosen = torch.isin(experiment.splits.train.labels, torch.tensor(LOW))
        images, labels = experiment.splits.train.images[chosen], experiment.splits.train.labels[chosen]
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(600):
            batch = torch.randint(len(labels), (32,))
            optimiser.zero_grad()
            cross_entropy(net(images[batch]), labels[batch]).backward()
            optimiser.step()
    net.eval().requires_grad_(False)
    return lambda x: softmax_doubt(net(x))


def table(found: Mapping[tuple[str, int], Values], seeds: list[int], test: ImageSet) -> str:
    """The table as Markdown."""
    counts = test.histogram()
    head = HEAD.format(
        seeds=", ".join(map(str, seeds)),
        inside=sum(counts[:5]),
        outside=sum(counts[5:]),
        channels=NETWORK.channels,
        steps=TRAIN.steps,
        batch=TRAIN.batch,
        digits=_steps(DIGITS),
        mnist=_steps(MNIST),
    )
    lines = [head, "", "| what | measured | prototype | must reach |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows(found, seeds)])


def _steps(fit: ClassifierTrainConfig) -> str:
    return (
        f"{fit.epochs} epoch{'s' if fit.epochs != 1 else ''} a round, step size {fit.lr:g}, momentum {fit.momentum:g}"
    )


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/novelty"))
    parser.add_argument("--mnist", type=Path, help="the folder above MNIST/raw; without it only digits")
    parser.add_argument("--present", action="store_true", help="measure nothing: a table of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write it into {README}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    splits = load(DataConfig())
    experiments = [Experiment(seed, arguments.out, splits) for seed in arguments.seeds]
    parts = PARTS | ({} if arguments.mnist is None else {"rounds": partial(rounds, config=on_mnist(arguments.mnist))})
    for experiment in () if arguments.present else experiments:
        for part, measure in parts.items():
            experiment.measured(part, measure)
    found = {(part, experiment.seed): values for experiment in experiments for part, values in experiment.present()}
    text = table(found, arguments.seeds, splits.test)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text)


if __name__ == "__main__":
    main()

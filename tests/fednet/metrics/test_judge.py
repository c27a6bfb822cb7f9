"""The judge knows digits, is the same every time, and refuses what it was not trained to see."""

import pytest
import torch

from fednet.api import Stopped
from fednet.data.datasets import Splits
from fednet.errors import MeasureError
from fednet.metrics.judge import Judge, augment, fraction_right, train_judge


class Counting:
    """A watch that remembers what it was told and stops after a while."""

    def __init__(self, stop_after: int) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.stop_after = stop_after

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.told.append((phase, done, total))
        if len(self.told) == self.stop_after:
            raise Stopped


def test_a_judge_of_digits_is_right(judge: Judge, splits: Splits) -> None:
    assert judge.accuracy(splits.test.images, splits.test.labels) >= 0.98
    assert judge.accuracy(splits.train.images, splits.train.labels) >= 0.97


def test_noise_is_not_taken_for_all_digits(judge: Judge) -> None:
    noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert judge.accuracy(noise, torch.arange(10).repeat(20)) < 0.2


def test_one_picture_is_judged_as_in_a_batch(judge: Judge, splits: Splits) -> None:
    images = splits.test.images[:40]
    alone = torch.cat([judge.features(image[None]) for image in images])
    torch.testing.assert_close(alone, judge.features(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(judge.probabilities(images).sum(1), torch.ones(40))


def test_the_seed_decides_and_the_global_generator_is_left_alone(splits: Splits) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (train_judge(splits.judge, seed=seed, steps=6) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    images = splits.test.images[:20]
    assert torch.equal(first.features(images), again.features(images))
    assert not torch.equal(first.features(images), other.features(images))


def test_training_tells_of_itself_and_can_be_stopped(splits: Splits) -> None:
    progress = Counting(stop_after=3)
    with pytest.raises(Stopped):
        train_judge(splits.judge, seed=0, progress=progress, steps=50)
    assert progress.told == [("judge", 10, 50), ("judge", 20, 50), ("judge", 30, 50)]


def test_wrong_ranges_are_refused(judge: Judge, splits: Splits) -> None:
    images = splits.test.images[:50]
    for wrong, said in (
        ((images + 1) / 2, r"look like \[0, 1\]"),
        ((images + 1) * 127.5, "look like bytes"),
        (images * 1.5, r"must lie in \[-1, 1\]"),
        (images * torch.nan, "50 of 50 pictures hold NaN"),
        (images.repeat(1, 3, 1, 1), r"knows \(1, 8, 8\) only"),
    ):
        with pytest.raises(MeasureError, match=said):
            judge.features(wrong)


def test_accuracy_wants_one_label_in_range_per_row() -> None:
    rows = torch.eye(3)
    assert fraction_right(rows, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    for labels in (
        torch.tensor([0, 1]),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0, 1, 3]),
        torch.tensor([-1, 0, 1]),
    ):
        with pytest.raises(MeasureError, match="labels"):
            fraction_right(rows, labels)


def test_augmentation_moves_a_little_and_stays_in_range(splits: Splits) -> None:
    images = splits.judge.images[:64]
    moved = augment(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.abs().max() <= 1 + 1e-6
    assert 0.01 < float((moved - images).square().mean()) < float((images.roll(1, 0) - images).square().mean())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_judge_on_cuda_is_right(splits: Splits) -> None:
    judge = train_judge(splits.judge, seed=0, device="cuda:0")
    assert judge.accuracy(splits.test.images, splits.test.labels) >= 0.98

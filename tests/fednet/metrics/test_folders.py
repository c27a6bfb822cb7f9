"""Two folders of pictures compare as their pictures do."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fednet.data.datasets import ImageSet, Splits
from fednet.errors import DataError, MeasureError
from fednet.images import to_bytes
from fednet.metrics.folders import compare
from fednet.metrics.frechet import frechet_distance
from fednet.metrics.judge import Judge
from fednet.reporting.samples import SAMPLES_FILE, SampleBatch, write_samples


def write(folder: Path, pictures: ImageSet, *, by_class: bool) -> None:
    for index, (pixels, label) in enumerate(zip(to_bytes(pictures.images), pictures.labels.tolist(), strict=True)):
        place = folder / pictures.classes[label] if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(place / f"{index:04}.png")


def test_it_measures_what_the_pictures_measure(tmp_path: Path, judge: Judge, splits: Splits) -> None:
    first, second = splits.test, splits.train.subset(torch.arange(380))
    write(tmp_path / "a", first, by_class=True)
    write(tmp_path / "b", second, by_class=True)
    found = compare(tmp_path / "a", tmp_path / "b", judge)
    direct = frechet_distance(judge.features(first.images), judge.features(second.images))
    assert found.counts == (360, 380)
    assert found.frechet == pytest.approx(direct, rel=0.02)
    assert set(found.by_class) == set("0123456789")
    assert not found.left_out


def test_classes_with_too_few_are_left_out_by_name(tmp_path: Path, judge: Judge, splits: Splits) -> None:
    write(tmp_path / "a", splits.test.subset(torch.arange(100)), by_class=True)
    write(tmp_path / "b", splits.test.subset(splits.test.labels.argsort()[:100]), by_class=True)
    found = compare(tmp_path / "a", tmp_path / "b", judge)
    assert not found.by_class
    assert found.left_out["0"] == "10 and 36 pictures; 33 are needed on each side"
    assert found.left_out["9"] == "10 and 0 pictures; 33 are needed on each side"


def test_a_flat_folder_with_itself_is_at_zero(tmp_path: Path, judge: Judge, splits: Splits) -> None:
    write(tmp_path, splits.test.subset(torch.arange(60)), by_class=False)
    found = compare(tmp_path, tmp_path, judge)
    assert found.frechet == pytest.approx(0, abs=1e-6)
    assert not found.by_class
    assert not found.left_out


def test_what_cannot_be_compared_is_refused(tmp_path: Path, judge: Judge, splits: Splits) -> None:
    with pytest.raises(DataError, match="not a folder"):
        compare(tmp_path / "nowhere", tmp_path, judge)
    with pytest.raises(DataError, match="holds no pictures"):
        compare(tmp_path, tmp_path, judge)
    write(tmp_path, splits.test.subset(torch.arange(10)), by_class=False)
    with pytest.raises(MeasureError, match="at least 33 samples"):
        compare(tmp_path, tmp_path, judge)


def test_tensors_of_samples_compare_as_they_are(tmp_path: Path, judge: Judge, splits: Splits) -> None:
    first, second = splits.test, splits.train.subset(torch.arange(380))
    write_samples(tmp_path / "a" / SAMPLES_FILE, SampleBatch(first.images, first.labels, (), first.classes))
    write_samples(tmp_path / "b.safetensors", SampleBatch(second.images, second.labels, (), second.classes))
    (tmp_path / "a" / "grid.png").touch()  # no further sample
    comparison = compare(tmp_path / "a", tmp_path / "b.safetensors", judge)
    assert comparison.counts == (360, 380)
    assert comparison.frechet == frechet_distance(judge.features(first.images), judge.features(second.images))
    assert set(comparison.by_class) == set("0123456789")
    write_samples(tmp_path / "c.safetensors", SampleBatch(torch.zeros(3, 3, 9, 9), None))
    with pytest.raises(DataError, match=r"holds images \(3, 9, 9\); the judge's are \(1, 8, 8\)"):
        compare(tmp_path / "c.safetensors", tmp_path / "a", judge)

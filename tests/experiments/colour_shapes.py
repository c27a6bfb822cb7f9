"""Images of 64 x 64 in colour, from folders to samples: one site trains on its folder, another brings its own model.

    python tests/experiments/colour_shapes.py [--steps 1500] [--images 48] [--out runs/colour-shapes]

Makes `OUT/a` with circles and squares and `OUT/b` with triangles and crosses, each class in a colour of its own, the
same pixels every time; writes `OUT/shapes.yaml`, in which a trains on its folder and b has `kernel_denoiser.py` as
`model: {kind: python}`, and launches it. With `--steps 0` a brings such a model, too, and nothing is trained. To look
at: `OUT/runs/shapes/samples/mixture/grid.png`, which has all four.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
DENOISER = Path(__file__).with_name("kernel_denoiser.py")
Grid = NDArray[np.float64]
SHAPES: dict[str, tuple[str, tuple[int, int, int], Callable[[Grid, Grid], NDArray[np.bool_]]]] = {
    "circle": ("a", (230, 80, 60), lambda x, y: x**2 + y**2 < 1),
    "square": ("a", (240, 200, 60), lambda x, y: np.maximum(abs(x), abs(y)) < 0.9),
    "triangle": ("b", (80, 200, 120), lambda x, y: (y < 0.8) & (y > 2 * abs(x) - 1)),
    "cross": ("b", (90, 130, 240), lambda x, y: (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 1)),
}
"""By class: its site, its colour, and which points belong to it, in units of the shape's size."""


def picture(shape: str, random: np.random.Generator) -> Image.Image:
    """A shape on dark ground, moved by up to 6 pixels, of 18 to 24 pixels from its middle to its edge."""
    _, colour, inside = SHAPES[shape]
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    (right, down), size = random.uniform(-6, 6, 2), random.uniform(18, 24)
    pixels = np.full((SIZE, SIZE, 3), 24.0)
    pixels[inside((x - right) / size, (y - down) / size)] = colour
    return Image.fromarray(np.clip(pixels + random.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8))


def make_folders(out: Path, images: int) -> None:
    """`a/circle/*.png` and so on, so many images of each class."""
    random = np.random.default_rng(0)
    for shape, (site, _, _) in SHAPES.items():
        folder = out / site / shape
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for index in range(images):
            picture(shape, random).save(folder / f"{index:03d}.png")


def own_model(folder: Path, images: int) -> dict[str, Any]:
    """A site that brings the denoiser of a folder, of which nothing else is read."""
    model = {
        "kind": "python", "object": f"{DENOISER.stem}:make", "shape": [3, SIZE, SIZE], "pictures": 2 * images,
        "options": {"folder": str(folder.resolve())},
    }  # fmt: skip
    return {"model": model}


def configuration(images: int, steps: int, out: Path) -> dict[str, Any]:
    """What is launched."""
    return {
        "name": "shapes",
        "method": "score-inference",
        "data": {"name": "folder", "root": "a", "size": SIZE, "channels": 3},
        "nodes": {
            "a": {"data": {"root": "a"}} if steps else own_model(out / "a", images),
            "b": own_model(out / "b", images),
        },
        "model": {"channels": [16, 32, 32, 64], "attention": False},
        "train": {"steps": max(1, steps)},
        "sampler": {"kind": "euler-maruyama", "steps": 100},
        "samples": {"total": 20},
        "arms": {"mixture": {"rule": "mixture"}},
        "measure": None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="batches of a's training; 0: none, see above")
    parser.add_argument("--images", type=int, default=48, help="of each class")
    parser.add_argument("--out", type=Path, default=Path("runs/colour-shapes"))
    given = parser.parse_args()
    make_folders(given.out, given.images)
    shutil.copy(DENOISER, given.out)
    text = yaml.safe_dump(configuration(given.images, given.steps, given.out), sort_keys=False)
    (given.out / "shapes.yaml").write_text(text, "utf-8")
    command = [str(Path(sys.executable).with_name("fednet")), "launch", "shapes.yaml"]
    raise SystemExit(subprocess.run(command, cwd=given.out, check=False).returncode)


if __name__ == "__main__":
    main()

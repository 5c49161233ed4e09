"""Measure whether fractals limit the speed of training: the time to render them once, and the time to form batches.

python benchmarks/fractals_speed.py [--picture FILE]    half a minute on one core
"""

from __future__ import annotations

import argparse
import time

import torch
from figures import keep
from PIL import Image

from explorer import Rates, SearchSpace
from explorer.data import ResidentData, TrainStream
from explorer.data.fractals import open_fractals
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

SPACE = "benchmarks/methods/all.yaml"
BATCHES = 2000


def draw(data: ResidentData, path: str, across: int = 16, shown: int = 2) -> None:
    """Training images, one class per row, with each pixel `shown` pixels wide."""
    images_NHW, labels_N = data.images["train"][:, 0], data.labels["train"]
    rows = [torch.cat(list(images_NHW[labels_N == label][:across]), dim=1) for label in range(data.classes)]
    pixels = torch.cat(rows).repeat_interleave(shown, 0).repeat_interleave(shown, 1)
    Image.fromarray(pixels.numpy()).save(path, optimize=True)


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", help="PNG file to write some images to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(SPACE)
    begun = time.perf_counter()
    data = open_fractals(space.data)
    rendering = time.perf_counter() - begun
    if options.picture:
        draw(data, options.picture)
    images = sum(len(labels) for labels in data.labels.values())
    begun = time.perf_counter()
    for _ in data.train_batches(TrainStream(seed=0, steps=BATCHES, batch_size=16)):
        pass
    forming = (time.perf_counter() - begun) / BATCHES
    step = step_seconds(Task(space.task.with_settings(1e-3, 16)), Rates(heads=0.5, mlp=0.5, tokens=0.5))
    print(
        f"{images} images of {space.data.image_size} px rendered in {rendering:.1f} s ({images / rendering:.0f} a second); "
        f"a batch of 16 is formed in {1000 * forming:.2f} ms, {forming / step:.1%} of the smallest stage's step"
    )
    few_large = space.data.fractals.model_copy(update={"classes": 2, "instances": 80, "held_out": 1})
    large = space.data.model_copy(update={"image_size": 224, "fractals": few_large})
    begun = time.perf_counter()
    few = sum(len(labels) for labels in open_fractals(large).labels.values())
    each = (time.perf_counter() - begun) / few
    print(f"at 224 px: {1 / each:.0f} images a second")
    keep("fractals of 32 px rendered a second", images / rendering, 0.5)
    keep("forming a batch, share of the smallest stage's step", forming / step, 2.0)


if __name__ == "__main__":
    main()

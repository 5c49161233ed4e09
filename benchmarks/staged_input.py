"""Does a data loader keep up with a small stage, and does its memory stay the same when the data set grows?

    python benchmarks/staged_input.py [--rounds 5] [--device cuda]

1. A staged training of vit_tiny at 64 pixels (stages of .25 and 1 on heads, MLP and tokens), from JPEG files that one
   loader process decodes, and from decoded images in memory: the ratio of their seconds of training, in turn.
2. Memory that a loader process has for itself after an epoch of small images, for data sets of two sizes (Linux only).

The last line has the ratio of 1 and, of 2, the bytes for each further image. It exits with 1 if the ratio is above 1.05, or
a loader grows by more than 32 bytes per image: an epoch's order of the images takes 8, and as many while it is drawn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from figures import keep
from input_rates import SPLITS, write_images
from timed_step import where

from explorer import Budget, Rates, Schedule, Stage, compile_plan
from explorer.data import StreamedData, TrainStream, open_data
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task

SIDE, FILE_SIDE = 64, 80
SMALL = Rates(heads=0.25, mlp=0.25, tokens=0.25)
SCHEDULE = Schedule(stages=(Stage(rates=SMALL, duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)))
MAX_RATIO, MAX_BYTES_PER_IMAGE = 1.05, 32.0


def main() -> None:
    """Measure, print, and exit with 1 if a loader is too slow or grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=512, help="training images of the first measurement")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--sizes", type=int, nargs=2, default=(2000, 20000), help="images of the data sets of the second one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(where(options.device))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        root = write_images(Path(folder, "images"), options.images, FILE_SIDE, FILE_SIDE)
        files = staged_seconds(root, "off", options.device, options.epochs)
        resident = staged_seconds(root, "device" if options.device == "cuda" else "cpu", options.device, options.epochs)
        rounds = [(next(files), next(resident)) for _ in range(options.rounds + 1)][1:]
    ratio = median(of_files / in_memory for of_files, in_memory in rounds)
    print(f"staged training: from files {median(r[0] for r in rounds):.2f} s, from memory {median(r[1] for r in rounds):.2f} s")
    keep("staged training from files, of the same from memory", ratio, 0.05)
    each = bytes_per_image(*options.sizes)
    print(f"files over memory {ratio:.3f}; memory of a loader {each:.1f} bytes per image")
    sys.exit(0 if ratio <= MAX_RATIO and each <= MAX_BYTES_PER_IMAGE else 1)


def staged_seconds(root: Path, resident: str, device: str, epochs: float):
    """Seconds of the steps of one staged training after another."""
    task = Task(
        TaskSpec.model_validate(
            {
                "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 8}},
                "data": {
                    "name": "folder",
                    "root": str(root),
                    **SPLITS,
                    "image_size": SIDE,
                    "num_workers": 1 if resident == "off" else 0,
                    "resident": resident,
                },
                "recipe": {
                    "epochs": epochs,
                    "batch_size": 32,
                    "learning_rate": 1e-3,
                    "augmentation": {"backend": "tensor", "transform": {"color_jitter": None}},
                },
            }
        )
    )
    plan = compile_plan(SCHEDULE, task, Budget(1.0), task.step_cost)
    while True:
        yield train(task, plan, seed=0, device=device).seconds


def bytes_per_image(few: int, many: int) -> float:
    """How much private memory of a loader process grows with each further image of the data set, after an epoch."""
    sizes = []
    for images in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            root = write_images(Path(folder, "images"), images, 8, 8)
            source = open_data(DataSpec(name="folder", root=str(root), **SPLITS, image_size=8, num_workers=1, resident="off"))
            assert isinstance(source, StreamedData)
            stream = TrainStream(
                seed=0, steps=source.train_images // 20, batch_size=20, augmentation=Augmentation(backend="tensor")
            )
            private = [private_bytes() for _ in source.with_backend("tensor").packed_batches(stream)]
        sizes.append(max(private))
        print(f"{images} images: a loader process has {max(private) / 2**20:.1f} MiB for itself")
    return (sizes[1] - sizes[0]) / (many - few)


def private_bytes() -> int:
    """Memory that no other process shares, of the loader process of this process; 0 after it has ended."""
    for process in multiprocessing.active_children():
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        return sum(1024 * int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))
    return 0


if __name__ == "__main__":
    main()

"""Images per second and core from a folder of JPEG files of 500 x 375 pixels, with DeiT's recipe at 224 pixels.

    python benchmarks/input_rates.py [--images 64] [--rounds 5] [--batch 32]

One process and one thread, all ways in turn and interleaved; seconds are those of the CPU. The first table has what one core
does for a training on a GPU:

- `pil`: Pillow decodes and timm's transforms augment, image by image; everything is done by the core;
- `decode, tensor on GPU`: torchvision decodes, random numbers are drawn, and the crops packed into one tensor; the GPU does the
  rest;
- `cache, tensor on GPU`: the same from the decoded file, with a short side of 256 pixels.

The second table has the same for a training on the CPU, where the core also resizes, augments and normalizes. A third one
times the evaluation (resize and central crop) of both backends, and the forward pass of DeiT-S. With a GPU, a fourth one has
the images per second of the tensor backend there, from the cache and from the GPU's memory.

The last line has the ratios of the medians of the first table to `pil`: cache and decode. The exit code is 1 below 6 and 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image

from explorer.data import Batch, StreamedData, TrainStream, open_data
from explorer.spec.data import CacheSpec, DataSpec
from explorer.spec.recipe import Augmentation

DEIT = {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.25, "re_mode": "pixel", "interpolation": "bicubic"}
SIDE = 224
CACHED_SIDE = 256
MIN_CACHED, MIN_DECODED = 6.0, 2.0
CPU = torch.device("cpu")
SPLITS = {"validation_split": "validation", "test_split": "test"}


def main() -> int:
    """Write the images, time all ways, print tables and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="training images in the folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        root = Path(folder, "images")
        write_images(root, arguments.images)
        files = DataSpec(name="folder", root=str(root), **SPLITS, image_size=SIDE, resident="off")
        cached = files.model_copy(update={"cache": CacheSpec(short_side=CACHED_SIDE)})
        sources = {
            "pil": opened(files, "pil"),
            "decode, tensor": opened(files, "tensor"),
            "cache, tensor": opened(cached, "tensor"),
        }
        on_gpu = {
            f"{name} on GPU": packed_batches(sources[name], arguments.batch) for name in ("decode, tensor", "cache, tensor")
        }
        on_cpu = {name: training_batches(source, arguments.batch, CPU) for name, source in sources.items()}
        rates = interleaved(on_cpu | on_gpu, arguments.rounds)
        print_table("training on a GPU: images per second and core", {name: rates[name] for name in ("pil", *on_gpu)}, "pil")
        print_table("training on the CPU: images per second and core", {name: rates[name] for name in on_cpu}, "pil")
        evaluated = {name: evaluation_batches(source) for name, source in sources.items()}
        evaluated["forward pass of DeiT-S"] = forward_passes()
        print_table("evaluation images per second and core", interleaved(evaluated, max(1, arguments.rounds // 2)), "pil")
        if torch.cuda.is_available():
            print_table("training images per second on the GPU", gpu_rates(cached, arguments), "cache, tensor")
    with_cache, decoded = (median(rates[name]) / median(rates["pil"]) for name in reversed(on_gpu))
    print(f"cache / pil: {with_cache:.2f}; decode / pil: {decoded:.2f}")
    return 0 if with_cache >= MIN_CACHED and decoded >= MIN_DECODED else 1


def write_images(root: Path, train_images: int, width: int = 500, height: int = 375) -> Path:
    """Two classes of photograph-like JPEG files: smooth color with grain, about 60 kB each at the default size."""
    generator = np.random.default_rng(0)
    for split, images in (("train", train_images), ("validation", 32), ("test", 32)):
        for number in range(images):
            folder = root / split / ("even" if number % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            colors = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            smooth = colors.resize((width, height), Image.BICUBIC)
            grain = generator.normal(0, 8, (height, width, 1))
            pixels = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return root


def opened(spec: DataSpec, backend: str) -> StreamedData:
    """The folder for a backend."""
    source = open_data(spec)
    assert isinstance(source, StreamedData)
    return source.with_backend("tensor" if backend == "tensor" else "pil")


Round = Callable[[], int]
"""Reads some images and returns how many."""


def stream_of(source: StreamedData, batch: int, device: torch.device) -> TrainStream:
    """An epoch."""
    return TrainStream(
        seed=0,
        steps=max(1, source.train_images // batch),
        batch_size=min(batch, source.train_images),
        augmentation=Augmentation(transform=DEIT, backend=source.backend),
        device=device,
    )


def training_batches(source: StreamedData, batch: int, device: torch.device) -> Round:
    """An epoch of augmented batches."""
    return lambda: counted(source.train_batches(stream_of(source, batch, device)))


def packed_batches(source: StreamedData, batch: int) -> Round:
    """An epoch of batches as a process of the data loader hands them over."""
    return lambda: sum(len(packed.indices) for packed in source.packed_batches(stream_of(source, batch, CPU)))


def evaluation_batches(source: StreamedData) -> Round:
    """The test images."""
    return lambda: counted(source.evaluation_batches("test", CPU))


def counted(batches: Iterator[Batch]) -> int:
    """Number of images in some batches, when all are there."""
    images = sum(len(labels) for _, labels in batches)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return images


def forward_passes() -> Round:
    """What evaluation is not to be slower than: 8 images through the model."""
    model = timm.create_model("deit_small_patch16_224").eval()
    images = torch.randn(8, 3, SIDE, SIDE)

    def forward() -> int:
        with torch.inference_mode():
            model(images)
        return len(images)

    return forward


def interleaved(ways: dict[str, Round], rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, list[float]]:
    """Images per second of each way in each round; all ways take turns, after a round that is not counted.

    By default, seconds are those of the CPU, which other processes on a busy machine do not change much.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            images = way()
            if number:
                rates[name].append(images / (clock() - started))
    return rates


def gpu_rates(cached: DataSpec, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The tensor backend on the GPU, with 8 processes that read, or with all images in its memory."""
    spec = cached.model_copy(update={"num_workers": min(8, os.cpu_count() or 1)})
    device = torch.device("cuda")
    ways = {
        "cache, tensor": training_batches(opened(spec, "tensor"), arguments.batch, device),
        "GPU memory, tensor": training_batches(opened(spec.model_copy(update={"resident": "device"}), "tensor"), 64, device),
    }
    return interleaved(ways, arguments.rounds, time.perf_counter)


def print_table(title: str, rates: dict[str, list[float]], base: str) -> None:
    """Median, smallest and largest rate, and the ratio of medians to one of the ways."""
    print(title)
    for name, values in rates.items():
        ratio = median(values) / median(rates[base])
        print(f"  {name:24} {median(values):9.1f}  ({min(values):.1f} to {max(values):.1f}), {ratio:.2f} of {base}")


if __name__ == "__main__":
    sys.exit(main())

"""Where the images of a data set are read from: the originals, a file of decoded images, or the memory of a GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explorer.data.array_images import ModelImage
from explorer.data.decoded_cache import DecodedCache, gigabytes
from explorer.data.decoded_file import DecodedFile, Pixels
from explorer.data.image_access import decoded_image, rgb_pixels
from explorer.data.opened_split import OpenedSplit
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec

if TYPE_CHECKING:
    from rich.console import Console

DEVICE_SHARE = 0.25
"""Largest share of a GPU's free memory that `resident: auto` takes."""
HOST_SHARE = 0.5
"""Largest share of free memory, and of the free space of a disk, that `resident: auto` takes."""
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class SplitImages:
    """The images of a split, wherever they are."""

    split: OpenedSplit
    exif_orientation: str
    file: DecodedFile | None = None
    """The decoded images; `None` decodes the originals."""
    first: int = 0
    """Place of the first image of the split in the file."""
    on_device: Tensor | None = None
    """All pixels of the file, uint8, in the memory of the device that trains."""
    subset: Sequence[int] | None = None
    """Place of each image among those of the split that the file holds; `None` if it holds the same ones."""

    def number_in_file(self, index: int) -> int:
        """Number of an image in the file."""
        return self.first + (index if self.subset is None else self.subset[index])

    def __len__(self) -> int:
        return len(self.split.numbers)

    def image(self, index: int) -> tuple[ModelImage, Any]:
        """An image in RGB, or a tensor where those of the data set are tensors; and its target."""
        target = self.split.labels[index]
        if self.file is not None:
            return Image.fromarray(self.file[self.number_in_file(index)]), target
        return decoded_image(self.split.data, self.split.numbers[index], self.split.of, self.exif_orientation), target

    def pixels(self, index: int) -> Pixels:
        """The pixels of an image, (H, W, 3)."""
        if self.file is not None:
            return self.file[self.number_in_file(index)]
        return rgb_pixels(self.split.data, self.split.numbers[index], self.split.of, self.exif_orientation)

    def on_host(self) -> SplitImages:
        """The same without the copy on the device, for processes that load data."""
        return replace(self, on_device=None)


class Residence:
    """Decides once where decoded images are kept, and opens them. Nothing is read before they are needed.

    Args:
        spec: `cache` and `resident` say what is wanted.
        splits: the images by role.
    """

    def __init__(self, spec: DataSpec, splits: Mapping[str, OpenedSplit]) -> None:
        self._spec, self._splits = spec, splits
        self._cache: DecodedCache | None = None
        self._file: DecodedFile | None = None
        self._places: dict[tuple[str, torch.device], Literal["device", "cpu", "off"]] = {}
        self._on_device: dict[torch.device, Tensor] = {}

    def split(self, role: str, backend: str, device: torch.device) -> SplitImages:
        """The images of a split for a backend and a device.

        Raises:
            InvalidInput: see `file`.
        """
        split, exif = self._splits[role], self._spec.exif_orientation
        file = self.file(backend, device)
        if file is None:
            return SplitImages(split, exif)
        on_device = None
        if backend == "tensor" and self._place(backend, device) == "device":
            if device not in self._on_device:
                self._on_device[device] = torch.from_numpy(np.array(file.pixels)).to(device)
            on_device = self._on_device[device]
        return SplitImages(split, exif, file, self.cache.first[role], on_device)

    @property
    def cache(self) -> DecodedCache:
        """The file of decoded images, written or not."""
        if self._cache is None:
            self._cache = DecodedCache(self._spec, self._splits)
        return self._cache

    def file(self, backend: str, device: torch.device, console: Console | None = None) -> DecodedFile | None:
        """The decoded images, written now if they are wanted and missing; `None` if the originals are decoded.

        Raises:
            InvalidInput: when there is too little space or memory, or the file is out of date or of other images.
        """
        if self._file is None and (self._spec.cache is not None or self._place(backend, device) != "off"):
            self._file = self.cache.open_or_write(console)
        wanted = self._spec.cache is not None or self._place(backend, device) != "off"
        return self._file if wanted else None

    def _place(self, backend: str, device: torch.device) -> Literal["device", "cpu", "off"]:
        """Where all decoded images are kept in memory."""
        if (backend, device) not in self._places:
            self._places[backend, device] = self._chosen_place(backend, device)
        return self._places[backend, device]

    def _chosen_place(self, backend: str, device: torch.device) -> Literal["device", "cpu", "off"]:
        wanted = self._spec.resident
        if wanted == "off" or (wanted == "auto" and backend == "pil"):
            return "off"
        needed = self.cache.needed_bytes()
        if wanted in ("auto", "device") and device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            if needed <= free * (DEVICE_SHARE if wanted == "auto" else 1):
                return "device"
            if wanted == "device":
                allowed = f"needs about {gigabytes(needed)}, and {gigabytes(free)} of the GPU's memory are free"
                raise InvalidInput("data.resident", wanted, allowed)
        if wanted == "device":
            raise InvalidInput("data.resident", wanted, "training is on the CPU; must be auto, cpu or off")
        memory = available_memory()
        if wanted == "cpu":
            if needed > memory:
                room = f"needs about {gigabytes(needed)}, and {gigabytes(memory)} of memory are available"
                raise InvalidInput("data.resident", wanted, f"{room}; must be auto or off")
            return "cpu"
        space = self.cache.free_bytes() if not self.cache.is_complete else needed / HOST_SHARE
        return "cpu" if needed <= HOST_SHARE * min(memory, space) else "off"


def available_memory() -> int:
    """Bytes of memory that processes can still use here, within the limit of a container."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())  # `max` where there is none
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        used = int((CGROUP / "memory.current").read_text()) - int(statistics["inactive_file"])
        available = min(available, max(0, limit - used))
    return available

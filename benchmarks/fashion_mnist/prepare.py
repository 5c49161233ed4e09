"""Put the files of Fashion-MNIST into a folder, for `EXPLORER_FASHION_MNIST`.

    python benchmarks/fashion_mnist/prepare.py FOLDER    from Debian's package dataset-fashion-mnist, or a download without it

70,000 gray images of 28 x 28 pixels, MIT license (Xiao, Rasul and Vollgraf, arXiv 1708.07747). The wheel has none of them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
from pathlib import Path

from torchvision.datasets import FashionMNIST

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where `apt-get install dataset-fashion-mnist` puts the compressed files."""
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Digests of the files that the figures were measured with, unpacked. Debian compresses them differently."""


def unpack(source: Path, raw: Path) -> None:
    """Unpack the compressed files of a folder into another."""
    raw.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        with gzip.open(source / f"{name}.gz") as packed, (raw / name).open("wb") as file:
            shutil.copyfileobj(packed, file)


def check(raw: Path) -> None:
    """Check the digests of the unpacked files.

    Raises:
        ValueError: when a file is not the one that the figures were measured with.
    """
    for name, digest in SHA256.items():
        if hashlib.sha256((raw / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{raw / name}: not the file of Fashion-MNIST that was measured with")


def main() -> None:
    """Unpack or download the files, and say what to set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--debian", type=Path, default=DEBIAN, help="folder of the compressed files")
    options = parser.parse_args()
    raw = options.folder / "FashionMNIST" / "raw"  # where torchvision expects them
    if options.debian.is_dir():
        unpack(options.debian, raw)
    else:
        FashionMNIST(options.folder, download=True)
    check(raw)
    print(f"export EXPLORER_FASHION_MNIST={options.folder.resolve()}")


if __name__ == "__main__":
    main()

"""Small data sets on disk, one for each kind of source that reads files."""

import io
import struct
import tarfile

import numpy as np
import pytest

from explorer.data import registry
from explorer.spec import DataSpec
from tests.docs.blocks import ROOT

EXTENDING = ROOT / "examples" / "extending"


def folder_spec(folder, **changes) -> DataSpec:
    return DataSpec(**{"name": "folder", "root": str(folder), "image_size": 16, **changes})


@pytest.fixture(scope="session")
def tar_shards(image_folder, tmp_path_factory):
    """The images of the folder as tar files in the WebDataset format: three of training, one of validation."""
    root = tmp_path_factory.mktemp("shards")
    for split, count in (("train", 3), ("validation", 1)):
        files = [
            (path, label)
            for label, name in enumerate(("bright", "dark"))
            for path in sorted((image_folder / split / name).iterdir())
        ]
        for number in range(count):
            with tarfile.open(root / f"{split}-{number:03d}.tar", "w") as archive:
                for key, (path, label) in enumerate(files[number::count]):
                    for name, content in ((f"{key:04d}.png", path.read_bytes()), (f"{key:04d}.cls", str(label).encode())):
                        entry = tarfile.TarInfo(name)
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
    return root


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """40 training and 12 test images of noise, in the files of MNIST: big-endian headers, then bytes."""
    root = tmp_path_factory.mktemp("mnist")
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 12)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())
    return root


@pytest.fixture
def hugging_face(image_folder, tmp_path_factory, monkeypatch) -> DataSpec:
    """A Hugging Face data set made of the folder; nothing is requested from the network."""
    pytest.importorskip("datasets", reason="pip install 'vit-budget-explorer[hfds]'")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    cache = tmp_path_factory.getbasetemp() / "hugging_face"
    return folder_spec(cache, name=f"hfds/{image_folder}")


@pytest.fixture
def extending(monkeypatch):
    """The folder of the examples, importable as a user's own modules are."""
    monkeypatch.syspath_prepend(EXTENDING)
    return EXTENDING


@pytest.fixture
def clean_registry(monkeypatch):
    """Sources that a test registers are forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    yield
    registry._open.cache_clear()

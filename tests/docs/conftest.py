"""A folder as the pages assume it: a search space, its finished sweep, and a schedule."""

import shutil

import pytest
import timm
import torch
from torch.utils.data import DataLoader

from explorer import SearchSpace
from explorer.ledger import Ledger, SweepHeader
from explorer.search.search import Search
from explorer.sweep.trial import run_trial
from tests.conftest import TINY_SPACE, made_once
from tests.docs.blocks import ROOT

SPACE = (
    TINY_SPACE.replace("name: tiny", "name: digits")
    .replace("epochs: 2", "epochs: 1")
    .replace("budgets: [25%, 50%]", "budgets: [20%, 40%]")
    .replace("trials: 2", "trials: 1")
    .replace("batch_size: [16, 32]", "batch_size: [32]")
    .replace("stages: 3", "stages: 2\n  repeat: 1\n  repeat_seeds: 2")
)
"""A sweep of a few seconds in the place of digits.yaml."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A real sweep, whose trials run one at a time without Ray."""

    def sweep(folder):
        torch.set_num_threads(1)
        (folder / "search_spaces").mkdir()
        path = folder / "search_spaces" / "digits.yaml"
        path.write_text(SPACE)
        space = SearchSpace.load(path)
        ledger = Ledger(folder / "sweeps" / "digits")
        header = SweepHeader(name="digits", space=space, created=1.0, versions={}, hardware="here")
        ledger.create(header)
        search = Search(space)
        while len(ledger.records()) < search.planned:
            search.finished(run_trial(search.next(), space, ledger))

    return made_once(tmp_path_factory, "pages", sweep)


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of it to work in, with the files that pages assume."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for name in ("best.json", "proxy-best.json"):
        shutil.copy(ROOT / "reports" / "digits" / "schedules" / "20pct.json", tmp_path / name)
    shutil.copytree(tmp_path / "sweeps" / "digits", tmp_path / "sweeps" / "proxy")
    shutil.copy(tmp_path / "search_spaces" / "digits.yaml", tmp_path / "target.yaml")
    for label in ("daisy", "tulip"):
        (tmp_path / "images" / "train" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "images" / "train" / label / f"{number:02d}.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def namespace(monkeypatch):
    """Names that pages use and do not define; timm models are replaced by small ones."""
    original = timm.create_model
    small = {"patch_size": 112, "embed_dim": 32, "depth": 1, "num_heads": 4}

    def create_model(name="", **options):
        name = options.pop("model_name", name)
        return original(name, **options if "patch_size" in options else {**options, **small})

    monkeypatch.setattr(timm, "create_model", create_model)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    images, labels = torch.randn(5, 3, 224, 224), torch.arange(5)
    return {
        "__name__": "__main__",
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-3),
        "loader": DataLoader([(images, labels)], batch_size=None),
        "test_loader": DataLoader([(images, labels)], batch_size=None),
        "images_and_labels": [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)],
    }

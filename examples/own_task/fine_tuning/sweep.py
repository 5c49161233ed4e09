"""Fine-tune weights of one's own on a data set of one's own, in a sweep that is written in Python.

    PYTHONPATH=. python sweep.py

The weights are those of a model that was trained on the digits from 0 to 4; it is fine-tuned to those from 5 to 9.
"""

import argparse
from pathlib import Path

import timm
import torch
from handwriting import Handwriting
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from explorer import SearchSpace, Sweep
from explorer.ledger import Ledger
from explorer.report.page import write_report

NAME = "vit_tiny_patch16_224"
OPTIONS = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4}


def pretrain(path: Path) -> None:
    """Train a model in a plain loop, as somebody else's weights were made."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, img_size=8, in_chans=2, num_classes=5, **OPTIONS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(3):
        for batch in DataLoader(Handwriting("train", first=0), batch_size=64, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(model(batch["image"]), batch["label"]).backward()
            optimizer.step()
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    torch.save({"state_dict": weights}, path)


def main() -> None:
    """Make the weights, sweep, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sweeps")
    options = parser.parse_args()

    checkpoint = Path("pretrained.pt").absolute()
    if not checkpoint.exists():
        pretrain(checkpoint)
    space = SearchSpace.model_validate(
        {
            "name": "handwriting",
            "model": {"name": NAME, "options": OPTIONS, "checkpoint": str(checkpoint)},
            "data": {
                "name": Handwriting,  # a class at the top level of a module, which workers import by its name
                "image_size": 8,
                "test_split": "test",
                "preprocessing": {"mean": [0.3, 0.2], "std": [0.4, 0.3], "crop_pct": 1},
            },
            "recipe": {
                "epochs": 16,
                "batch_size": 32,
                "learning_rate": 4e-3,
                "layer_decay": 0.8,
                "frozen": {"parts": ["patch_embed"], "until": 0.25},
                "augmentation": {"transform": {"scale": [0.8, 1], "hflip": 0, "color_jitter": None}},
            },
            "staging": {"subset": "importance"},
            "budgets": ["25%", "50%"],
            "search": {
                "trials": [3, 2],
                "baseline_trials": 1,
                "repeat": 1,
                "repeat_seeds": 2,
                "stages": 2,
                "grid": 10,
                "rates": {"heads": [0.5, 1], "mlp": [0.5, 1]},
                "learning_rate": [2e-3, 8e-3],
                "batch_size": [32],
            },
        }
    )
    sweep = Sweep(space, storage=options.storage)
    sweep.run()
    report = write_report(Ledger(sweep.location), f"reports/{space.name}")
    print(report.headline)
    print(f"schedule: {sweep.best('50%').save('best.json')}")


if __name__ == "__main__":
    main()

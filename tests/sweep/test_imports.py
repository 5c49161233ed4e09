"""A sweep whose model and layout are in a module of the user's, which is imported in the driver and in each worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from explorer.ledger import Ledger
from tests.conftest import RAY_SWEEP_MARKS

pytestmark = [*RAY_SWEEP_MARKS, pytest.mark.nightly]
ROOT = Path(__file__).parents[2]
SPACE = """
name: own
import: [own_models]
model: {{name: own_vit, checkpoint: {weights}}}
data: {{name: digits}}
recipe: {{epochs: 1, batch_size: 32, learning_rate: 2.0e-3}}
budgets: [10%]
search: {{trials: 1, baseline_trials: 1, stages: 2, grid: 4, rates: {{heads: [0.5, 1], mlp: [0.5, 1]}},
  learning_rate: [1.0e-3, 1.0e-3], batch_size: [32]}}
"""
MODULE = """

from timm.layers import Attention
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from explorer.elastic import Layout, register_layout

class OwnAttention(Attention):
    pass

register_layout(OwnAttention, Layout({"qkv": "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads", "attn_dim")))

@register_model
def own_vit(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **options):
    return VisionTransformer(patch_size=2, embed_dim=32, depth=1, num_heads=4, attn_layer=OwnAttention, **options)
"""


def test_a_sweep_of_a_model_of_the_users(tmp_path):
    (tmp_path / "own_models.py").write_text(MODULE)
    options = {"patch_size": 2, "embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": 8, "in_chans": 1, "num_classes": 4}
    torch.save(timm.create_model("vit_tiny_patch16_224", **options).state_dict(), tmp_path / "w.pt")
    (tmp_path / "own.yaml").write_text(SPACE.format(weights=tmp_path / "w.pt"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}

    def sweep(**changed):
        command = [sys.executable, "-m", "explorer", "sweep", str(tmp_path / "own.yaml"), "--storage", str(tmp_path / "sweeps")]
        return subprocess.run(
            command, env=environment | changed, capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path
        )

    done = sweep()
    assert done.returncode == 0, done.stderr
    ledger = Ledger(str(tmp_path / "sweeps" / "own"))
    records = ledger.records()
    assert [record.failure for record in records] == [None, None]
    written = json.loads(ledger.header().model_dump_json())["space"]
    assert written["import"] == ["own_models"]
    assert len(written["model"]["weights_sha256"]) == 64
    # Reading the sweep imports nothing: its module need not be there.
    shown = subprocess.run(
        [sys.executable, "-m", "explorer", "status", str(tmp_path / "sweeps" / "own")],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    without = sweep(PYTHONPATH=str(ROOT), PYTHONSAFEPATH="1")
    assert without.returncode == 2
    assert "import: 'own_models': own_models cannot be imported: ModuleNotFoundError" in " ".join(without.stderr.split())
    torch.save(timm.create_model("vit_tiny_patch16_224", **options).state_dict(), tmp_path / "w.pt")
    other = sweep()
    assert other.returncode == 2
    assert "model.weights_sha256" in other.stderr

"""What the restructuring of issue 13 must not change, computed: digests of plans, weights and the page's numbers.

`python -m tests.unchanged.computed` prints them as JSON. `kept.json` was written by the release before the restructuring.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from explorer.ledger import Ledger
from explorer.plan import compile_plan
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import page_payload, panel_contents
from explorer.report.panels import PANELS
from explorer.spec.budget import Budget
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_space import SearchSpace
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task
from tests.report.synthetic import fill

GROWING = Schedule(
    stages=(
        Stage(rates=Rates(heads=0.25, mlp=0.25, tokens=0.25), duration_ratio=0.3),
        Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.3),
        Stage(rates=Rates(), duration_ratio=0.4),
    )
)
DEEPENING = Schedule(
    stages=(
        Stage(rates=Rates(heads=0.5, depth=0.5), duration_ratio=0.5),
        Stage(rates=Rates(), duration_ratio=0.5),
    )
)
TINY = {
    "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4}},
    "data": {"name": "digits", "image_size": 8},
    "recipe": {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3, "lr_schedule": {"kind": "linear", "warmup": 0.1}},
    "staging": {"growth": "initial"},  # the default of that release
}
TASKS: dict[str, dict[str, Any]] = {
    "plain": TINY,
    "averaged": {
        **TINY,
        "recipe": {
            **TINY["recipe"],
            "ema_decay": 0.99,
            "clip_grad": 1.0,
            "label_smoothing": 0.1,
            "accumulation": 2,
            "augmentation": {"shift": 1, "flip": True, "mixup": 0.2},
        },
        "staging": {"subset": "importance", "growth": "zero"},
    },
    "resized": {
        "model": {
            "name": "pvt_v2_b0",
            "options": {
                "embed_dims": [8, 16, 16, 16],
                "depths": [1, 1, 1, 1],
                "num_heads": [1, 2, 4, 4],
                "mlp_ratios": [2, 2, 2, 2],
            },
        },
        "data": {"name": "fractals", "image_size": 64, "fractals": {"classes": 3, "instances": 20, "held_out": 5}},
        "recipe": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "optimizer": "nadamw", "lr_schedule": {"kind": "wsd"}},
        "staging": {"token_policy": "resize", "growth": "initial"},
    },
}


def machine() -> str:
    """What the bits of a result depend on besides the code."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    import os

    settings = [os.environ.get(name, "") for name in ("OPENBLAS_CORETYPE", "MKL_CBWR")]
    return " ".join(
        [
            platform.machine(),
            cpu.partition(":")[2].strip(),
            torch.backends.cpu.get_cpu_capability(),
            torch.__version__,
            *settings,
        ]
    )


def plans() -> dict[str, str]:
    """Digests of the demo's kept schedules and two others at several budgets."""
    space = SearchSpace.load("search_spaces/digits.yaml")
    found = {}
    for path in sorted(Path("tests/unchanged/schedules").glob("*.json")):
        schedule = Schedule.load(path)
        provenance = schedule.provenance
        assert provenance is not None
        task = Task(space.task.with_settings(provenance.learning_rate, provenance.batch_size, provenance.staging))
        found[path.stem] = compile_plan(schedule, task, Budget.parse(provenance.budget), task.step_cost).digest()
    task = Task(space.task)
    for name, schedule in (("growing", GROWING), ("deepening", DEEPENING), ("full", Schedule.full_model())):
        for budget in ("5%", "33.3%", "100%"):
            found[f"{name} {budget}"] = compile_plan(schedule, task, Budget.parse(budget), task.step_cost).digest()
    return found


def weights() -> dict[str, dict[str, Any]]:
    """For each task and schedule: a digest of the trained weights, and numbers that do not depend on the machine's last bit."""
    torch.set_num_threads(1)
    found = {}
    for name, content in TASKS.items():
        for title, schedule in (("growing", GROWING), ("deepening", DEEPENING)):
            if name != "plain" and title == "deepening":
                continue
            if name == "resized":
                schedule = Schedule(
                    stages=(
                        Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.25), duration_ratio=0.5),
                        Stage(rates=Rates(), duration_ratio=0.5),
                    )
                )
            task = Task(TaskSpec.model_validate(content))
            compiled = compile_plan(schedule, task, Budget.parse("50%"), task.step_cost)
            result = train(task, compiled, seed=3)
            digest = hashlib.sha256()
            for key, tensor in sorted(result.model.state_dict().items()):
                digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
            found[f"{name} {title}"] = {
                "weights": digest.hexdigest(),
                "plan": compiled.digest(),
                "losses": [round(segment.mean_loss, 6) for segment in result.segments],
                "validation_accuracy": result.validation,
                "test_accuracy": result.test,
            }
    return found


def page() -> dict[str, str]:
    """Digests of the numbers in each figure, and in the chooser, of a page of 200 synthetic trials."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"{folder}/large")
        fill(ledger, 200)
        sweep = LoadedSweep.read(ledger, price=2.5)
    payload = page_payload(sweep, panel_contents(sweep, PANELS))
    parts: dict[str, object] = {each.name: each.figure or each.by_budget for each in payload.figures}
    assert payload.chooser is not None
    parts["chooser"] = asdict(payload.chooser)
    return {name: numbers_digest(part) for name, part in sorted(parts.items())}


def numbers_digest(part: object) -> str:
    """Hash of all numbers in nested data, in order of keys, to six digits; names and wording do not matter."""
    found: list[str] = []

    def walk(value: object, key: str = "") -> None:
        if isinstance(value, dict):
            if "bdata" in value:  # plotly's packed arrays
                import base64

                import numpy as np

                walk(np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"]).tolist())
                return
            if key not in ("layout", "file"):  # looks; schedule files have a test of their own
                for name in sorted(value):
                    walk(value[name], name)
        elif isinstance(value, list | tuple):
            for each in value:
                walk(each)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(f"{value:.6g}")

    walk(part)
    return f"{len(found)} {hashlib.sha256(' '.join(found).encode()).hexdigest()[:16]}"


if __name__ == "__main__":
    json.dump({"machine": machine(), "plans": plans(), "weights": weights(), "page": page()}, sys.stdout, indent=1)

"""Train with a schedule to a folder: weights that plain timm loads, and the figures beside them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file

from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.training import loop
from explorer.training.task import Task

WEIGHTS, RESULT, CHECKPOINT = "weights.safetensors", "result.json", "checkpoint.pt"


def train_to_folder(
    task: Task, compiled: Plan, *, seed: int, threads: int, device: str, out: Path, console: Console
) -> loop.TrainingResult:
    """Train and write `weights.safetensors`, `result.json` and, after each segment, `checkpoint.pt` under `out`.

    A run that stopped goes on from the checkpoint when called again with the same arguments.

    Args:
        task: model, data and recipe.
        compiled: the plan to execute.
        seed: of the run.
        threads: CPU threads; as many as a trial of the sweep had give the same numbers.
        device: `cpu` or `cuda`.
        out: folder, made where missing.
        console: where progress is shown.

    Raises:
        InvalidInput: when `out` cannot be written, or holds the checkpoint of another run.
    """
    torch.set_num_threads(threads)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput("out", str(out), f"cannot be written: {error}") from None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}% of the budget"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task("training", total=compiled.flops)

        def on_segment(progress: loop.Progress) -> None:
            stage = compiled.segments[len(progress.segments) - 1].stage + 1
            bar.update(
                shown, completed=progress.flops, description=f"stage {stage}, loss {progress.segments[-1].mean_loss:.3f}"
            )

        result = loop.train(task, compiled, seed=seed, device=device, checkpoint=out / CHECKPOINT, on_segment=on_segment)
    save_file({name: tensor.contiguous() for name, tensor in result.model.state_dict().items()}, out / WEIGHTS)
    content = {
        "timm_create_model": task.model_arguments(),
        "seed": seed,
        "budget": str(compiled.budget),
        "planned_flops": compiled.flops,
        "realised_flops": result.flops,
        "cost": compiled.cost,
        "steps": result.steps,
        "train_seconds": result.seconds,
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": result.test_accuracy,
    }
    (out / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return result

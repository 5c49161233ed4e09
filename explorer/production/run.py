"""Train with a schedule to a folder: weights that plain timm loads, and the figures beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file

from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.production.channels import Channels
from explorer.trackers import Tracker
from explorer.training import loop
from explorer.training.progress import Progress as Trained
from explorer.training.task import Task, TaskSpec
from explorer.training.workers import ALONE, Workers

WEIGHTS, RESULT, CHECKPOINT = "weights.safetensors", "result.json", "checkpoint.pt"


@dataclass(frozen=True)
class Run:
    """What to train, and where to. Plain data: several workers get the same."""

    task: TaskSpec
    plan: Plan
    seed: int
    threads: int
    """CPU threads of a worker; as many as a trial of the sweep had give the same numbers."""
    device: str
    out: Path
    """Folder, made where missing; on several nodes, one that all of them see."""
    checkpoint_every: float = float("inf")
    """Seconds between two checkpoints within a segment; one is written after each segment anyway."""
    trackers: tuple[Tracker, ...] = ()


def train_to_folder(run: Run, console: Console, workers: Workers = ALONE) -> dict[str, Any]:
    """Train and write `weights.safetensors`, `result.json`, `metrics.csv` and, on the way, `checkpoint.pt` under `run.out`.

    A run that stopped goes on from the checkpoint when called again with the same arguments.

    Args:
        run: what to train.
        console: where progress is shown.
        workers: this worker's place among those that train the same run, each of them in this function; the first writes.

    Returns:
        What `result.json` holds.

    Raises:
        DivergedError: when the loss is NaN or infinite.
        InvalidInput: when `run.out` cannot be written, or holds the checkpoint of another run.
    """
    torch.set_num_threads(run.threads)
    task = Task(run.task)
    if workers.first:
        try:
            run.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput("out", str(run.out), f"cannot be written: {error}") from None
    peak = run.task.recipe.learning_rate
    channels = Channels(run.out, run.plan, peak, run.trackers) if workers.first else None
    with budget_bar(console, disable=not workers.first) as bar:
        shown = bar.add_task("training", total=run.plan.flops)

        def on_look(progress: Trained) -> None:
            last = progress.parts[-1]
            show(bar, shown, progress.flops, last.stage + 1, last.mean_loss)

        def on_segment(progress: Trained) -> None:
            on_look(progress)
            if channels:
                channels.tell(progress)

        result = loop.train(
            task,
            run.plan,
            seed=run.seed,
            device=run.device,
            checkpoint=run.out / CHECKPOINT,
            checkpoint_every=run.checkpoint_every,
            workers=workers,
            on_segment=on_segment,
            on_look=on_look,
        )
    content = {
        "timm_create_model": task.model_arguments(),
        "seed": run.seed,
        "budget": str(run.plan.budget),
        "planned_flops": run.plan.flops,
        "realised_flops": result.flops,
        "planned_seconds": run.plan.seconds,
        "train_seconds": result.seconds,
        "cost": result.flops / run.plan.full_flops,
        "steps": result.steps,
        "workers": workers.count,
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": result.test_accuracy,
    }
    if channels:
        save_file({name: tensor.contiguous() for name, tensor in result.model.state_dict().items()}, run.out / WEIGHTS)
        (run.out / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        accuracies = {"validation_accuracy": result.validation_accuracy, "test_accuracy": result.test_accuracy}
        channels.close(accuracies, result.steps)
    return content


def budget_bar(console: Console, *, disable: bool = False) -> Progress:
    """A bar of the budget that is spent, with the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}% of the budget"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=disable)


def show(bar: Progress, shown: TaskID, spent: float, stage: int, loss: float) -> None:
    """Move the bar to what is spent."""
    bar.update(shown, completed=spent, description=f"stage {stage}, loss {loss:.3f}")

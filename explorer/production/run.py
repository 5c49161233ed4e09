"""Train with a schedule to a folder: weights that plain timm loads, and the figures beside them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from safetensors.torch import save_file
from torch import Tensor

from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.production.loggers import METRICS, Channels
from explorer.spec.loggers import LoggerName
from explorer.spec.task import TaskSpec
from explorer.training import loop
from explorer.training.checkpoint import own_checkpoint
from explorer.training.device import device_name, training_on
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.progress import Progress as Trained
from explorer.training.task import Task

WEIGHTS, RESULT, CHECKPOINT, PROGRESS = "weights.safetensors", "result.json", "checkpoint.pt", "progress.json"
LINE_SECONDS = 60.0
"""Between two lines about the progress, where there is no terminal."""


@dataclass(frozen=True)
class Run:
    """What to train, and where to. Plain data: several processes get the same."""

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
    loggers: tuple[LoggerName, ...] = ()


def train_to_folder(run: Run, console: Console, processes: Processes = SINGLE_PROCESS) -> dict[str, Any]:
    """Train and write `weights.safetensors`, `result.json`, `metrics.csv` and, on the way, `checkpoint.pt` and `progress.json`.

    A run that stopped goes on from the checkpoint when called again with the same arguments.

    Args:
        run: what to train.
        console: where progress is shown.
        processes: this process's place among those that train the same run, each of them in this function; the first writes.

    Returns:
        What `result.json` holds.

    Raises:
        DivergedError: when the loss is NaN or infinite.
        InvalidInput: when `run.out` cannot be written, or holds the checkpoint of another run.
    """
    torch.set_num_threads(run.threads)
    task = Task(run.task)
    checkpoint = run.out / CHECKPOINT
    if checkpoint.exists():  # looked at before anything in the folder changes
        own_checkpoint(checkpoint, run.task, run.plan, run.seed, processes.count, mmap=True)
    if processes.is_main:
        try:
            run.out.mkdir(parents=True, exist_ok=True)
            if not checkpoint.exists():
                (run.out / METRICS).unlink(missing_ok=True)  # of another run
        except OSError as error:
            raise InvalidInput("out", str(run.out), f"cannot be written: {error}") from None
    peak = run.task.recipe.learning_rate
    channels = Channels(run.out, run.plan, peak, run.loggers) if processes.is_main else None
    if processes.is_main:
        say(console, training_on(device_name(run.device), task.amp(torch.device(run.device)), run.threads, processes.count))
    with BudgetBar(console) as bar:

        def on_loss_check(progress: Trained) -> None:
            if processes.is_main:
                standing = RunStatus.of(progress)
                standing.save(run.out)
                bar.show(standing)

        def on_segment(progress: Trained) -> None:
            on_loss_check(progress)
            if channels:
                channels.tell(progress)

        result = loop.train(
            task,
            run.plan,
            seed=run.seed,
            device=run.device,
            checkpoint=checkpoint,
            checkpoint_every=run.checkpoint_every,
            processes=processes,
            on_segment=on_segment,
            on_loss_check=on_loss_check,
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
        "processes": processes.count,
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": result.test_accuracy,
    }
    if channels:
        save_file(_unshared(result.model.state_dict()), run.out / WEIGHTS)
        (run.out / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        accuracies = {"validation_accuracy": result.validation_accuracy, "test_accuracy": result.test_accuracy}
        channels.close(accuracies, result.steps)
        (run.out / PROGRESS).unlink(missing_ok=True)
    return content


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with storages of their own, as safetensors wants them: some models have one parameter under two names."""
    found: dict[str, Tensor] = {}
    storages = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        shared = storage in storages
        found[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        storages.add(storage)
    return found


@dataclass(frozen=True)
class RunStatus:
    """How far a run is: what `progress.json` holds."""

    spent: float
    """Share of the budget."""
    cost: float
    """Share of full training."""
    stage: int
    loss: float
    """Mean of the segment so far."""
    seconds_left: float
    """Of training, if a FLOP goes on to take as long as it took so far."""

    @classmethod
    def of(cls, progress: Trained) -> RunStatus:
        """The standing of a run in this process."""
        plan, spent, last = progress.plan, progress.flops, progress.parts[-1]
        left = progress.seconds / spent * (plan.flops - spent)
        return cls(spent / plan.flops, spent / plan.full_flops, last.stage + 1, last.mean_loss, left)

    @classmethod
    def read(cls, out: Path) -> RunStatus | None:
        """The standing of a run in another process; None where it has none yet."""
        try:
            return cls(**json.loads((out / PROGRESS).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def save(self, out: Path) -> None:
        """Write it for other processes; they see the old file or the new one."""
        unfinished = out / f"{PROGRESS}.tmp"
        unfinished.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        unfinished.replace(out / PROGRESS)


class BudgetBar:
    """Shows how much of the budget is spent, and the time left: a bar on a terminal, elsewhere a line a minute."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"))
        self._console, self._said = console, -math.inf
        self._bar = Progress(*columns, console=console)
        self._shown = self._bar.add_task("", total=1.0, rest="")

    def __enter__(self) -> BudgetBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self, standing: RunStatus) -> None:
        """Show a standing; before the first there is nothing to see."""
        at = f"stage {standing.stage}, loss {standing.loss:.3f}"
        spent = f"{standing.spent:.0%} of the budget"
        left = f"{timedelta(seconds=round(standing.seconds_left))} left"
        if self._console.is_interactive:
            self._bar.start()
            self._bar.update(self._shown, completed=standing.spent, description=at, rest=f"{spent}, {left}")
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            say(self._console, f"{spent}, {at}, {left}, cost {standing.cost:.3%} of full training")


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)

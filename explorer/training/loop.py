"""The training loop: executes the segments of a plan and decides nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.plan import Plan
from explorer.segment import Segment
from explorer.spec.rates import Rates
from explorer.training.batches import check_batches, plan_batches
from explorer.training.checkpoint import identity, own_checkpoint, save_checkpoint
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.evaluation import accuracy
from explorer.training.progress import Progress, SegmentResult
from explorer.training.stage_store import StageStore, prefix_keys
from explorer.training.steps import training_steps
from explorer.training.task import Task
from explorer.training.training_state import TrainingState

LOSS_CHECK_STEPS = 50
"""Largest number of steps between loss checks: each check waits for the device and for the other processes."""
LOSS_CHECK_SECONDS = 5.0
"""Approximate largest time between loss checks."""


class TrainingError(RuntimeError):
    """Training failed; the message is one line that says why."""


class DivergedError(TrainingError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    model: nn.Module
    """The plain timm model at full size, in evaluation mode; the average of its weights if the recipe keeps one."""
    validation_accuracy: float
    """Fraction of the validation images that are classified correctly, in [0, 1]."""
    test_accuracy: float
    """Fraction of the test images that are classified correctly, in [0, 1]."""
    steps: int
    """Optimizer steps."""
    flops: int
    """Cost of the whole run: the counted FLOPs of all steps."""
    executed_flops: int
    """Cost of the steps that were trained in this run and not taken from a store."""
    seconds: float
    """Training time of the whole run. For segments from a store, the time that was measured when they were trained."""
    executed_seconds: float
    """Time until the model was trained: the segments trained in this run, and reading and writing states, but not the time
    that `on_segment` and `on_loss_check` take."""
    evaluation_seconds: float
    """Time of the evaluation."""
    peak_memory: int | None
    """Largest GPU memory use of training, in bytes; `None` on the CPU."""
    segments: tuple[SegmentResult, ...]
    """Results of the plan's segments."""


def train(
    task: Task,
    plan: Plan,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    checkpoint_every: float = math.inf,
    store: StageStore | None = None,
    processes: Processes = SINGLE_PROCESS,
    on_segment: Callable[[Progress], None] | None = None,
    on_loss_check: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Execute a plan, and evaluate the finished model once.

    On the CPU the same task, plan, seed, number of processes and number of threads give the same weights, whether or not the
    run was interrupted.

    Args:
        task: model, data and recipe.
        plan: the segments to execute, compiled for this task.
        seed: seed of the weights' initialization, data order, augmentation and dropout.
        device: where to train.
        checkpoint: file that is rewritten after each segment. If it exists, the run resumes from it.
        checkpoint_every: seconds after which the checkpoint is also rewritten within a segment.
        store: store of segments that other runs have trained, to start from and to add to. For a single process only.
        processes: the processes that train this model together; each of them calls this function.
        on_segment: called after each segment.
        on_loss_check: called at each loss check within a segment: every `LOSS_CHECK_STEPS` steps, or about every
            `LOSS_CHECK_SECONDS` seconds if that is more often.

    Raises:
        DivergedError: when the loss is NaN or infinite.
        InvalidInput: when the checkpoint is damaged or belongs to another run, or the processes cannot divide a batch equally.
    """
    begun = time.perf_counter()
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    check_batches(task, plan, processes)
    state = TrainingState(task, seed, device, processes)
    progress = Progress(plan)
    run_identity = identity(task.spec, plan, seed, processes.count)
    keys = prefix_keys(task, plan.segments, seed, device, task.amp(device)) if store else []
    if checkpoint is not None and checkpoint.exists():
        _restore(own_checkpoint(checkpoint, task.spec, plan, seed, processes.count), state, progress)
    elif store and (stored := store.longest(keys)):
        progress.reused, content = stored
        _restore(content, state, progress)
    last_saved = time.perf_counter()
    reporting_seconds = 0.0

    def report(callback: Callable[[Progress], None] | None) -> None:
        nonlocal reporting_seconds
        if callback is not None:
            started = time.perf_counter()
            callback(progress)
            reporting_seconds += time.perf_counter() - started

    def save(offer_to: StageStore | None = None) -> None:
        nonlocal last_saved
        with state.content() as trained:
            content = {
                "segments": [list(astuple(result)) for result in progress.segments],
                "unfinished": list(astuple(progress.unfinished)) if progress.unfinished else None,
                **trained,
            }
            if checkpoint and processes.is_main:
                save_checkpoint(checkpoint, {**run_identity, **content})
            if offer_to:
                offer_to.offer(keys[len(progress.segments) - 1], content)
        last_saved = time.perf_counter()

    def check_loss(unfinished: SegmentResult) -> None:
        progress.unfinished = unfinished
        report(on_loss_check)
        if checkpoint and processes.broadcast(time.perf_counter() - last_saved >= checkpoint_every):
            save()

    batches = plan_batches(task, plan, seed, progress.steps, device, processes)
    for segment in plan.segments[len(progress.segments) :]:
        state.begin(segment)
        remaining = segment.steps - (progress.unfinished.steps if progress.unfinished else 0)
        losses = training_steps(task, state, segment, islice(batches, remaining), segment.steps - remaining)
        finished = _execute(segment, losses, progress, processes, check_loss)
        progress.unfinished = None
        progress.segments.append(finished)
        offer_to = store if store and len(progress.segments) <= len(keys) and store.wants() else None
        if checkpoint or offer_to:
            save(offer_to)
        report(on_segment)

    state.set_rates(Rates())
    executed_seconds = time.perf_counter() - begun - reporting_seconds
    peak_memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    started = time.perf_counter()
    model = state.result
    validation, test = (accuracy(model, task, split, device, processes) for split in ("validation", "test"))
    return TrainingResult(
        model=model.eval(),
        validation_accuracy=validation,
        test_accuracy=test,
        steps=progress.steps,
        flops=progress.flops,
        executed_flops=progress.executed_flops,
        seconds=progress.seconds,
        executed_seconds=executed_seconds,
        evaluation_seconds=time.perf_counter() - started,
        peak_memory=peak_memory,
        segments=tuple(progress.segments),
    )


def _execute(
    segment: Segment,
    losses: Iterator[torch.Tensor],
    progress: Progress,
    processes: Processes,
    check_loss: Callable[[SegmentResult], None],
) -> SegmentResult:
    """Do the remaining steps of a segment by iterating over their losses, and stop when a loss check finds no finite number.

    All processes must check the loss at the same steps. These are chosen by the main process's clock, which it broadcasts after
    the first step and at each check.
    """
    before = progress.unfinished or SegmentResult(segment.stage, 0, 0, 0.0, 0.0)
    steps_before_segment = progress.steps - before.steps
    result, total = before, torch.zeros(())
    last_check, next_check = before.steps, before.steps + 1
    started = time.perf_counter()
    for step, loss in enumerate(losses, start=before.steps + 1):
        total = total.to(loss.device) + loss
        if step < min(next_check, segment.steps):
            continue
        loss_sum = before.mean_loss * before.steps + float(processes.all_reduce(total.clone())) / processes.count
        if not math.isfinite(loss_sum):
            raise DivergedError(f"the loss is not finite by step {steps_before_segment + step} (stage {segment.stage + 1})")
        elapsed = time.perf_counter() - started
        steps_in_time = LOSS_CHECK_SECONDS * (step - result.steps) / processes.broadcast(elapsed)
        result = SegmentResult(segment.stage, step, step * segment.step_flops, loss_sum / step, result.seconds + elapsed)
        interval = max(1, min(LOSS_CHECK_STEPS, int(steps_in_time)))
        if last_check + interval <= step < segment.steps:
            last_check = step
            check_loss(result)
        next_check = last_check + interval
        started = time.perf_counter()
    return result


def _restore(content: dict[str, Any], state: TrainingState, progress: Progress) -> None:
    """Resume from the content of a checkpoint or a stage store."""
    progress.resume_after([SegmentResult(*row) for row in content["segments"]])
    if content["unfinished"]:
        progress.unfinished = SegmentResult(*content["unfinished"])
    current = len(progress.segments) - (0 if progress.unfinished else 1)
    state.restore(content, progress.plan.segments[current].requested)

"""The loop: executes the segments of a plan and decides nothing."""

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

from explorer.data.source import Batch
from explorer.errors import InvalidInput
from explorer.plan import Plan, Segment
from explorer.spec.rates import Rates
from explorer.training.checkpoint import identity, own_checkpoint, save_checkpoint
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.evaluation import accuracy
from explorer.training.progress import Progress, SegmentResult
from explorer.training.stage_store import StageStore, prefix_keys
from explorer.training.staged_model import TrainingState
from explorer.training.steps import training_steps
from explorer.training.task import Task

CHECK_EVERY, LOOK_SECONDS = 50, 5.0
"""Most steps, and about the most seconds, between looks at the loss: each waits for the device, and for the other processes."""


class TrainingError(RuntimeError):
    """Training cannot go on, for a reason that one line says."""


class DivergedError(TrainingError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    model: nn.Module
    """The plain timm model at full size, in evaluation mode; the average of its weights where the recipe keeps one."""
    validation_accuracy: float
    test_accuracy: float
    """Shares of images classified right, in [0, 1]."""
    steps: int
    flops: int
    """Cost of the whole run: what was counted for each step, summed."""
    executed_flops: int
    """Cost of what was trained here and not taken from a store."""
    seconds: float
    """Training time of the whole run; of segments from a store as measured where they were trained."""
    executed_seconds: float
    """Time until the model was trained: segments trained here, reading and writing states."""
    evaluation_seconds: float
    peak_memory: int | None
    """Bytes of GPU memory that training held at its peak; none on the CPU."""
    segments: tuple[SegmentResult, ...]


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
    """Train by the plan and evaluate the finished model once.

    The same task, plan, seed, processes and thread count give the same weights on the CPU, with or without a stop.

    Args:
        task: model, data and recipe.
        plan: the segments to execute, compiled for this task.
        seed: of the initialisation, the data order, augmentation and dropout.
        device: where to train.
        checkpoint: file that is renewed after every segment; where it exists already, the run goes on from it.
        checkpoint_every: seconds after which it is renewed in the middle of a segment too.
        store: of segments that other runs have trained; used to start from and added to. For a worker that is alone.
        processes: this process's place among those that train the same model, each of them in this function.
        on_segment: called after each segment.
        on_loss_check: called every `CHECK_EVERY` steps, or more often: about every `LOOK_SECONDS` of slow ones.

    Raises:
        DivergedError: when the loss is NaN or infinite.
        InvalidInput: when the checkpoint is damaged or belongs to another run, or processes cannot share a batch equally.
    """
    begun = time.perf_counter()
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    _check_share(task, processes)
    state = TrainingState(task, seed, device, processes)
    progress = Progress(plan)
    own = identity(task.spec, plan, seed, processes.count)
    keys = prefix_keys(task, plan.segments, seed, device, task.amp(device)) if store else []
    if checkpoint is not None and checkpoint.exists():
        _restore(own_checkpoint(checkpoint, task.spec, plan, seed, processes.count), state, progress)
    elif store and (found := store.longest(keys)):
        progress.reused, content = found
        _restore(content, state, progress)
    saved = time.perf_counter()

    def save(offered: StageStore | None = None) -> None:
        nonlocal saved
        with state.content() as trained:
            content = {
                "segments": [list(astuple(done)) for done in progress.segments],
                "unfinished": list(astuple(progress.unfinished)) if progress.unfinished else None,
                **trained,
            }
            if checkpoint and processes.is_main:
                save_checkpoint(checkpoint, {**own, **content})
            if offered:
                offered.offer(keys[len(progress.segments) - 1], content)
        saved = time.perf_counter()

    def look(done: SegmentResult) -> None:
        progress.unfinished = done
        if on_loss_check is not None:
            on_loss_check(progress)
        if checkpoint and processes.broadcast(time.perf_counter() - saved >= checkpoint_every):
            save()

    # One stream for all segments: a loader's processes start once.
    batches = task.train_batches(seed, progress.steps, plan.steps - progress.steps, device, processes)
    for segment in plan.segments[len(progress.segments) :]:
        state.set_rates(segment.requested)
        left = segment.steps - (progress.unfinished.steps if progress.unfinished else 0)
        finished = _execute(task, state, segment, progress, islice(batches, left), processes, look)
        progress.unfinished = None
        progress.segments.append(finished)
        number = len(progress.segments) - 1
        offered = store if store and number < len(keys) and store.wants() else None
        if checkpoint or offered:
            save(offered)
        if on_segment is not None:
            on_segment(progress)

    state.set_rates(Rates())
    executed_seconds = time.perf_counter() - begun
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
    task: Task,
    state: TrainingState,
    segment: Segment,
    progress: Progress,
    batches: Iterator[Batch],
    processes: Processes,
    look: Callable[[SegmentResult], None],
) -> SegmentResult:
    """Do the steps that are left of a segment; look at the loss now and then, and stop where it is not finite."""
    before = progress.unfinished or SegmentResult(segment.stage, 0, 0, 0.0, 0.0)
    done, total = before, torch.zeros(())
    # Processes must look together: by the first one's clock, which they agree on after the first step and at each look.
    looked, next_check = before.steps, before.steps + 1
    started = time.perf_counter()
    for step, loss in enumerate(training_steps(task, state, segment, batches, before.steps), start=before.steps + 1):
        total = total.to(loss.device) + loss
        if step < min(next_check, segment.steps):
            continue
        losses = before.mean_loss * before.steps + float(processes.all_reduce(total.clone())) / processes.count
        if not math.isfinite(losses):
            at = progress.steps - looked + step
            raise DivergedError(f"the loss is not finite by step {at} (stage {segment.stage + 1})")
        elapsed = time.perf_counter() - started
        in_time = LOOK_SECONDS * (step - done.steps) / processes.all_gather(elapsed)[0]
        done = SegmentResult(segment.stage, step, step * segment.step_flops, losses / step, done.seconds + elapsed)
        pause = max(1, min(CHECK_EVERY, int(in_time)))
        if looked + pause <= step < segment.steps:
            looked = step
            look(done)
        next_check = looked + pause
        started = time.perf_counter()
    return done


def _check_share(task: Task, processes: Processes) -> None:
    """See that every worker gets an equal share that the recipe can process."""
    recipe = task.spec.recipe
    share = processes.local_slice(recipe.batch_size)
    images = share.stop - share.start
    if images % recipe.accumulation:
        raise InvalidInput("recipe.accumulation", recipe.accumulation, f"must divide a process's {images} images equally")
    if recipe.augmentation.mixes and images % 2:
        raise InvalidInput("recipe.batch_size", recipe.batch_size, f"a process's {images} images must be even to be mixed")


def _restore(content: dict[str, Any], state: TrainingState, progress: Progress) -> None:
    progress.take([SegmentResult(*row) for row in content["segments"]])
    if content["unfinished"]:
        progress.unfinished = SegmentResult(*content["unfinished"])
    current = len(progress.segments) - (0 if progress.unfinished else 1)
    state.restore(content, progress.plan.segments[current].requested)

"""The training loop: executes the segments of a plan and decides nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.plan import Plan
from explorer.segment import Segment
from explorer.spec.metric import MetricSpec, SecondMetric
from explorer.spec.rates import Rates
from explorer.spec.time_spent import StageTime, TimeSpent
from explorer.training import stopwatch
from explorer.training.batches import check_batches, plan_batches
from explorer.training.checkpoint import identity, keep_checkpoint, own_checkpoint, processes_before, save_checkpoint
from explorer.training.compilation import CompiledCode, without_compiling
from explorer.training.compile_choice import with_compilation_chosen
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.evaluation import evaluated, evaluated_in_training
from explorer.training.progress import Evaluation, Progress, SegmentResult
from explorer.training.stage_store import StageStore, interrupted_key, prefix_keys
from explorer.training.steps import training_steps
from explorer.training.stopping import StopSignal
from explorer.training.stopwatch import Laps, Stopwatch
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from explorer.training_key import trunk_length

LOSS_CHECK_STEPS = 50
"""Largest number of steps between loss checks: each check waits for the device and for the other processes."""
LOSS_CHECK_SECONDS = 5.0
"""Approximate largest time between loss checks."""


class TrainingError(RuntimeError):
    """Training failed; the message is one line that says why."""


class DivergedError(TrainingError):
    """The loss, a weight or a number of the optimizer's state is no longer finite."""


class PreemptedError(TrainingError):
    """Training was asked to stop, and its state is kept for another process."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    model: nn.Module
    """The plain timm model at full size, in evaluation mode; the average of its weights if the recipe keeps one."""
    validation: float
    """Value of the objective's metric on the validation images; of accuracy, a fraction in [0, 1]."""
    test: float
    """The same on the test images."""
    metric: MetricSpec
    """The metric of the objective."""
    also: SecondMetric | None
    """The second metric; `None` if there is none."""
    steps: int
    """Optimizer steps."""
    flops: int
    """Cost of the whole run: the counted FLOPs of all steps."""
    reused_segments: int
    """Number of segments at the start of the plan that were taken from a store."""
    executed_flops: int
    """Cost of the steps that were trained in this run and not taken from a store."""
    seconds: float
    """Time of all steps, with the input for them: what a budget in time pays for. For segments from a store, the time that was
    measured when they were trained."""
    executed_seconds: float
    """Time until the model was trained: the segments trained in this run, and reading and writing states, but not the time
    that `on_segment` and `on_loss_check` take. It includes what the run executed before it was preempted, if it was."""
    evaluation_seconds: float
    """Time of the evaluation of the finished model."""
    time: TimeSpent
    """Where the time went, also in earlier attempts at a run that was interrupted."""
    stage_times: tuple[StageTime, ...]
    """Planned and realised time of the steps of each stage."""
    peak_memory: int | None
    """Largest memory use of a GPU in training, in bytes; `None` on the CPU."""
    segments: tuple[SegmentResult, ...]
    """Results of the plan's segments."""
    skipped_updates: int
    """Number of steps that changed nothing, because their gradients were not finite in fp16."""
    earlier_processes: tuple[int, ...]
    """Numbers of processes that trained the run before it was resumed with another one."""
    compiled: CompiledCode | None
    """What was compiled in this run; `None` if nothing is compiled. Code of earlier runs in the process is reused."""


def train(
    task: Task,
    plan: Plan,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    checkpoint_every: float = math.inf,
    keep_checkpoints: int = 0,
    evaluate_after: Collection[int] = (),
    store: StageStore | None = None,
    processes: Processes = SINGLE_PROCESS,
    on_segment: Callable[[Progress], None] | None = None,
    on_loss_check: Callable[[Progress], None] | None = None,
    stop_requested: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Execute a plan, and evaluate the finished model once.

    On the CPU the same task, plan, seed, number of processes and number of threads give the same weights, whether or not the
    run was interrupted, and whether or not it is evaluated meanwhile.

    Args:
        task: model, data and recipe.
        plan: the segments to execute, compiled for this task.
        seed: seed of the weights' initialization, data order, augmentation and dropout.
        device: where to train.
        checkpoint: file that is rewritten after each segment. If it exists, the run resumes from it. With one, Ctrl-C and
            SIGTERM write it before they are raised, within `LOSS_CHECK_SECONDS` and a step. Where it cannot be written, the
            last one stays, `Progress.checkpoint_error` says why, and training continues until it is due again.
        checkpoint_every: seconds after which the checkpoint is also rewritten within a segment.
        keep_checkpoints: number of earlier checkpoints to keep in a folder beside it, under the numbers of their steps.
        evaluate_after: numbers of steps after which the model, or the average of its weights, is evaluated at its present size
            on the validation images. The same in every process.
        store: store of segments that other runs have trained, to start from and to add to; the main process adds.
        processes: the processes that train this model together; each of them calls this function.
        on_segment: called after each segment.
        on_loss_check: called at each loss check within a segment: every `LOSS_CHECK_STEPS` steps, or about every
            `LOSS_CHECK_SECONDS` seconds if that is more often.
        stop_requested: asked at each loss check and after each segment, in every process. Where one says so, the state is
            written to the checkpoint or to the store, from which the same call resumes.

    Raises:
        DivergedError: when the loss is NaN or infinite, or a weight or a number of the optimizer's state is. No checkpoint
            contains such a number.
        PreemptedError: when `stop_requested` said so.
        NotMeasuredError: when a metric of the trained model is no number.
        InvalidInput: when the checkpoint is damaged or belongs to another run, or the processes cannot divide a batch equally.
    """
    begun = stopwatch.now()
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    check_batches(task, plan, processes)
    task = with_compilation_chosen(task, plan, device.type, processes)[0]
    state = TrainingState(task, seed, device, processes)
    compiled_before = CompiledCode.so_far() if state.is_compiled else None
    progress = Progress(plan, processes=processes.count)
    watch = Stopwatch(device)
    earlier_seconds = 0.0
    run_identity = identity(task.spec, plan, seed, processes.count)
    described = seed, device, task.amp(device), processes.count
    keys = prefix_keys(task, plan.segments, *described) if store else []
    trunk = trunk_length(plan.segments)
    key_of_interrupted = interrupted_key(task, plan, *described) if store else ""
    was_interrupted = False
    steps_of_checkpoint = 0
    if checkpoint is not None and checkpoint.exists():
        content = own_checkpoint(checkpoint, task.spec, plan, seed, processes.count)
        _restore(content, state, progress)
        progress.checkpoint_seconds = content.get("checkpoint_seconds", 0.0)
        progress.evaluations = [Evaluation(*row) for row in content.get("evaluations", [])]
        progress.evaluation_seconds = content.get("evaluation_seconds", 0.0)
        progress.earlier_processes = processes_before(content, processes.count)
        steps_of_checkpoint = progress.steps
        earlier_seconds = content.get("elapsed_seconds", 0.0)
    elif store and (stored := store.longest_of_all([*keys, key_of_interrupted], processes)):
        progress.reused, content = stored
        _restore(content, state, progress)
        if was_interrupted := progress.reused > len(keys):
            progress.reused = content["reused"]
            progress.checkpoint_seconds, earlier_seconds = content["checkpoint_seconds"], content["elapsed_seconds"]
    last_saved = stopwatch.now()
    evaluated_before = progress.evaluation_seconds
    reporting_seconds = 0.0
    stop = StopSignal()

    def elapsed_seconds() -> float:
        return earlier_seconds + stopwatch.now() - begun

    def report(callback: Callable[[Progress], None] | None) -> None:
        nonlocal reporting_seconds
        if callback is not None:
            started = stopwatch.now()
            callback(progress)
            reporting_seconds += stopwatch.now() - started

    def save(key: str | None = None, *, replace: bool = False) -> bool:
        """Write the checkpoint if there is one, and the state to the store under a key; whether all was written."""
        nonlocal last_saved, steps_of_checkpoint
        written = True
        started = stopwatch.now()
        check_weights()
        with state.content() as trained:
            content = {
                "segments": [list(astuple(result)) for result in progress.segments],
                "unfinished": list(astuple(progress.unfinished)) if progress.unfinished else None,
                "checkpoint_seconds": progress.checkpoint_seconds,
                "elapsed_seconds": elapsed_seconds(),
                "reused": progress.reused,
                **trained,
            }
            if checkpoint and processes.is_main:
                in_training = {
                    "evaluations": [list(astuple(each)) for each in progress.evaluations],
                    "evaluation_seconds": progress.evaluation_seconds,
                    "earlier_processes": list(progress.earlier_processes),
                }
                try:
                    if keep_checkpoints and steps_of_checkpoint:
                        keep_checkpoint(checkpoint, steps_of_checkpoint, keep_checkpoints)
                    save_checkpoint(checkpoint, {**run_identity, **content, **in_training})
                    progress.checkpoint_error, steps_of_checkpoint = "", progress.steps
                except OSError as error:
                    progress.checkpoint_error, written = error.strerror or str(error), False
            if store and key and processes.is_main:
                written = store.offer(key, content, replace=replace) and written
        last_saved = stopwatch.now()
        progress.checkpoint_seconds += last_saved - started
        return written

    def check_weights() -> None:
        """Raise an error where a finite loss has led to other weights: the next loss would show it, after the checkpoint."""
        if not all(processes.all_gather(state.is_finite)):
            raise DivergedError(f"weights are not finite after step {progress.steps} (stage {progress.parts[-1].stage + 1})")

    def evaluate_if_due() -> None:
        if progress.steps not in evaluate_after:
            return
        started = stopwatch.now()
        with without_compiling() if state.is_compiled else nullcontext():
            values = evaluated_in_training(state.result, task, device, processes)
        progress.evaluations.append(Evaluation(progress.steps, progress.parts[-1].stage, values))
        progress.evaluation_seconds += stopwatch.now() - started

    def stop_if_requested() -> None:
        if stop_requested is None or not any(processes.all_gather(stop_requested())):
            return
        written = save(key_of_interrupted, replace=True)
        kept = "its state is kept" if written and (store or checkpoint) else "its state could not be kept"
        raise PreemptedError(f"the training was asked to stop after step {progress.steps} of {plan.steps}; {kept}")

    def check_loss(unfinished: SegmentResult) -> None:
        progress.unfinished = unfinished
        evaluate_if_due()
        report(on_loss_check)
        stop_if_requested()
        stopped = checkpoint is not None and stop.came(processes)
        if stopped or (checkpoint and processes.broadcast(stopwatch.now() - last_saved >= checkpoint_every)):
            save()
            if progress.checkpoint_error:
                report(on_loss_check)
        if stopped:
            stop.raise_again()

    batches = watch.reading(plan_batches(task, plan, seed, progress.steps, device, processes))
    with stop.noted() if checkpoint else nullcontext():
        for segment in plan.segments[len(progress.segments) :]:
            started = stopwatch.now()
            state.begin(segment)
            watch.wait()
            before = progress.unfinished or SegmentResult(segment.stage, 0, 0, 0.0, 0.0)
            changing_seconds = before.stage_change_seconds + stopwatch.now() - started
            progress.unfinished = replace(before, stage_change_seconds=changing_seconds)
            losses = training_steps(task, state, segment, islice(batches, segment.steps - before.steps), before.steps)
            finished = _execute(segment, losses, progress, state, watch, evaluate_after, check_loss)
            progress.unfinished = None
            progress.segments.append(finished)
            check_weights()
            evaluate_if_due()
            number = len(progress.segments)
            wanted = store is not None and number <= len(keys) and processes.broadcast(store.wants(number == trunk))
            key = keys[number - 1] if wanted else None
            if checkpoint or key:
                save(key)
            report(on_segment)
            stop_if_requested()
            if checkpoint and stop.came(processes):
                stop.raise_again()

    state.set_rates(Rates())
    if state.skipped_updates and processes.is_main:
        warnings.warn(
            f"{state.skipped_updates} of {progress.steps} steps changed nothing: gradients were not finite in fp16",
            stacklevel=2,
        )
    executed_seconds = stopwatch.now() - begun - reporting_seconds + (earlier_seconds if was_interrupted else 0.0)
    executed_seconds -= progress.evaluation_seconds - evaluated_before
    compiled = CompiledCode.so_far().since(compiled_before) if compiled_before else None
    elapsed = elapsed_seconds()
    peak_memory = max(processes.all_gather(torch.cuda.max_memory_allocated(device))) if device.type == "cuda" else None
    started = stopwatch.now()
    model = state.result
    with without_compiling() if state.is_compiled else nullcontext():
        validation, test = (evaluated(model, task, split, device, processes) for split in ("validation", "test"))
    second = task.objective.also
    evaluation_seconds = stopwatch.now() - started
    if store and was_interrupted and processes.is_main:
        store.remove(key_of_interrupted)
    return TrainingResult(
        model=model.eval(),
        validation=validation[0],
        test=test[0],
        metric=task.objective.metric,
        also=None if second is None else SecondMetric(metric=second, validation=validation[1], test=test[1]),
        steps=progress.steps,
        flops=progress.flops,
        reused_segments=progress.reused,
        executed_flops=progress.executed_flops,
        seconds=progress.seconds,
        executed_seconds=executed_seconds,
        evaluation_seconds=evaluation_seconds,
        time=progress.time_spent(evaluation_seconds, elapsed),
        stage_times=tuple(progress.stage_times()),
        peak_memory=peak_memory,
        segments=tuple(progress.segments),
        skipped_updates=state.skipped_updates,
        earlier_processes=progress.earlier_processes,
        compiled=compiled,
    )


def _execute(
    segment: Segment,
    losses: Iterator[torch.Tensor],
    progress: Progress,
    state: TrainingState,
    watch: Stopwatch,
    evaluate_after: Collection[int],
    check_loss: Callable[[SegmentResult], None],
) -> SegmentResult:
    """Do the remaining steps of a segment by iterating over their losses, and stop when a loss check finds no finite number.

    All processes must check the loss at the same steps. These are those of evaluations, and others that are chosen by the main
    process's clock, which it broadcasts after the first step and at each check.
    """
    processes = state.processes
    before = progress.unfinished or SegmentResult(segment.stage, 0, 0, 0.0, 0.0)
    steps_before_segment = progress.steps - before.steps
    new_stage = not progress.segments or progress.segments[-1].stage != segment.stage
    planned_seconds = None if segment.step_seconds is None else segment.step_seconds / processes.count
    result, total = before, torch.zeros(())
    last_check, next_check = before.steps, before.steps + 1
    laps = Laps()
    is_cold = new_stage or state.is_cold
    watch.start()
    for step, loss in enumerate(losses, start=before.steps + 1):
        total = total.to(loss.device) + loss
        evaluation_due = steps_before_segment + step in evaluate_after
        if step < min(next_check, segment.steps) and not evaluation_due:
            continue
        loss_sum = before.mean_loss * before.steps + float(processes.all_reduce(total.clone())) / processes.count
        if not math.isfinite(loss_sum):
            raise DivergedError(f"the loss is not finite by step {steps_before_segment + step} (stage {segment.stage + 1})")
        lap = watch.lap()
        laps.add(lap, is_cold)
        time = laps.steady_time(planned_seconds)
        result = SegmentResult(
            stage=segment.stage,
            steps=step,
            flops=step * segment.step_flops,
            mean_loss=loss_sum / step,
            seconds=before.seconds + time.steps.seconds,
            input_seconds=before.input_seconds + time.steps.input_seconds,
            compilation_seconds=before.compilation_seconds + time.compilation_seconds,
            stage_change_seconds=before.stage_change_seconds + time.input_start_seconds,
        )
        steps_in_time = LOSS_CHECK_SECONDS * lap.steps / processes.broadcast(lap.seconds)
        interval = max(1, min(LOSS_CHECK_STEPS, int(steps_in_time)))
        if step < segment.steps and (evaluation_due or last_check + interval <= step):
            last_check = step
            check_loss(result)
        is_cold, next_check = False, last_check + interval
        watch.start()
    return result


def _restore(content: dict[str, Any], state: TrainingState, progress: Progress) -> None:
    """Resume from the content of a checkpoint or a stage store."""
    progress.resume_after([SegmentResult(*row) for row in content["segments"]])
    if content["unfinished"]:
        progress.unfinished = SegmentResult(*content["unfinished"])
    current = len(progress.segments) - (0 if progress.unfinished else 1)
    state.restore(content, progress.plan.segments[current].requested)

"""The training loop: executes the segments of a plan and decides nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from explorer.plan import Plan
from explorer.segment import Segment
from explorer.spec.metric import SecondMetric
from explorer.spec.rates import Rates
from explorer.training import stopwatch
from explorer.training.batches import check_batches, plan_batches
from explorer.training.compilation import CompiledCode, without_compiling
from explorer.training.compile_choice import with_compilation_chosen
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.errors import DivergedError, PreemptedError
from explorer.training.evaluation import evaluated, evaluated_in_training
from explorer.training.progress import Evaluation, Progress, SegmentResult
from explorer.training.result import TrainingResult
from explorer.training.saved_state import SavedState, check_weights
from explorer.training.stage_store import StageStore
from explorer.training.steps import training_steps
from explorer.training.stopping import StopSignal
from explorer.training.stopwatch import Laps, Stopwatch
from explorer.training.task import Task
from explorer.training.training_state import TrainingState

LOSS_CHECK_STEPS = 50
"""Largest number of steps between loss checks: each check waits for the device and for the other processes."""
LOSS_CHECK_SECONDS = 5.0
"""Approximate largest time between loss checks."""


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
    saved = SavedState(
        task,
        seed,
        state,
        progress,
        device,
        checkpoint=checkpoint,
        keep_checkpoints=keep_checkpoints,
        store=store,
        begun=begun,
    )
    saved.restore()
    evaluated_before = progress.evaluation_seconds
    reporting_seconds = 0.0
    stop = StopSignal()

    def report(callback: Callable[[Progress], None] | None) -> None:
        nonlocal reporting_seconds
        if callback is not None:
            started = stopwatch.now()
            callback(progress)
            reporting_seconds += stopwatch.now() - started

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
        kept = "its state is kept" if saved.save_interrupted() else "its state could not be kept"
        raise PreemptedError(f"the training was asked to stop after step {progress.steps} of {plan.steps}; {kept}")

    def check_loss(unfinished: SegmentResult) -> None:
        progress.unfinished = unfinished
        evaluate_if_due()
        report(on_loss_check)
        stop_if_requested()
        stopped = checkpoint is not None and stop.came(processes)
        if stopped or saved.is_due(checkpoint_every):
            saved.save()
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
            check_weights(state, progress)
            evaluate_if_due()
            saved.save_segment()
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
    executed_seconds = stopwatch.now() - begun - reporting_seconds + (saved.earlier_seconds if saved.was_interrupted else 0.0)
    executed_seconds -= progress.evaluation_seconds - evaluated_before
    compiled = CompiledCode.so_far().since(compiled_before) if compiled_before else None
    elapsed = saved.elapsed_seconds
    peak_memory = max(processes.all_gather(torch.cuda.max_memory_allocated(device))) if device.type == "cuda" else None
    started = stopwatch.now()
    model = state.result
    with without_compiling() if state.is_compiled else nullcontext():
        validation, test = (evaluated(model, task, split, device, processes) for split in ("validation", "test"))
    second = task.objective.also
    evaluation_seconds = stopwatch.now() - started
    saved.forget_interrupted()
    return TrainingResult(
        model=model.eval(),
        validation=validation.values[0],
        test=test.values[0],
        test_correct=test.correct,
        metric=task.objective.metric,
        also=None if second is None else SecondMetric(metric=second, validation=validation.values[1], test=test.values[1]),
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

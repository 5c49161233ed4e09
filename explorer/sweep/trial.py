"""One trial, in a Ray worker or as a plain function: compile, train, record. A failure concerns this trial only."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby

import torch
from ray.exceptions import RayError

from explorer.errors import InvalidInput
from explorer.ledger import Ledger, Outcome, Record, StageOutcome, Trial
from explorer.ledger.correct_images import CorrectImages
from explorer.plan import Plan
from explorer.search.trial_plan import compile_trial, full_training_plan, outcome_costs, task_of
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.failures import reason_of
from explorer.sweep.versions import numerical_versions
from explorer.sweep.worker_group import ProcessFailedError, WorkerGroup
from explorer.training.device import device_for, device_name
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.loop import train
from explorer.training.progress import Progress
from explorer.training.result import TrainingResult
from explorer.training.stage_store import StageStore

STORE = "stages"
"""Folder of the stage store in a sweep's folder."""


def run_trial(
    trial: Trial,
    space: SearchSpace,
    ledger: Ledger,
    on_segment: Callable[[Progress], None] | None = None,
    table: StepTimeTable | None = None,
    group: WorkerGroup | None = None,
    stop_requested: Callable[[], bool] | None = None,
) -> Record:
    """Train a trial and write its record. Any error becomes a failed record with its reason.

    A failure of the place (data, device or package missing on this host) is not written, nor is a training that was stopped for
    another host to resume: the driver decides whether the trial is tried again elsewhere.

    Args:
        trial: the trial.
        space: the task and the resources of a trial.
        ledger: where the record is written. Where the storage refuses it, the driver tries again.
        on_segment: called after each segment, or about once a second with the progress of several processes.
        table: the sweep's step times, which a sweep in device-seconds needs.
        group: the processes that train the trial together; `None` trains in this one.
        stop_requested: says whether to stop for another host to resume; `None` if there is no stage store.

    Returns:
        The record.

    Raises:
        RayError: when one of several processes ended without an error of its own.
    """
    started = time.time()
    outcome, failed, plan, device = None, None, "", "unknown"
    try:
        if group is None:  # a device that cannot be used comes first: what has a plan counts as trained
            device = device_name(device_of_trial(space, table))
        _, planned = compile_trial(trial, space, table)
        plan = planned.digest()
        arguments = (trial, space, ledger.location, planned, table)
        if group is None:
            outcome = train_trial(*arguments, on_segment=on_segment, stop_requested=stop_requested)
        else:
            outcome = group.run(train_trial, *arguments, on_segment=on_segment, stop_requested=stop_requested)
    except RayError:
        raise
    except ProcessFailedError as error:
        failed, plan = error.failed, "" if error.refused else plan
    except Exception as error:
        failed = reason_of(error)
    if group is not None:
        device = group.device
    record = Record(
        trial=trial,
        status="failed" if failed else "completed",
        reason=failed.reason if failed else None,
        failure=failed.failure if failed else None,
        outcome=outcome,
        started=started,
        finished=max(started, time.time()),  # the clock may have been set back
        worker=worker_name(),
        device=device,
        plan=plan,
        versions=numerical_versions(),
    )
    if record.failure not in ("place", "preempted"):
        with suppress(InvalidInput):
            ledger.append(record)
    return record


def train_trial(
    trial: Trial,
    space: SearchSpace,
    location: str,
    planned: Plan,
    table: StepTimeTable | None,
    *,
    processes: Processes = SINGLE_PROCESS,
    on_segment: Callable[[Progress], None] | None = None,
    stop_requested: Callable[[], bool] | None = None,
) -> Outcome:
    """Train a trial, in one of the processes that train it together.

    Args:
        trial: the trial.
        space: the task and the resources of a trial.
        location: the sweep's folder.
        planned: the plan of the trial.
        table: as for `run_trial`.
        processes: the processes that train it together; each of them calls this function.
        on_segment: called after each segment.
        stop_requested: as for `run_trial`.
    """
    torch.set_num_threads(space.resources.cpus)
    device = device_of_trial(space, table)
    store = StageStore(f"{location}/{STORE}", int(space.store_gb * 1e9)) if space.store_gb else None
    task = task_of(trial, space)
    result = train(
        task,
        planned,
        seed=trial.seed,
        device=device,
        store=store,
        processes=processes,
        on_segment=on_segment,
        stop_requested=stop_requested,
    )
    full = planned if trial.proxy is None else full_training_plan(space, table)
    return _outcome(planned, full, result, processes.count)


def device_of_trial(space: SearchSpace, table: StepTimeTable | None) -> str:
    """The device on which this process trains its part of a trial: `cuda` or `cpu`.

    Raises:
        InvalidInput: when the GPU cannot be used, or the sweep's step times are of another device.
    """
    device = device_for(space.resources.process_gpus)
    if table is not None and device_name(device) != table.setting.device:
        reason = f"this host has {device_name(device)}, and the sweep's step times are of {table.setting.device}"
        raise InvalidInput("resources.accelerator", space.resources.accelerator, reason)
    return device


def worker_name() -> str:
    """Host name and process id, which tell workers apart in the ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _outcome(planned: Plan, full: Plan, result: TrainingResult, processes: int) -> Outcome:
    rows = {row.stage: row for row in planned.stages()}
    stages = []
    for stage, group in groupby(result.segments, key=lambda segment: segment.stage):
        parts = list(group)
        steps = sum(part.steps for part in parts)
        flops = sum(part.flops for part in parts)
        stages.append(
            StageOutcome(
                rates=rows[stage].rates,
                steps=steps,
                step_flops=flops // steps,
                flops=flops,
                seconds=sum(part.seconds for part in parts),
                mean_loss=sum(part.mean_loss * part.steps for part in parts) / steps,
                batch_factor=rows[stage].batch_size / planned.batch_size,
                planned_seconds=rows[stage].seconds,
            )
        )
    return Outcome(
        metric=result.metric,
        validation=result.validation,
        test=result.test,
        test_correct=CorrectImages.of(result.test_correct),
        also=result.also,
        **outcome_costs(planned, result.reused_segments, full),
        steps=result.steps,
        processes=processes,
        train_seconds=result.seconds,
        executed_seconds=result.executed_seconds,
        evaluation_seconds=result.evaluation_seconds,
        peak_memory=result.peak_memory,
        stages=tuple(stages),
        losses=tuple(segment.mean_loss for segment in result.segments),
        segment_ends=tuple(segment.end_time for segment in planned.segments),
        time=result.time,
        stage_times=result.stage_times,
        skipped_updates=result.skipped_updates,
        compiled_graphs=result.compiled.graphs if result.compiled else None,
        graph_breaks=result.compiled.graph_breaks if result.compiled else None,
    )

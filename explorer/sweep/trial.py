"""One trial, in a Ray worker or as a plain function: compile, train, record. A failure concerns this trial only."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby

import torch

from explorer.errors import InvalidInput
from explorer.ledger import Ledger, Outcome, Record, StageOutcome, Trial
from explorer.plan import Plan
from explorer.search.trial_plan import compile_trial, full_training_plan, outcome_costs
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.failures import reason_of
from explorer.sweep.versions import numerical_versions
from explorer.training.device import device_for, device_name
from explorer.training.loop import TrainingResult, train
from explorer.training.progress import Progress
from explorer.training.stage_store import StageStore

STORE = "stages"
"""Folder of the stage store in a sweep's folder."""


def run_trial(
    trial: Trial,
    space: SearchSpace,
    ledger: Ledger,
    on_segment: Callable[[Progress], None] | None = None,
    table: StepTimeTable | None = None,
) -> Record:
    """Train a trial and write its record. Any error becomes a failed record with its reason.

    A failure of the place (data, device or package missing on this host) is not written: the driver decides whether the trial
    is tried again elsewhere.

    Args:
        trial: the trial.
        space: the task and the resources of a trial.
        ledger: where the record is written. Where the storage refuses it, the driver tries again.
        on_segment: called after each segment.
        table: the sweep's step times, which a sweep in device-seconds needs.

    Returns:
        The record.
    """
    torch.set_num_threads(space.resources.cpus)
    started = time.time()
    outcome, failed, digest, device = None, None, "", "unknown"
    try:
        device = device_for(space.resources.gpus)
        if table is not None and device_name(device) != table.setting.device:
            reason = f"this host has {device_name(device)}, and the sweep's step times are of {table.setting.device}"
            raise InvalidInput("resources.accelerator", space.resources.accelerator, reason)
        task, planned = compile_trial(trial, space, table)
        digest = planned.digest()
        store = StageStore(f"{ledger.location}/{STORE}", int(space.store_gb * 1e9)) if space.store_gb else None
        result = train(task, planned, seed=trial.seed, device=device, store=store, on_segment=on_segment)
        outcome = _outcome(planned, result, full_training_plan(space, table) if trial.proxy else planned)
    except Exception as error:
        failed = reason_of(error)
    record = Record(
        trial=trial,
        status="failed" if failed else "completed",
        reason=failed.reason if failed else None,
        failure=failed.failure if failed else None,
        outcome=outcome,
        started=started,
        finished=max(started, time.time()),  # the clock may have been set back
        worker=worker_name(),
        device=device_name(device),
        plan=digest,
        versions=numerical_versions(),
    )
    if record.failure != "place":
        with suppress(InvalidInput):
            ledger.append(record)
    return record


def worker_name() -> str:
    """Host name and process id, which tell workers apart in the ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _outcome(planned: Plan, result: TrainingResult, full: Plan) -> Outcome:
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
        validation_accuracy=result.validation_accuracy,
        test_accuracy=result.test_accuracy,
        **outcome_costs(planned, result.reused_segments, full),
        steps=result.steps,
        train_seconds=result.seconds,
        executed_seconds=result.executed_seconds,
        evaluation_seconds=result.evaluation_seconds,
        peak_memory=result.peak_memory,
        stages=tuple(stages),
        losses=tuple(segment.mean_loss for segment in result.segments),
        segment_ends=tuple(segment.end_time for segment in planned.segments),
        time=result.time,
        stage_times=result.stage_times,
        compiled_graphs=result.compiled.graphs if result.compiled else None,
        graph_breaks=result.compiled.graph_breaks if result.compiled else None,
    )

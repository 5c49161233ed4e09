"""Runs the trials of a search on a Ray cluster, through Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune.trainable import wrap_function

from explorer.errors import InvalidInput
from explorer.ledger import Ledger, Record, Trial
from explorer.plan import Plan
from explorer.search.dashboard import Dashboard
from explorer.search.dispatcher import Dispatcher
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial, relative_cost
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.attempts import Attempts
from explorer.sweep.first_failures import FirstFailures
from explorer.sweep.interrupts import interruptible
from explorer.sweep.lease import DriverLock
from explorer.sweep.placement import hosts_with_room, placement
from explorer.sweep.places import Places
from explorer.sweep.preemption import notice
from explorer.sweep.progress import SweepProgress
from explorer.sweep.searcher import NODE, RECORD, TRIAL, SweepSearcher
from explorer.sweep.trial import run_trial
from explorer.sweep.trial_reports import TrialObservers, TrialReports
from explorer.sweep.tune_errors import ErrorNotes, StopTogether, without_tracebacks
from explorer.sweep.worker_group import own_worker_group

DASHBOARD = "optuna.log"
"""File for `optuna-dashboard`, in the folder of a sweep on a local disk."""


class FailedTrialError(RuntimeError):
    """A trial failed, and its record has been reported."""


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """What the trials of a sweep need from its driver, in one run of its command."""

    space: SearchSpace
    """The search space, with the data as it was checked."""
    ledger: Ledger
    search: Search
    """Proposes the trials."""
    table: StepTimeTable | None
    """The sweep's step times; `None` in a sweep that counts FLOPs."""
    records: Sequence[Record]
    """What the ledger already holds."""
    lock: DriverLock
    places: Places
    """Where trials can run."""
    progress: SweepProgress
    observers: TrialObservers
    """Loggers and notes, which are told of the trials."""
    trained_elsewhere: Callable[[Trial, Plan], Record | None]
    """Gives the record of a trial that another sweep has trained already."""
    say: Callable[[str], None]
    """Prints a line."""


def run_trials(run: SweepRun) -> None:
    """Run all trials that the search proposes.

    Raises:
        InvalidInput: when the storage takes no more records, another driver has taken over the sweep, the first trials all
            failed in the same way, or no host is left that can run trials.
        KeyboardInterrupt: after Ctrl-C. After SIGTERM, `SystemExit` with code 143.
    """
    space, location, table = run.space, run.ledger.location, run.table

    def trainable(config: dict[str, Any]) -> None:
        trial: Trial = config[TRIAL]
        group = own_worker_group(space.resources) if space.resources.process_count > 1 else None
        with notice().watched() if space.store_gb else nullcontext():
            record = run_trial(
                trial,
                space,
                Ledger(location),
                on_segment=TrialReports(partial(relative_cost, space, trial.proxy, table)),
                table=table,
                group=group,
                stop_requested=notice().came if space.store_gb else None,
            )
        node = group.failed_node if group else None
        tune.report({RECORD: record, NODE: node or ray.get_runtime_context().get_node_id()})
        if record.outcome is None and not record.diverged:
            raise FailedTrialError(record.reason)  # the process may be damaged: Tune starts another one

    dashboard = (
        None if "://" in location else Dashboard(space, Path(location, DASHBOARD), run.records, run.ledger.header().metric)
    )

    def on_record(record: Record) -> None:
        first_failures.add(record)
        run.progress.planned, run.progress.at_once = run.search.planned, run.places.at_once
        if spending := run.search.spending:
            run.progress.space, run.progress.spent = run.search.allocated_space, spending.status()
        run.progress.finished(record)
        run.observers.finished(record)
        if dashboard:
            dashboard.add(record)

    dispatcher = Dispatcher(
        run.search,
        lambda trial: compile_trial(trial, space, table)[1],
        run.records,
        hold_back=space.store_gb > 0,
        places=run.places.at_once,
        trained_elsewhere=run.trained_elsewhere,
    )
    first_failures, errors = FirstFailures(space, location, run.records), ErrorNotes()
    attempts = Attempts(lambda: hosts_with_room(space.resources), run.say, affords=run.search.affords_another_attempt)
    attempts.excluded = run.places.excluded

    def hopeless() -> InvalidInput | None:
        return attempts.check() or first_failures.stopped

    searcher = SweepSearcher(
        dispatcher,
        run.ledger,
        on_record,
        stop_reason=lambda: run.lock.lost or hopeless(),
        attempts=attempts,
        error_of=errors.take,
        limit=lambda: run.places.handed_out,
        on_attempt=run.search.attempt_failed,
    )
    tune_folder = TemporaryDirectory(prefix="explorer-tune-", ignore_cleanup_errors=True)  # nothing reads it
    tuner = tune.Tuner(
        tune.with_resources(_heeding_sigterm(trainable), placement(space.resources)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=errors,
            num_samples=-1,
            reuse_actors=True,  # imports take longer than a short trial; train() resets all state
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=tune_folder.name,
            verbose=0,
            stop=StopTogether(hopeless),
            callbacks=[run.observers],
        ),
    )
    try:
        with tune_folder, without_tracebacks(), interruptible(run.progress.interrupted, run.say):
            tuner.fit()
    finally:
        searcher.write()
    if dispatcher.duplicates:
        run.say(f"{dispatcher.duplicates} duplicate proposals were served from earlier trials")
    for name, count in dispatcher.reused.items():
        run.say(f"{count} trials reused from sweep {name}: the same trainings were finished there")
    if searcher.refused:
        raise InvalidInput(
            "storage",
            location,
            f"took no more records, so the sweep stopped; {len(searcher.unwritten)} finished trials could not be written "
            f"({searcher.refused.allowed})",
        )
    if stopped := run.lock.lost or hopeless():
        raise stopped


def _heeding_sigterm(trainable: Callable[[dict[str, Any]], None]) -> type[tune.Trainable]:
    """The function as Tune's class for it, whose process takes SIGTERM as a notice while it trains."""

    class Heeding(wrap_function(trainable)):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config)
            notice().heed_sigterm()

    return Heeding


def _trial_id(trial: Any) -> str:
    return str(trial.config["id"])

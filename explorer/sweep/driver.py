"""The driver of a sweep on Ray: starts the sweep or resumes it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import ray
import torch
from ray import tune
from rich.console import Console

from explorer.data.check import CheckedData, check_data
from explorer.errors import InvalidInput
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, Record, SweepHeader
from explorer.paths import expanded
from explorer.search.checks import check_space
from explorer.search.dashboard import Dashboard
from explorer.search.dispatcher import Dispatcher
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.spec.budget import Budget
from explorer.spec.inventory import Inventory
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import NAME_PATTERN, SearchSpace
from explorer.sweep.attempts import Attempts
from explorer.sweep.cluster import start_ray
from explorer.sweep.completeness import lacking
from explorer.sweep.driver_notes import DriverNotes
from explorer.sweep.first_failures import FirstFailures
from explorer.sweep.header import open_sweep
from explorer.sweep.interrupts import handlers_kept, interruptible
from explorer.sweep.lease import DriverLock
from explorer.sweep.lock import only_driver
from explorer.sweep.loggers import SweepLoggers
from explorer.sweep.placement import hosts_with_room, placement
from explorer.sweep.places import Places, check_room, wait_for_room
from explorer.sweep.probe import probe_nodes
from explorer.sweep.progress import SweepProgress
from explorer.sweep.searcher import NODE, RECORD, TRIAL, SweepSearcher
from explorer.sweep.trial import STORE, run_trial
from explorer.sweep.trial_reports import TrialObservers, TrialReports
from explorer.sweep.tune_errors import ErrorNotes, StopTogether, without_tracebacks
from explorer.sweep.versions import check_versions, installed_versions
from explorer.training.stage_store import StageStore
from explorer.training.task import Task

DASHBOARD = "optuna.log"
"""File for `optuna-dashboard`, in a sweep's folder."""
Retry = Literal["failed", "none"]


class FailedTrialError(RuntimeError):
    """A trial failed, and its record has been reported."""


class Sweep:
    """A sweep over a search space.

    Args:
        space: the search space.
        storage: folder or URI that contains the sweep's folder; shared by all nodes of a cluster.
        name: name of the sweep's folder; default: the name of the space.
        trials: replaces `search.trials` of the space: number of staged trials at the cheapest budget, from which those of the
            budgets above follow, or a number for each budget.
        retry: which failed trials of earlier runs are tried again: `failed` (those that did not diverge) or `none`.
        address: address of a Ray cluster; `auto` for the one that this machine belongs to; `local` or `None` to start Ray here
            (`None` is refused where RAY_ADDRESS is set).
        parallel_trials: number of trials that may run side by side; `None` for as many as the cluster can.
        wait_for_nodes: number of seconds to wait for a node that has room for a trial, on a cluster that adds nodes on demand.
        mix_versions: whether a sweep may be resumed with other versions of torch or timm than it was started with.
        console: where progress is written.

    Raises:
        InvalidInput: when the storage is unusable.
    """

    def __init__(
        self,
        space: SearchSpace,
        storage: str | Path = "sweeps",
        *,
        name: str | None = None,
        trials: int | tuple[int, ...] | None = None,
        retry: Retry = "failed",
        address: str | None = None,
        parallel_trials: int | None = None,
        wait_for_nodes: float = 0.0,
        mix_versions: bool = False,
        console: Console | None = None,
    ) -> None:
        if trials is not None:
            space = space.with_search(trials=trials)
        check_space(space)
        if name is not None and not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput(
                "name", name, "must be letters, digits, dots, dashes and underscores, and start with a letter or digit"
            )
        if retry not in get_args(Retry):
            raise InvalidInput("retry", retry, f"must be one of {', '.join(get_args(Retry))}")
        if parallel_trials is not None and parallel_trials < 1:
            raise InvalidInput("parallel_trials", parallel_trials, "must be at least 1")
        if wait_for_nodes < 0:
            raise InvalidInput("wait_for_nodes", wait_for_nodes, "must be a number of seconds")
        self.parallel_trials, self.wait_for_nodes = parallel_trials, wait_for_nodes
        self.space, self.address, self.retry, self.mix_versions = space, address, retry, mix_versions
        self.console = console or Console()
        root = expanded(storage, "storage")
        root = root if "://" in root else str(Path(root).resolve())
        self.location = f"{root.rstrip('/')}/{name or space.name}"
        self.ledger = Ledger(self.location)

    def run(self) -> Sweep:
        """Run every trial that the ledger does not hold yet, and return this sweep.

        Raises:
            InvalidInput: when the storage holds a sweep with other settings or data under this name, torch or timm has another
                version than the sweep was started with, the cluster lacks the resources of one trial, the storage takes no
                more records, another driver has taken over the sweep, the first trials all failed in the same way, or no host
                is left that can run trials.
            KeyboardInterrupt: after Ctrl-C; running this again resumes. After SIGTERM, `SystemExit` with code 143.
        """
        _ = self.checked_data  # images that cannot be read stop a sweep before it writes or starts anything
        with only_driver(self.location, say=self._say) as lock, quiet_optuna():
            self._open()
            check_versions(self.ledger.header(), mix=self.mix_versions)
            records = self._without_retried(self.ledger.records())
            search = self._search(records)
            if self.ledger.warning:
                self._say(f"warning: {self.ledger.warning}; trials without a record are run again")
            with self._loggers(records) as loggers:
                if len(records) >= search.planned:
                    StageStore(f"{self.location}/{STORE}", 0).clear()
                    self._say(f"all {len(records)} trials are in the ledger: {self.location}")
                    return self
                if records:
                    self._say(f"resuming: {len(records)} of {search.planned} trials are in the ledger")
                started_here = not ray.is_initialized()
                with handlers_kept():
                    start_ray(self.address)
                try:
                    with (
                        self._places(lambda: search.planned - self.ledger.count()) as places,
                        DriverNotes(self.location, self.space, search.planned, places.at_once) as notes,
                        SweepProgress(self.space, search.planned, places.at_once, records, self.console) as progress,
                    ):
                        self._tune(search, records, progress, lock, TrialObservers(loggers, notes), places)
                finally:
                    if started_here:
                        ray.shutdown()
            if len(self.ledger.records()) >= search.planned:
                StageStore(f"{self.location}/{STORE}", 0).clear()
        self.console.print(progress.last_table())
        return self

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the results lack, one line each: budgets without a successful staged or baseline trial."""
        return lacking(self.space, self.ledger.records())

    def header(self, inventory: Inventory) -> SweepHeader:
        """The header that this sweep writes when it starts: what will be trained, on which data.

        Args:
            inventory: what the data set contains.
        """
        task = Task(self.space.task)
        return SweepHeader(
            name=self.location.rsplit("/", 1)[-1],
            space=self.space,
            created=time.time(),
            versions=installed_versions(),
            hardware=_hardware(),
            git_commit=_git_commit(),
            inventory=inventory,
            augmentation=task.augmentation_as_applied,
            model_parameters=task.model_parameters,
            model_input=task.model_input,
        )

    def best(self, budget: str | Budget) -> Schedule:
        """The best schedule for a budget of the sweep; see `explorer.frontier.best_schedule`."""
        header = self.ledger.header()
        return best_schedule(trials_frame(self.ledger.records(), header), header, Budget.parse(budget))

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @cached_property
    def checked_data(self) -> CheckedData:
        """The data, of which every image was read, and what is in it; it is printed. Trials use its settings."""
        checked = check_data(self.space.task.data, console=self.console)
        for line in (*checked.inventory.summary, *(f"warning: {warning}" for warning in checked.inventory.warnings)):
            self._say(line)
        return checked

    def _places(self, left: Callable[[], int]) -> Places:
        """The cluster's places for trials, once there is one, on hosts that can run trials.

        Args:
            left: gives the number of trials that have not ended.
        """
        resources = self.space.resources
        if self.wait_for_nodes:
            wait_for_room(resources, self.wait_for_nodes, min(left(), self.parallel_trials or left()), self._say)
        check_room(resources)
        checked = self.space.with_data(self.checked_data.spec)
        excluded = probe_nodes(checked, self.location, hosts_with_room(resources), self._say, mix_versions=self.mix_versions)
        return Places(resources, self.parallel_trials, excluded, left if self.wait_for_nodes else None)

    def _search(self, records: list[Record]) -> Search:
        return Search(self.space, records, self.ledger.unfinished(records))

    def _without_retried(self, records: list[Record]) -> list[Record]:
        """The records without those of failed trials that are tried again, which are set aside."""
        retried = [record for record in records if record.outcome is None and not record.diverged and self.retry == "failed"]
        for record in retried:
            self.ledger.set_aside(record)
        if retried:
            self.console.print(f"trying {len(retried)} failed trials again", highlight=False)
        return [record for record in records if record not in retried]

    def _loggers(self, records: list[Record]) -> SweepLoggers:
        return SweepLoggers(self.ledger.header(), self.space, self.location, records, self._say)

    def _dashboard(self, records: list[Record]) -> Dashboard | None:
        """The file for `optuna-dashboard`; `None` where the storage is not a folder."""
        return None if "://" in self.location else Dashboard(self.space, Path(self.location, DASHBOARD), records)

    def _open(self) -> None:
        """Write the sweep's header, or check that the one on the storage is of this sweep."""
        inventory = self.checked_data.inventory
        open_sweep(self.ledger, self.space, inventory, lambda: self.header(inventory))

    def _tune(
        self,
        search: Search,
        records: list[Record],
        progress: SweepProgress,
        lock: DriverLock,
        observers: TrialObservers,
        places: Places,
    ) -> None:
        space, location = self.space.with_data(self.checked_data.spec), self.location

        def trainable(config: dict[str, Any]) -> None:
            record = run_trial(config[TRIAL], space, Ledger(location), on_segment=TrialReports())
            tune.report({RECORD: record, NODE: ray.get_runtime_context().get_node_id()})
            if record.outcome is None and not record.diverged:
                raise FailedTrialError(record.reason)  # the process may be damaged: Tune starts another one

        dashboard = self._dashboard(records)

        def on_record(record: Record) -> None:
            first_failures.add(record)
            progress.planned, progress.at_once = search.planned, places.at_once
            progress.finished(record)
            observers.finished(record)
            if dashboard:
                dashboard.add(record)

        dispatcher = Dispatcher(
            search,
            lambda trial: compile_trial(trial, space)[1],
            records,
            hold_back=space.store_gb > 0,
            places=places.at_once,
        )
        first_failures, errors = FirstFailures(space, location, records), ErrorNotes()
        attempts = Attempts(lambda: hosts_with_room(space.resources), self._say)
        attempts.excluded = places.excluded

        def hopeless() -> InvalidInput | None:
            return attempts.check() or first_failures.stopped

        searcher = SweepSearcher(
            dispatcher,
            self.ledger,
            on_record,
            stop_reason=lambda: lock.lost or hopeless(),
            attempts=attempts,
            error_of=errors.take,
            places=places,
        )
        tune_folder = TemporaryDirectory(prefix="explorer-tune-", ignore_cleanup_errors=True)  # nothing reads it
        tuner = tune.Tuner(
            tune.with_resources(trainable, placement(space.resources)),
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
                callbacks=[observers],
            ),
        )
        try:
            with tune_folder, without_tracebacks(), interruptible(progress.interrupted, self._say):
                tuner.fit()
        finally:
            searcher.write()
        if dispatcher.duplicates:
            served = f"{dispatcher.duplicates} duplicate proposals were served from earlier trials"
            self.console.print(served, highlight=False)
        if searcher.refused:
            raise InvalidInput(
                "storage",
                location,
                f"took no more records, so the sweep stopped; {len(searcher.unwritten)} finished trials could not be written "
                f"({searcher.refused.allowed})",
            )
        if stopped := lock.lost or hopeless():
            raise stopped


def _trial_id(trial: Any) -> str:
    return str(trial.config["id"])


def _hardware() -> str:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else "")


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

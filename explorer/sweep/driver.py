"""The driver of a sweep on Ray: starts the sweep or resumes it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from rich.console import Console

from explorer.data.check import CheckedData, check_data
from explorer.differences import first_difference
from explorer.errors import InvalidInput
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, Record, SweepHeader
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
from explorer.sweep.cluster import start_ray, trials_at_once
from explorer.sweep.lock import DriverLock, only_driver
from explorer.sweep.loggers import logger_callbacks
from explorer.sweep.progress import SweepProgress
from explorer.sweep.searcher import RECORD, TRIAL, SweepSearcher
from explorer.sweep.trial import STORE, run_trial
from explorer.training.progress import Progress
from explorer.training.stage_store import StageStore
from explorer.training.task import Task

CHANGEABLE = (
    *(f"search.{name}" for name in ("trials", "baseline_trials", "sampler", "promote", "repeat")),
    "resources.",
    "store_gb",
    "loggers",
)
"""Prefixes of settings that may change between runs of one sweep. They add trials, order them, or say where they run."""
MAX_LOST_WORKERS = 2
"""Number of times a trial is tried again after its worker died. Each time it finds its trained segments in the stage store."""
DASHBOARD = "optuna.log"
"""File for `optuna-dashboard`, in a sweep's folder."""
REPORT_SECONDS = 1.0
"""Shortest time between two progress reports of a trial."""
PACKAGES = ("vit-budget-explorer", "torch", "timm", "ray", "optuna")
"""Packages that a result depends on."""


class Sweep:
    """A sweep over a search space.

    Args:
        space: the search space.
        storage: folder or URI that contains the sweep's folder; shared by all nodes of a cluster.
        name: name of the sweep's folder; default: the name of the space.
        trials: replaces `search.trials` of the space: number of staged trials at the cheapest budget, from which those of the
            budgets above follow, or a number for each budget.
        address: address of a running Ray cluster (`auto` for the one that this machine belongs to); `None` starts Ray here.
        console: where progress is written.

    Raises:
        InvalidInput: when the storage is unusable or holds another sweep under this name.
    """

    def __init__(
        self,
        space: SearchSpace,
        storage: str | Path = "sweeps",
        *,
        name: str | None = None,
        trials: int | tuple[int, ...] | None = None,
        address: str | None = None,
        console: Console | None = None,
    ) -> None:
        if trials is not None:
            space = space.with_search(trials=trials)
        check_space(space)
        if name is not None and not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput(
                "name", name, "must be letters, digits, dots, dashes and underscores, and start with a letter or digit"
            )
        self.space, self.address = space, address
        self.console = console or Console()
        root = str(storage) if "://" in str(storage) else str(Path(storage).resolve())
        self.location = f"{root.rstrip('/')}/{name or space.name}"
        self.ledger = Ledger(self.location)
        self._trained_space = space

    def run(self) -> Sweep:
        """Run every trial that the ledger does not hold yet, and return this sweep.

        Raises:
            InvalidInput: when the cluster lacks the resources of one trial, the storage takes no more records, or another
                driver has taken over the sweep.
        """
        checked = self._check_data()
        with only_driver(self.location) as lock, quiet_optuna():
            self._open(checked.inventory)
            records = self.ledger.records()
            search = self._search(records)
            if len(records) >= search.planned:
                self.console.print(f"all {len(records)} trials are in the ledger: {self.location}", highlight=False)
                return self
            if records:
                self.console.print(f"resuming: {len(records)} of {search.planned} trials are in the ledger", highlight=False)
            started_here = not ray.is_initialized()
            start_ray(self.address)
            try:
                at_once = trials_at_once(self.space.resources)
                with SweepProgress(self.space, search.planned, at_once, records, self.console) as progress:
                    self._tune(search, records, progress, lock)
            finally:
                if started_here:
                    ray.shutdown()
            if len(self.ledger.records()) >= search.planned:
                StageStore(f"{self.location}/{STORE}", 0).clear()
        self.console.print(progress.table())
        return self

    def best(self, budget: str | Budget) -> Schedule:
        """The best schedule for a budget of the sweep; see `explorer.frontier.best_schedule`."""
        return best_schedule(trials_frame(self.ledger.records()), self.ledger.header(), Budget.parse(budget))

    def _check_data(self) -> CheckedData:
        """Read every image, print what is in the data set, and leave out of the trials what cannot be read."""
        checked = check_data(self.space.task.data, console=self.console)
        for line in (*checked.inventory.summary, *(f"warning: {warning}" for warning in checked.inventory.warnings)):
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)
        self._trained_space = self.space.with_data(checked.spec)
        return checked

    def _search(self, records: list[Record]) -> Search:
        return Search(self.space, records, self.ledger.unfinished(records))

    def _dashboard(self, records: list[Record]) -> Dashboard | None:
        """The file for `optuna-dashboard`; `None` where the storage is not a folder."""
        return None if "://" in self.location else Dashboard(self.space, Path(self.location, DASHBOARD), records)

    def _open(self, inventory: Inventory) -> None:
        """Write the sweep's header, or check that the one on the storage is of this sweep."""
        if not self.ledger.exists:
            self.ledger.create(
                SweepHeader(
                    name=self.location.rsplit("/", 1)[-1],
                    space=self.space,
                    created=time.time(),
                    versions=installed_versions(),
                    hardware=_hardware(),
                    git_commit=_git_commit(),
                    inventory=inventory,
                    model_input=Task(self.space.task).model_input,
                )
            )
            return
        stored = self.ledger.header().space.model_dump(mode="json")
        if different := first_difference(stored, self.space.model_dump(mode="json"), CHANGEABLE):
            allowed = f"the sweep at {self.location} has {different.before!r}; give this one another --name"
            raise InvalidInput(different.field, different.after, allowed)

    def _tune(self, search: Search, records: list[Record], progress: SweepProgress, lock: DriverLock) -> None:
        space, location = self._trained_space, self.location

        def trainable(config: dict[str, Any]) -> None:
            record = run_trial(config[TRIAL], space, Ledger(location), on_segment=_Reports())
            measured = record.outcome.model_dump(exclude={"stages", "losses"}, exclude_none=True) if record.outcome else {}
            tune.report({RECORD: record, **measured})  # the numbers are for loggers

        dashboard = self._dashboard(records)

        def on_record(record: Record) -> None:
            progress.finished(record)
            if dashboard:
                dashboard.add(record)

        dispatcher = Dispatcher(search, lambda trial: compile_trial(trial, space)[1], records, hold_back=space.store_gb > 0)
        searcher = SweepSearcher(dispatcher, self.ledger, on_record, stop_reason=lambda: lock.lost)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": space.resources.cpus, "gpu": space.resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,  # imports take longer than a short trial; train() resets all state
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=location,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),  # trials catch their own errors
                callbacks=logger_callbacks(space.loggers, self.ledger.header().name),
            ),
        )
        tuner.fit()
        if dispatcher.duplicates:
            served = f"{dispatcher.duplicates} duplicate proposals were served from earlier trials"
            self.console.print(served, highlight=False)
        searcher.write()
        if searcher.refused:
            raise InvalidInput(
                "storage",
                location,
                f"took no more records, so the sweep stopped; {len(searcher.unwritten)} finished trials could not be written "
                f"({searcher.refused.allowed})",
            )
        if lock.lost:
            raise lock.lost


class _Reports:
    """Reports a trial's progress to the driver, at most every `REPORT_SECONDS` and not after the last segment."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_SECONDS or len(progress.segments) == len(progress.plan.segments):
            return
        self._last = now
        cost, loss = progress.flops / progress.plan.full_flops, progress.segments[-1].mean_loss
        tune.report({"segments": len(progress.segments), "cost": cost, "train_loss": loss})


def _trial_id(trial: Any) -> str:
    return str(trial.config["id"])


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _hardware() -> str:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else "")


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

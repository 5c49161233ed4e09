"""Launch a sweep on Ray: start it, or go on where it stopped."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune
from rich.console import Console

from explorer.differences import first_difference
from explorer.errors import InvalidInput
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, Record, SweepHeader, Trial
from explorer.search.checks import check_space
from explorer.search.prefix_sharing import SharedWork
from explorer.search.search import Search
from explorer.spec.budget import Budget
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import NAME_PATTERN, SearchSpace
from explorer.sweep.cluster import start_ray, trials_at_once
from explorer.sweep.lock import only_driver
from explorer.sweep.loggers import callbacks
from explorer.sweep.progress import SweepProgress
from explorer.sweep.searcher import SweepSearcher
from explorer.sweep.trial import STORE, compiled, run_trial
from explorer.training.progress import Progress
from explorer.training.stage_store import StageStore

CHANGEABLE = (
    *(f"search.{name}" for name in ("trials", "baseline_trials", "promote", "repeat")),
    "resources.",
    "store_gb",
    "loggers",
)
"""Settings that may change between runs of one sweep: they add trials or order them, or say where they run."""
LOST_WORKERS = 2
"""So often a trial is tried again after its worker died; each time it finds what it has trained in the stage store."""
STUDIES = "optuna.log"
"""File for `optuna-dashboard`, in a sweep's folder."""
PACKAGES = ("vit-budget-explorer", "torch", "timm", "ray", "optuna")


class Sweep:
    """A search space on a storage.

    Args:
        space: what to search.
        storage: folder or URI under which the sweep's folder stands; shared by all nodes of a cluster.
        name: of the sweep's folder; default: the space's name.
        trials: staged trials at each budget, instead of the space's number.
        address: of a running Ray cluster (`auto` for the one this machine belongs to); None: start Ray here.
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
        trials: int | None = None,
        address: str | None = None,
        console: Console | None = None,
    ) -> None:
        if trials is not None:
            if trials < 1:
                raise InvalidInput("trials", trials, "must be at least 1")
            space = space.model_copy(update={"search": space.search.model_copy(update={"trials": trials})})
        check_space(space)
        if name is not None and not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput("name", name, "must be letters, digits, dots, dashes and underscores, a letter or digit first")
        self.space, self.address = space, address
        self.console = console or Console()
        root = str(storage) if "://" in str(storage) else str(Path(storage).resolve())
        self.location = f"{root.rstrip('/')}/{name or space.name}"
        self.ledger = Ledger(self.location)

    def run(self) -> Sweep:
        """Run every trial that the ledger does not hold yet, and return this sweep.

        Raises:
            InvalidInput: when the cluster lacks the resources of one trial.
        """
        with only_driver(self.location):
            self._open()
            records = self.ledger.records()
            search = self._search(records)
            if len(records) >= search.planned:
                self.console.print(f"all {len(records)} trials are in the ledger: {self.location}", highlight=False)
                return self
            if records:
                self.console.print(f"going on: {len(records)} of {search.planned} trials are in the ledger", highlight=False)
            started_here = not ray.is_initialized()
            start_ray(self.address)
            try:
                at_once = trials_at_once(self.space.resources)
                with SweepProgress(self.space, search.planned, at_once, records, self.console) as progress:
                    self._tune(search, records, progress)
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

    def _search(self, records: list[Record]) -> Search:
        return Search(self.space, records, self.ledger.unfinished(records), self._studies())

    def _studies(self) -> optuna.storages.BaseStorage | None:
        """An empty file for Optuna's studies in the sweep's folder; in memory where the storage is not a folder."""
        if "://" in self.location:
            return None
        file = Path(self.location, STUDIES)
        file.unlink(missing_ok=True)  # the ledger is the truth
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))

    def _open(self) -> None:
        """Write the sweep's header, or see that the one on storage is of this sweep."""
        if not self.ledger.exists:
            self.ledger.create(
                SweepHeader(
                    name=self.location.rsplit("/", 1)[-1],
                    space=self.space,
                    created=time.time(),
                    versions=installed_versions(),
                    hardware=_hardware(),
                    git_commit=_git_commit(),
                )
            )
            return
        stored = self.ledger.header().space.model_dump(mode="json")
        if different := first_difference(stored, self.space.model_dump(mode="json"), CHANGEABLE):
            allowed = f"the sweep at {self.location} has {different.before!r}; give this one another --name"
            raise InvalidInput(different.field, different.after, allowed)

    def _tune(self, search: Search, records: list[Record], progress: SweepProgress) -> None:
        space, space_json, location = self.space, self.space.model_dump_json(), self.location

        def trainable(config: dict[str, Any]) -> None:
            record = run_trial(
                Trial.model_validate_json(config["trial"]),
                SearchSpace.model_validate_json(space_json),
                Ledger(location),
                on_segment=_Reports(),
            )
            measured = record.outcome.model_dump(exclude={"stages", "losses"}, exclude_none=True) if record.outcome else {}
            tune.report({"record": record.model_dump_json(), **measured})

        shared = SharedWork(search, lambda trial: compiled(trial, space)[1], records, hold=space.store_gb > 0)
        searcher = SweepSearcher(shared, self.ledger, progress.finished)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": space.resources.cpus, "gpu": space.resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,  # imports cost more than a short trial; train() resets all state
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=location,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),  # trials catch their own errors
                callbacks=callbacks(space.loggers, self.ledger.header().name),
            ),
        )
        tuner.fit()
        if shared.answered:
            self.console.print(f"{shared.answered} proposals were answered from trials of the same plan", highlight=False)
        searcher.write()
        if searcher.refused:
            raise InvalidInput(
                "storage",
                location,
                f"took no more records, so the sweep stopped; {len(searcher.unwritten)} finished trials could not be written "
                f"({searcher.refused.allowed})",
            )


class _Reports:
    """Tells the driver how far a trial is; at most once a second, and not after the last segment."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < 1 or len(progress.segments) == len(progress.plan.segments):
            return
        self._last = now
        cost, loss = progress.flops / progress.plan.full_flops, progress.segments[-1].mean_loss
        tune.report({"segments": len(progress.segments), "cost": cost, "train_loss": loss})


def _trial_id(trial: Any) -> str:
    return str(trial.config["id"])


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hardware() -> str:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else "")


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

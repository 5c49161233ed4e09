"""Launch a sweep on Ray: start it, or go on where it stopped."""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray._private import services
from rich.console import Console

from explorer.budget import Budget
from explorer.errors import InvalidInput
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, SweepHeader, Trial
from explorer.schedule import Schedule
from explorer.sweep.progress import SweepProgress
from explorer.sweep.search import Search
from explorer.sweep.searcher import SweepSearcher
from explorer.sweep.space import NAME_PATTERN, Resources, SearchSpace
from explorer.sweep.trial import STORE, run_trial
from explorer.training.stage_store import StageStore

EXTENDABLE = ("trials", "baseline_trials", "confirm", "confirm_seeds")
"""Search settings that may change between runs of one sweep: they only add trials."""
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
        self._open()
        records = self.ledger.records()
        search = Search(self.space, records)
        if len(records) >= search.planned:
            self.console.print(f"all {len(records)} trials are in the ledger: {self.location}", highlight=False)
            return self
        if records:
            self.console.print(f"going on: {len(records)} of {search.planned} trials are in the ledger", highlight=False)
        started_here = not ray.is_initialized()
        _start_ray(self.address)
        try:
            at_once = _trials_at_once(self.space.resources)
            progress = SweepProgress(self.space, search.planned, at_once, records, self.console)
            with progress:
                self._tune(SweepSearcher(search, self.ledger, progress.finished))
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

    def _open(self) -> None:
        """Write the sweep's header, or see that the one on storage is of this sweep."""
        content = self.space.model_dump(mode="json")
        if not self.ledger.exists:
            self.ledger.create(
                SweepHeader(
                    name=self.location.rsplit("/", 1)[-1],
                    space=content,
                    created=time.time(),
                    versions=installed_versions(),
                    hardware=_hardware(),
                    git_commit=_git_commit(),
                )
            )
            return
        stored = SearchSpace.model_validate(self.ledger.header().space).model_dump(mode="json")
        for field, value in _flat(content).items():
            before = _flat(stored).get(field)
            extendable = field in [f"search.{name}" for name in EXTENDABLE] or field.startswith(("resources.", "store_gb"))
            if value != before and not extendable:
                raise InvalidInput(field, value, f"the sweep at {self.location} has {before!r}; give this one another --name")

    def _tune(self, searcher: SweepSearcher) -> None:
        space_json, location = self.space.model_dump_json(), self.location

        def trainable(config: dict[str, Any]) -> dict[str, Any]:
            record = run_trial(
                Trial.model_validate_json(config["trial"]), SearchSpace.model_validate_json(space_json), Ledger(location)
            )
            measured = record.outcome.model_dump(exclude={"stages"}) if record.outcome else {}
            return {"record": record.model_dump_json(), **measured}

        resources = {"cpu": self.space.resources.cpus, "gpu": self.space.resources.gpus}
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,  # imports cost more than a short trial; train() resets all state
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=self.location,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=1),  # trials catch their own errors: only lost workers
            ),
        )
        tuner.fit()


def _trial_id(trial: Any) -> str:
    return str(trial.config["id"])


def _start_ray(address: str | None) -> None:
    if ray.is_initialized():
        return
    # Trials run where the driver was started, so that relative paths of data mean the same everywhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # It warns that tokens guard the cluster, as they should.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if address is None:
        with _on_loopback():
            ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        return
    host, _, port = address.rpartition(":")
    try:
        if "/" not in address and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput("address", address, f"no Ray cluster answers: {error}") from None


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let `ray.init` take 127.0.0.1 as it is.

    Ray 2.60 rewrites it to the machine's outward address, and its servers then listen on every interface; with a
    node address of 127.0.0.1 they listen on loopback alone.
    """
    rewrite = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = rewrite


def _trials_at_once(resources: Resources) -> int:
    """How many trials the cluster holds side by side.

    Raises:
        InvalidInput: when no node has room for one; Tune would wait for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = (("resources.cpus", "CPU", resources.cpus), ("resources.gpus", "GPU", resources.gpus))
    for field, name, amount in wanted:
        largest = max((node.get(name, 0) for node in nodes), default=0)
        if amount > largest:
            raise InvalidInput(field, amount, f"a trial needs more than any node has: at most {largest:g}")
    room = [min(int(node.get(name, 0) / amount) for _, name, amount in wanted if amount) for node in nodes]
    if not sum(room):
        raise InvalidInput("resources", resources.model_dump(), "no single node has room for a trial")
    return sum(room)


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


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""The header of a sweep: written when it starts, compared when it resumes."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

from explorer.differences import first_difference
from explorer.errors import InvalidInput
from explorer.ledger import Ledger, SweepHeader
from explorer.spec.changed_data import changed_data
from explorer.spec.imports import imports_of
from explorer.spec.inventory import Inventory
from explorer.spec.search_space import SearchSpace
from explorer.sweep.versions import installed_versions
from explorer.training.task import Task

CHANGEABLE = (
    *(f"search.{name}" for name in ("spend", "goal", "trials", "baseline_trials", "sampler")),
    *(f"search.{name}" for name in ("first", "from", "promote", "repeat")),
    "model.checkpoint",
    "data.root",
    "data.num_workers",
    "data.resident",
    "data.cache.folder",
    "resources.",
    "store_gb",
    "loggers",
)
"""Prefixes of settings that may change between runs of one sweep. They add trials, order them, or say where trials run and
where their data are. Data is identified by its inventory, and weights by their digest, wherever they are."""


def new_header(name: str, space: SearchSpace, inventory: Inventory) -> SweepHeader:
    """The header of a sweep that starts now on this machine: what will be trained, on which data, with which versions.

    Args:
        name: of the sweep.
        space: the search space.
        inventory: what the data set contains.
    """
    task = Task(space.task)
    return SweepHeader(
        name=name,
        space=space,
        created=time.time(),
        versions=installed_versions(),
        hardware=_hardware(),
        git_commit=_git_commit(),
        inventory=inventory,
        augmentation=task.augmentation_as_applied,
        model_parameters=task.model_parameters,
        model_input=task.model_input,
        metric=task.objective.metric,
    )


def open_sweep(ledger: Ledger, space: SearchSpace, inventory: Inventory, make_header: Callable[[], SweepHeader]) -> None:
    """Write the sweep's header, or check that the one on the storage is of this sweep.

    Args:
        ledger: of the sweep.
        space: the search space of this run.
        inventory: what the data set contains now.
        make_header: makes the header of a sweep that starts.

    Raises:
        InvalidInput: when the sweep on the storage has other settings or was trained on other data, or there are records of
            trials without a header that says of which task they are.
    """
    if not ledger.exists:
        if count := ledger.count():
            allowed = f"holds {count} records and no sweep.json: it is not known of which task they are; use another --name"
            raise InvalidInput("storage", ledger.location, allowed)
        ledger.create(make_header())
        return
    header = ledger.header()
    stored, given = (_without_proxy_trials(each.model_dump(mode="json")) for each in (header.space, space))
    if different := first_difference(stored, given, CHANGEABLE):
        allowed = f"the sweep at {ledger.location} has {different.before!r}; give this one another --name"
        raise InvalidInput(different.field, different.after, allowed)
    if imports_of(space.task.objective) and (metric := Task(space.task).objective.metric) != header.metric:
        different = first_difference(header.metric.model_dump(), metric.model_dump())
        assert different is not None
        allowed = f"the sweep at {ledger.location} was started with {different.before!r}; give this one another --name"
        raise InvalidInput(f"objective.metric: {different.field}", different.after, allowed)
    if header.inventory is not None and (change := changed_data(header.inventory, inventory)):
        reason = f"the sweep at {ledger.location} was started with {change.before}; the results would not be comparable"
        raise InvalidInput(change.field, change.now, f"{reason}: give this sweep another --name")


def _without_proxy_trials(space: dict[str, Any]) -> dict[str, Any]:
    """The settings without the numbers of trials of proxies, which may change as those of the target may."""
    proxies = [{name: value for name, value in proxy.items() if name != "trials"} for proxy in space.get("proxy", ())]
    return {**space, "proxy": proxies}


def _hardware() -> str:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else "")


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

"""Trainings of other sweeps on the same storage, whose results are copied where a trial would be the same training.

Only exact equality counts: the plan with every step and learning rate, the task, the data, the seed, the number of processes
and threads, the device's name, and the versions of torch, timm and this package. Where a task contains code or files of the
user's, or its data has no digests, nothing is reused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from explorer.errors import InvalidInput
from explorer.ledger import Ledger, OtherTrial, Record, SweepHeader, Trial
from explorer.plan import Plan
from explorer.search.trial_plan import full_training_plan, outcome_costs, task_spec_of
from explorer.spec.changed_data import changed_data
from explorer.spec.inventory import Inventory
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.task_identity import described_task, has_foreign_code, is_listed

PACKAGES = ("vit-budget-explorer", "torch", "timm")
"""Packages whose versions must be equal."""


class _Found(NamedTuple):
    sweep: str
    record: Record


class OtherTrainings:
    """The finished trainings of other sweeps that a sweep can use.

    Args:
        ledger: of the sweep.
        space: its search space, with what was chosen for `recipe.compile: auto`.
        inventory: what its data set contains.
        versions: versions of the packages that it trains with.
        device: gives the name of the device that its trials run on, `None` if there are several; asked only where another sweep
            has something to offer.
        others: ledgers of the sweeps on the same storage.
        table: the sweep's step times; `None` in a sweep that counts FLOPs.

    Attributes:
        unreadable: names of the sweeps that could not be read, with the reason.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: SearchSpace,
        inventory: Inventory,
        versions: Mapping[str, str],
        device: Callable[[], str | None],
        others: Sequence[Ledger],
        table: StepTimeTable | None = None,
    ) -> None:
        self._space, self._inventory, self._table = space, inventory, table
        self._found: dict[str, _Found] = {}
        self.unreadable: dict[str, str] = {}
        wanted = _facts(space, versions)
        if wanted is None or not is_listed(inventory):
            return
        for other in others:
            if other.location == ledger.location:
                continue
            try:
                header = other.header()
                before = header.inventory
                if before is None or not is_listed(before) or changed_data(before, inventory):
                    continue
                chosen = _with_compilation(header.space, other)
                if chosen is not None and _facts(chosen, header.versions) == wanted:
                    self._add(header, chosen, other.records())
            except InvalidInput as error:
                self.unreadable[other.location.rsplit("/", 1)[-1]] = str(error)
        if self._found and (name := device()):
            self._found = {key: found for key, found in self._found.items() if found.record.device == name}
        else:
            self._found = {}

    def __len__(self) -> int:
        """Number of different trainings."""
        return len(self._found)

    def record_of(self, trial: Trial, plan: Plan) -> Record | None:
        """The record of a trial that another sweep has trained; `None` if none has.

        It has the result of that training, costs by the plan of this sweep, and nothing that was executed.
        """
        found = self._found.get(self._key(trial, plan.digest(), self._space)) if self._found else None
        if found is None or found.record.outcome is None:
            return None
        full = None if trial.proxy is None else full_training_plan(self._space, self._table)
        outcome = found.record.outcome
        seconds = [row.seconds for row in plan.stages()]
        if len(seconds) != len(outcome.stages):
            return None  # the same steps, in other stages: two with equal rates are not joined
        stages = [each.model_copy(update={"planned_seconds": s}) for each, s in zip(outcome.stages, seconds, strict=True)]
        unknown = {"planned_seconds": None, "charged_seconds": None, "full_seconds": None, "stage_times": ()}
        costs = {**unknown, **outcome_costs(plan, len(plan.segments), full), "executed_seconds": 0.0, "stages": tuple(stages)}
        now = time.time()
        return found.record.model_copy(
            update={
                "trial": trial,
                "outcome": outcome.model_copy(update=costs),
                "started": now,
                "finished": now,
                "shared_with": None,
                "reused_from": found.record.reused_from or OtherTrial(sweep=found.sweep, trial=found.record.trial.id),
            }
        )

    def _add(self, header: SweepHeader, space: SearchSpace, records: Sequence[Record]) -> None:
        versions = {package: header.versions[package] for package in PACKAGES}
        for record in records:
            ran_with = {package: record.versions.get(package, version) for package, version in versions.items()}
            if record.outcome and record.plan and record.shared_with is None and ran_with == versions:
                self._found.setdefault(self._key(record.trial, record.plan, space), _Found(header.name, record))

    def _key(self, trial: Trial, plan: str, space: SearchSpace) -> str:
        """Key of what is trained on this sweep's data, with its versions and resources."""
        task = described_task(task_spec_of(trial, space), self._inventory)
        return json.dumps([task, trial.seed, plan], sort_keys=True)


def _facts(space: SearchSpace, versions: Mapping[str, str]) -> tuple[object, ...] | None:
    """What must be equal of two sweeps besides their data; `None` where it cannot be told."""
    if has_foreign_code(space.task) or not all(package in versions for package in PACKAGES):
        return None
    resources = space.resources
    return (resources.cpus, resources.process_gpus, resources.process_count, *(versions[package] for package in PACKAGES))


def _with_compilation(space: SearchSpace, ledger: Ledger) -> SearchSpace | None:
    """A search space with what was chosen for `recipe.compile: auto`; `None` if nothing was."""
    if space.task.recipe.compile != "auto":
        return space
    compile = ledger.compilation()
    return None if compile is None else space.model_copy(update={"task": space.task.with_compilation(compile)})

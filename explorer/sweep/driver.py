"""The driver of a sweep on Ray: starts the sweep or resumes it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import ray
from rich.console import Console

from explorer.console import print_line
from explorer.data.check import CheckedData, check_data
from explorer.data.registry import forget_opened
from explorer.errors import InvalidInput
from explorer.frontier import best_schedule, trials_frame
from explorer.frontier.transfer import transfers
from explorer.ledger import Ledger, Record, SweepHeader, Trial
from explorer.ledger.driver_note import DriverNote
from explorer.paths import expanded
from explorer.plan import Plan
from explorer.search.checks import check_space
from explorer.search.forecast import BegunSweep
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.priced_limit import needs_step_times, priced_limit
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.search.step_times import check_covers
from explorer.search.warm_starts import warm_starts
from explorer.spec.budget import Budget
from explorer.spec.imports import imports_line
from explorer.spec.inventory import Inventory
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import NAME_PATTERN, SearchSpace
from explorer.spec.spending_limit import SpendingLimit
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.cluster import start_ray
from explorer.sweep.compilation import with_compilation_chosen
from explorer.sweep.completeness import lacking
from explorer.sweep.driver_notes import DriverNotes
from explorer.sweep.earlier_sweeps import earlier_sweeps, keep
from explorer.sweep.header import new_header, open_sweep
from explorer.sweep.interrupts import interrupted_line, interrupts_deferred
from explorer.sweep.lock import only_driver
from explorer.sweep.loggers import SweepLoggers
from explorer.sweep.placement import hosts_with_room
from explorer.sweep.places import Places, check_room, wait_for_room
from explorer.sweep.probe import probe_nodes
from explorer.sweep.progress import SweepProgress
from explorer.sweep.reuse import other_trainings
from explorer.sweep.step_times import sweep_table, verify_winners
from explorer.sweep.trial import STORE
from explorer.sweep.trial_reports import TrialObservers
from explorer.sweep.tuning import SweepRun, run_trials
from explorer.sweep.versions import check_versions
from explorer.training.stage_store import StageStore
from explorer.training.task import Task, with_files_noted

Retry = Literal["failed", "none"]


class Sweep:
    """A sweep over a search space.

    Args:
        space: the search space.
        storage: folder or URI that contains the sweep's folder; shared by all nodes of a cluster.
        name: name of the sweep's folder; default: the name of the space.
        trials: replaces `search.trials` of the space: number of staged trials at the cheapest budget, from which those of the
            budgets above follow, or a number for each budget.
        spend: replaces `search.spend` of the space: what all trials may cost together, such as `3 trainings`. It decides the
            numbers of trials; a larger one extends a finished sweep.
        goal: replaces `search.goal` of the space: the budget that a schedule is wanted for.
        plan: replaces `search.plan` of the space: `limited` or `exhaustive`.
        start_from: replaces `search.from` of the space: earlier sweeps, whose winners are tried first.
        reuse: whether a trial that is the same training as a finished one of another sweep in `storage` has its result, and is
            not trained again; see `explorer.search.reuse`.
        retry: which failed trials of earlier runs are tried again: `failed` (those that did not diverge) or `none`.
        address: address of a Ray cluster; `auto` for the one that this machine belongs to; `local` or `None` to start Ray here
            (`None` is refused where RAY_ADDRESS is set).
        parallel_trials: number of trials that may run side by side; `None` for as many as the cluster can.
        wait_for_nodes: number of seconds to wait for a node that has room for a trial, on a cluster that adds nodes on demand.
        mix_versions: whether a sweep may be resumed with other versions of torch or timm than it was started with.
        step_times: table of step times for a sweep in device-seconds, of the device that its trials run on; `None` measures
            one before the first trial.
        console: where progress is written.

    Raises:
        InvalidInput: when a setting cannot be used, the limit is below the cheapest useful sweep, or the storage is unusable.
    """

    def __init__(
        self,
        space: SearchSpace,
        storage: str | Path = "sweeps",
        *,
        name: str | None = None,
        trials: int | tuple[int, ...] | None = None,
        spend: str | SpendingLimit | None = None,
        goal: str | Budget | None = None,
        plan: str | None = None,
        start_from: Sequence[str] | None = None,
        reuse: bool = True,
        retry: Retry = "failed",
        address: str | None = None,
        parallel_trials: int | None = None,
        wait_for_nodes: float = 0.0,
        mix_versions: bool = False,
        step_times: StepTimeTable | None = None,
        console: Console | None = None,
    ) -> None:
        space = space.model_copy(update={"task": with_files_noted(space.task)})
        if spend is not None:
            limit = SpendingLimit.parse(spend)
            limit.check_fits(space.currency, space.price)
            space = space.with_search(spend=limit)
        if goal is not None:
            space = space.with_search(goal=Budget.parse(goal))
        if plan is not None:
            space = space.with_search(plan=plan)
        if start_from is not None:
            space = space.with_search(**{"from": tuple(start_from)})
        for field, option, given in (("search.spend", "--spend", spend), ("search.goal", "--for", goal)):
            if given is not None and space.search.plan == "exhaustive":
                allowed = f"has no effect with plan: exhaustive; leave out {option}, or choose plan: limited (--plan limited)"
                raise InvalidInput(field, str(given), allowed)
        space = space.as_planned()
        if trials is not None and space.search.spend is not None:
            allowed = f"cannot be combined with a spending limit ({space.search.spend}), which decides the number of trials"
            raise InvalidInput("trials", trials, allowed)
        if trials is not None:
            space = space.with_search(trials=trials)
        self.console = console or Console()
        if line := imports_line(space, "this search space"):
            self._say(line)
        self._whole_space, space = space, space.up_to_goal()
        forget_opened()  # in this process, an earlier sweep may have opened the data before it changed
        check_space(space)
        if name is not None and not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput(
                "name", name, "must be letters, digits, dots, dashes and underscores, and start with a letter or digit"
            )
        if retry not in get_args(Retry):
            raise InvalidInput("retry", retry, f"must be one of {', '.join(get_args(Retry))}")
        if parallel_trials is not None and parallel_trials < 1:
            raise InvalidInput("parallel_trials", parallel_trials, "must be at least 1")
        if not wait_for_nodes >= 0:
            raise InvalidInput("wait_for_nodes", wait_for_nodes, "must be a number of seconds")
        if step_times is not None and space.currency == "flops":
            raise InvalidInput("calibration", space.currency, "step times are for a sweep with currency: device_seconds")
        if step_times is not None:
            check_covers(space, step_times)
        self._given_step_times = step_times
        self.parallel_trials, self.wait_for_nodes = parallel_trials, wait_for_nodes
        self.space, self.address, self.retry, self.mix_versions = space, address, retry, mix_versions
        root = expanded(storage, "storage")
        root = root if "://" in root else str(Path(root).resolve())
        self.location = f"{root.rstrip('/')}/{name or space.name}"
        self.ledger = Ledger(self.location)
        if not needs_step_times(space) and (priced := priced_limit(space)):
            # Refuses a limit that is too low. Whether the records are of this search space is checked before the sweep runs.
            spent = ([r for r in each if priced.charges(r.trial)] for each in (self.ledger.records(), self.ledger.superseded()))
            Spending(space, priced, *spent)
        self.reuse = reuse
        self.earlier_sweeps = earlier_sweeps(self.space, Task(space.task).data.inventory, self.ledger)
        warm_starts(self.space, self.earlier_sweeps)  # refuses a sweep of which nothing fits

    def run(self) -> Sweep:
        """Run every trial that the ledger does not hold yet, and return this sweep.

        Raises:
            InvalidInput: when the storage holds a sweep with other settings or data under this name, torch or timm has another
                version than the sweep was started with, the cluster lacks the resources of one trial, the storage takes no
                more records, another driver has taken over the sweep, the first trials all failed in the same way, or no host
                is left that can run trials.
            KeyboardInterrupt: after Ctrl-C; running this again resumes. After SIGTERM, `SystemExit` with code 143.
        """
        if vars(self).pop("checked_data", None) is not None:  # images may have changed since an earlier run
            forget_opened()
        _ = self.checked_data  # images that cannot be read stop a sweep before it writes or starts anything
        with only_driver(self.location, say=self._say) as lock, quiet_optuna():
            self._open()
            keep(self.ledger, self.earlier_sweeps)
            check_versions(self.ledger.header(), mix=self.mix_versions)
            table = self.ledger.step_times()
            if self.space.search.spend:
                self._count_interrupted(table)
            records = self._without_retried(self._records(), table)
            search = self._search(records, table)
            if self.ledger.warning:
                self._say(f"warning: {self.ledger.warning}; trials without a record are run again")
            for line in (*search.limit_lines(), *search.warm_starts.lines):
                self._say(line)
            with self._loggers(records) as loggers:
                if records and len(records) >= search.planned:
                    self._clear_store(records)
                    self._say(f"all {len(records)} trials are in the ledger: {self.location}")
                    self._say_spent(search)
                    return self
                if records:
                    self._say(f"resuming: {len(records)} of {search.planned} trials are in the ledger")
                started_here = not ray.is_initialized()
                with interrupts_deferred(interrupted_line(len(records), search.planned), self._say):
                    start_ray(self.address)
                try:
                    places = self._places(lambda: search.planned - (self.ledger.count() - len(self._records_above_goal)))
                    space = with_compilation_chosen(
                        self._readable_space, self.ledger, search.trials, places.at_once, places.excluded, self._say
                    )
                    if self.space.currency == "device_seconds":
                        table = self._step_times(space, places)
                        before, search = search, self._search(records, table)
                        limit = search.limit_lines() if before.spending is None else []
                        starts = search.warm_starts.lines if search.warm_starts != before.warm_starts else ()
                        for line in (*limit, *starts):
                            self._say(line)
                    trained_elsewhere = self._trained_elsewhere(space, table, places)
                    with (
                        places,
                        DriverNotes(self.location, search, lambda: places.at_once) as notes,
                        SweepProgress(
                            search.allocated_space, search.planned, places.at_once, records, self.console
                        ) as progress,
                    ):
                        run_trials(
                            SweepRun(
                                space=space,
                                ledger=self.ledger,
                                search=search,
                                table=table,
                                records=records,
                                lock=lock,
                                places=places,
                                progress=progress,
                                observers=TrialObservers(loggers, notes),
                                trained_elsewhere=trained_elsewhere,
                                say=self._say,
                            )
                        )
                    if table is not None:
                        verify_winners(space, self.ledger, table, self.ledger.records(), places.excluded, self._say)
                finally:
                    if started_here:
                        ray.shutdown()
            if len(records := self._records()) >= search.planned:
                self._clear_store(records)
        self.console.print(progress.last_table())
        self._say_transfer()
        self._say_spent(search)
        if search.untried_warm_starts:
            self._say(f"{search.untried_warm_starts} warm starts were not tried: there were too few trials at their budgets")
        return self

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the results lack, one line each: budgets without a successful staged or baseline trial."""
        return lacking(self.space, self.ledger.records())

    def begun(self, inventory: Inventory, table: StepTimeTable | None) -> BegunSweep | None:
        """Where this sweep stands on the storage; `None` if it has not begun. Nothing is written.

        Args:
            inventory: what the data set contains now.
            table: the sweep's step times, which a sweep in device-seconds needs.

        Raises:
            InvalidInput: when the storage holds a sweep with other settings or data under this name.
        """
        if not self.ledger.exists:
            return None
        open_sweep(self.ledger, self._whole_space, inventory, lambda: self.header(inventory))
        with quiet_optuna():
            records, retried = self._records(), self._retried(self._records(), table)
            kept = [record for record in records if record not in retried]
            return BegunSweep(self._search(kept, table), kept)

    def header(self, inventory: Inventory) -> SweepHeader:
        """The header that this sweep writes when it starts; see `explorer.sweep.header.new_header`."""
        return new_header(self.location.rsplit("/", 1)[-1], self._whole_space, inventory)

    def best(self, budget: str | Budget) -> Schedule:
        """The best schedule for a budget of the sweep; see `explorer.frontier.best_schedule`."""
        header = self.ledger.header()
        return best_schedule(
            trials_frame(self.ledger.records(), header), header, Budget.parse(budget), self.ledger.step_times()
        )

    def _say(self, line: str) -> None:
        print_line(self.console, line)

    @cached_property
    def checked_data(self) -> CheckedData:
        """The data, of which every image was read, and what is in it; it is printed. Trials use its settings."""
        checked = check_data(self.space.task.data, console=self.console, anew=False)
        warnings = (*checked.inventory.warnings, *Task(self.space.task).warnings)
        for line in (*checked.inventory.summary, *(f"warning: {warning}" for warning in warnings)):
            self._say(line)
        return checked

    @property
    def _readable_space(self) -> SearchSpace:
        """The search space, without images that cannot be read if they are to be skipped."""
        return self.space.with_data(self.checked_data.spec)

    def _places(self, left: Callable[[], int]) -> Places:
        """The cluster's places for trials, once there is one, on hosts that can run trials.

        Args:
            left: gives the number of trials that have not ended.
        """
        resources = self.space.resources
        if self.wait_for_nodes:
            wait_for_room(resources, self.wait_for_nodes, min(left(), self.parallel_trials or left()), self._say)
        check_room(resources)
        hosts = hosts_with_room(resources)
        excluded = probe_nodes(self._readable_space, self.location, hosts, self._say, mix_versions=self.mix_versions)
        return Places(resources, self.parallel_trials, excluded, left if self.wait_for_nodes else None)

    def _step_times(self, space: SearchSpace, places: Places) -> StepTimeTable:
        """The sweep's table of step times, with which the space can be planned."""
        table = sweep_table(space, self.ledger, self._given_step_times, places.excluded, self._say)
        check_space(self.space, table)
        return table

    def _records(self) -> list[Record]:
        """The records at the budgets of this run. An earlier one may have had a larger `search.goal`, and trained others."""
        return [record for record in self.ledger.records() if record.trial.budget in self.space.budgets]

    @cached_property
    def _records_above_goal(self) -> list[Record]:
        """The records at larger budgets, which count against a limit. This run adds none to them."""
        if self.space.budgets == self._whole_space.budgets:
            return []
        return [record for record in self.ledger.records() if record.trial.budget not in self.space.budgets]

    def _unfinished(self, records: list[Record]) -> list[Trial]:
        """The trials at these budgets that were started and have no record; others wait for a run that wants them."""
        return [trial for trial in self.ledger.unfinished(records) if trial.budget in self.space.budgets]

    def _search(self, records: list[Record], table: StepTimeTable | None) -> Search:
        unfinished, spending = self._unfinished(records), self._spending(records, table)
        return Search(self.space, records, unfinished, table, spending, self.earlier_sweeps)

    def _trained_elsewhere(
        self, space: SearchSpace, table: StepTimeTable | None, places: Places
    ) -> Callable[[Trial, Plan], Record | None]:
        """Gives the record of a trial that another sweep on the storage has trained."""
        if not self.reuse or self.mix_versions:
            return lambda *_: None
        checked = space.with_data(self.space.task.data)  # as the headers of other sweeps have it
        return other_trainings(self.ledger, checked, self.checked_data.inventory, table, places, self._say).record_of

    def _spending(self, records: list[Record], table: StepTimeTable | None) -> Spending | None:
        """The spending of the sweep; `None` without a limit, or as long as the step times that the limit needs are unknown."""
        if table is None and needs_step_times(self.space):
            return None
        priced = priced_limit(self._whole_space, table)
        if priced is None:
            return None
        return Spending(self.space, priced, [*records, *self._records_above_goal], self.ledger.superseded())

    def _count_interrupted(self, table: StepTimeTable | None) -> None:
        """Count the trials that ran when the last driver ended as attempts, once: what they lost was spent.

        Those without a worker had only been proposed; where the driver's note is lost, all count that were. One that does not
        fit into the limit a second time is not tried again.
        """
        records, note = self._records(), DriverNote.read(self.location)
        unfinished = [trial for trial in self._unfinished(records) if note is None or trial.id in note.running]
        now = time.time()
        ended = [
            Record(
                trial=trial,
                status="failed",
                failure="lost",
                reason="the driver ended before this trial did",
                started=now,
                finished=now,
                worker="unknown",
                device="unknown",
            )
            for trial in unfinished
        ]
        again = self._search(records, table).affordable_retries(ended) if ended else []
        for record in ended:
            if record in again:
                self.ledger.set_aside(record)
            else:
                self.ledger.append(record)
        if len(again) < len(ended):
            self._say(f"{len(ended) - len(again)} interrupted trials do not fit into the limit a second time")
        if note is not None and note.running:
            with suppress(OSError):
                note.model_copy(update={"running": {}}).write(self.location)

    def _say_spent(self, search: Search) -> None:
        """Say what was spent of a limit, whether the winners could be repeated, and what a larger limit would add."""
        for line in search.spent_lines():
            self._say(line)

    def _say_transfer(self) -> None:
        """Say whether the ranks of schedules carry over from the proxies to the target."""
        trials = trials_frame(self.ledger.records(), of="all")
        for transfer in transfers(trials, self.checked_data.inventory.validation.images):
            self._say(str(transfer))

    def _without_retried(self, records: list[Record], table: StepTimeTable | None) -> list[Record]:
        """The records without those of failed trials that are tried again, which are set aside."""
        retried = self._retried(records, table)
        if refused := len(self._to_retry(records)) - len(retried):
            self._say(f"{refused} failed trials are not tried again, because the spending limit has no room")
        for record in retried:
            self.ledger.set_aside(record)
        if retried:
            self._say(f"trying {len(retried)} failed trials again")
        return [record for record in records if record not in retried]

    def _to_retry(self, records: list[Record]) -> list[Record]:
        return [record for record in records if record.outcome is None and not record.diverged and self.retry == "failed"]

    def _retried(self, records: list[Record], table: StepTimeTable | None) -> list[Record]:
        """The records of failed trials that are tried again, as far as a limit has room for them."""
        failed = self._to_retry(records)
        return self._search(records, table).affordable_retries(failed) if failed and self.space.search.spend else failed

    def _clear_store(self, records: list[Record]) -> None:
        """Remove the stage store of a sweep whose trials have all ended, unless failed ones would be tried again from it."""
        failed = sum(record.outcome is None and not record.diverged for record in records)
        if failed and self.retry == "failed" and self.space.store_gb:
            again = "the same command tries them again; --retry none removes it"
            self._say(f"the stage store is kept for {failed} failed trials: {again}")
            return
        StageStore(f"{self.location}/{STORE}", 0).clear()

    def _loggers(self, records: list[Record]) -> SweepLoggers:
        return SweepLoggers(self.ledger.header(), self.space, self.location, records, self._say)

    def _open(self) -> None:
        """Write the sweep's header, or check that the one on the storage is of this sweep."""
        inventory = self.checked_data.inventory
        open_sweep(self.ledger, self._whole_space, inventory, lambda: self.header(inventory))

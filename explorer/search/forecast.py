"""What a sweep will cost, before anything is spent."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from explorer.ledger import Outcome, Record, StageOutcome, Trial
from explorer.ledger.earlier_sweeps import EarlierSweep
from explorer.plan import Plan, compile_plan
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.machines import Machines, StepTimes, wanted_text
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.priced_limit import priced_limit
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.search.trial_plan import compile_in_currency, compile_trial, full_training_plan, outcome_costs
from explorer.spec.budget import Budget
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.time_spent import duration_text
from explorer.training.task import Task

TRIAL_OVERHEAD_SECONDS = 0.5
"""Seconds of Ray, data and evaluation around a training on a worker that is kept; see benchmarks/README.md."""


MAX_TRIALS = 1000
"""Trials that a forecast goes through at most: a search of thousands takes long even with random results."""


@dataclass(frozen=True)
class BegunSweep:
    """Where a sweep stands that has begun."""

    search: Search
    """That goes on from the records."""
    records: Sequence[Record]
    """What the ledger holds; without those of failed trials that are tried again."""


@dataclass
class BudgetForecast:
    """The trials of one budget."""

    budget: str
    """The budget as text; of a proxy, `proxy 1, 25%`."""
    staged: int = 0
    """Number of staged search trials."""
    baseline: int = 0
    """Number of baseline search trials."""
    repeats: int = 0
    """Number of repeats with fresh seeds, of both kinds."""
    full_steps: int = 0
    """Steps of the full model with the recipe's batch size."""
    planned: float = 0.0
    """Cost of all of them in full trainings of the target, without sharing."""

    def add(self, trial: Trial, cost: float) -> None:
        """Count a trial that costs this number of full trainings."""
        self.planned += cost
        if trial.phase == "repeat":
            self.repeats += 1
        elif trial.kind == "staged":
            self.staged += 1
        else:
            self.baseline += 1


@dataclass
class Forecast:
    """The trials of a sweep, their cost and their time."""

    machines: Machines
    """Where the sweep will run."""
    budgets: list[BudgetForecast]
    warm_starts: tuple[str, ...] = ()
    """What is taken from earlier sweeps, one line for each of their winners."""
    executed: float = 0.0
    """Cost in full trainings of what will be trained: shared training counts once."""
    seconds: float = 0.0
    """Time with one trial at a time; of no meaning where the machines have no step times."""
    full_seconds: float = 0.0
    """Time of one full training."""
    trained: int = 0
    """Number of trials that will be trained; the others share the whole training of one of them."""
    evaluation: float = 0.0
    """Cost of evaluating one trained model, in full trainings: a forward pass over validation and test images, for which a
    third of the FLOPs of a training step per image is counted."""
    is_cut_off: bool = False
    """Whether only the first `MAX_TRIALS` trials are counted."""
    spending: Spending | None = None
    """The spending at the end, where the sweep has a limit."""
    begun: BegunSweep | None = None
    """Where the sweep stood, if it had begun."""

    @property
    def planned(self) -> float:
        """Cost in full trainings, without sharing."""
        return sum(row.planned for row in self.budgets)

    @property
    def trials(self) -> int:
        """Total number of trials."""
        return sum(row.staged + row.baseline + row.repeats for row in self.budgets)

    @property
    def evaluation_share(self) -> float:
        """Fraction of the FLOPs of the whole sweep that evaluation takes."""
        evaluated = self.trained * self.evaluation
        return evaluated / (evaluated + self.executed) if evaluated else 0.0

    def table(self) -> Table:
        """One row per budget."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("budget", "staged trials", "baseline trials", "repeats", "steps, full model", "cost, all"):
            table.add_column(title, justify="right")
        for row in self.budgets:
            table.add_row(
                row.budget, str(row.staged), str(row.baseline), str(row.repeats), f"{row.full_steps:,}", f"{row.planned:.2f}"
            )
        return table

    def allocation_table(self) -> Table | None:
        """How the spending limit is divided among the budgets if nothing is shared; `None` without a limit.

        Nor is there one once the sweep has begun.
        """
        if self.spending is None or self.begun is not None:
            return None
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("budget", "staged trials", "baseline trials", "repeats", "cost at most", "of the limit"):
            table.add_column(title, justify="right")
        for number, (on_proxy, cost) in enumerate(self.spending.on_proxies, start=1):
            table.add_row(f"proxy {number}", str(on_proxy), "-", "-", f"{cost:.2f}", f"{cost / self.spending.limit:.0%}")
        for budget, trials in zip(self.spending.space.budgets, self.spending.at_start, strict=True):
            cost = trials.cost * (trials.staged + trials.baseline + trials.repeats)
            counts = (str(count) if cost else "-" for count in (trials.staged, trials.baseline, trials.repeats))
            shown = (f"{cost:.2f}", f"{cost / self.spending.limit:.0%}") if cost else ("not searched", "-")
            table.add_row(str(budget), *counts, *shown)
        return table

    def spending_summary(self) -> str:
        """The spending limit in sentences; empty without a limit."""
        if self.spending is None:
            return ""
        if self.begun is not None:
            return "\n".join(f"in the end: {line}" for line in self.begun.search.spent_lines())
        until = f"by the first {self.trials} trials" if self.is_cut_off else "in the end"
        given, text, spent = self.spending.priced.given, self.spending.priced.text, self.spending.spent
        return (
            f"spending limit: {given}; repeats of the best {self.spending.winners} of each kind are reserved first, and what "
            f"sharing saves goes to more trials: about {text(spent)} are spent {until} "
            f"({spent / self.spending.limit:.0%})\nif nothing is shared, {self.spending.larger_limit_at_start()}"
        )

    def summary(self, space: SearchSpace, parallel_trials: int | None = None) -> str:
        """Cost, sharing and time in sentences.

        Args:
            space: the search space.
            parallel_trials: number of trials that run side by side at most; `None` for as many as the machines can.
        """
        if self.begun is not None and not self.trials:
            return f"nothing is left to train: {len(self.begun.records)} trials are in the ledger"
        shared = 1 - self.executed / self.planned
        hint = "" if space.search.learning_rate_grid else "; only equal learning rates share: search.learning_rate_grid"
        full = f"one full training takes about {duration_text(self.full_seconds)}; " if self.machines.times else ""
        counted = (
            f"the first {self.trials} trials, to which this forecast is limited" if self.is_cut_off else f"{self.trials} trials"
        )
        counted += f" besides {len(self.begun.records)} in the ledger" if self.begun else ""
        return (
            f"{counted}; all of them together cost {self.planned:.2f} full trainings, of which about "
            f"{self.executed:.2f} are trained and {shared:.0%} are shared (estimated with random results{hint})\n"
            f"{full}evaluation takes about {self.evaluation_share:.0%} of the FLOPs\n"
            f"{self._time(space, parallel_trials)}"
        )

    def _time(self, space: SearchSpace, parallel_trials: int | None) -> str:
        """How long it takes, and on what."""
        machines = self.machines
        each = wanted_text(space.resources)
        count = min(machines.places, parallel_trials or machines.places)
        if machines.times is None:
            room = "" if count else f"; {machines} has no room for a trial ({each}), so the sweep cannot run there"
            return f"no estimate of the time: {machines.no_times}{room}"
        device = "the CPU" if machines.times.device == "cpu" else machines.times.device
        measured = f"step times measured on {device}"
        if machines.times.processes < space.resources.process_count:
            measured += ", of a process's part of the batch, without the exchange of gradients"
        if count == 0:
            count = parallel_trials or 1
            return (
                f"{machines} has no room for a trial ({each}), so the sweep cannot run there; elsewhere, about "
                f"{self.seconds / count / 60:.1f} min with {count} side by side, from {measured}"
            )
        minutes = self.seconds / count / 60
        return f"about {minutes:.1f} min on {machines} with {count} side by side ({each} each), from {measured}"


def forecast(
    space: SearchSpace,
    machines: Machines,
    table: StepTimeTable | None = None,
    earlier_sweeps: Sequence[EarlierSweep] = (),
    begun: BegunSweep | None = None,
) -> Forecast:
    """Search as a sweep would, with results drawn at random, and add up the cost of the plans.

    Real searches concentrate on good settings and share more. Time is estimated from the step times of the machines and from
    the overhead of a trial.

    Args:
        space: the search space.
        machines: where the sweep will run.
        table: step times, which a sweep in device-seconds needs.
        earlier_sweeps: the sweeps of `search.from`.
        begun: where the sweep stands, if it has begun: the forecast is of what is left.
    """
    expected = Forecast(machines, [], begun=begun)
    times = machines.times
    task = Task(space.task)
    full_training = compile_plan(Schedule.full_model(), task, Budget(1.0), task.step_cost)
    expected.full_seconds = _seconds(times, full_training.steps, full_training.flops)
    expected.evaluation = _evaluation_cost(task)
    rows: dict[tuple[int | None, Budget], BudgetForecast] = {}
    for proxy in (*range(1, len(space.proxy) + 1), None):
        for budget in space.budgets:
            rows[proxy, budget] = BudgetForecast(str(budget) if proxy is None else f"proxy {proxy}, {budget}")
    expected.budgets = list(rows.values())
    full = full_training_plan(space, table)
    trained: set[str] = set()
    results = random.Random(space.search.seed)
    priced = priced_limit(space, table)
    records: Sequence[Record] = ()
    with quiet_optuna():
        if begun is None:
            expected.spending = Spending(space, priced) if priced else None
            search = Search(space, table=table, spending=expected.spending, earlier_sweeps=earlier_sweeps)
        else:
            search, records = begun.search, begun.records
            expected.spending = search.spending
        expected.warm_starts = search.warm_starts.lines
        dispatcher = Dispatcher(search, lambda trial: compile_trial(trial, space, table)[1], records, hold_back=False)
        while isinstance(planned := dispatcher.next(), PlannedTrial):
            plan, trial = planned.plan, planned.trial
            rows[trial.proxy, trial.budget].add(trial, plan.planned_cost / full.full_cost)
            known = planned.segments_in(trained) if space.store_gb else 0
            trained.update(planned.prefixes)
            for segment in plan.segments[known:]:
                expected.executed += segment.amount(plan.currency) / full.full_cost
                expected.seconds += _seconds(times, segment.steps, segment.flops)
            expected.seconds += TRIAL_OVERHEAD_SECONDS
            expected.trained += 1
            new = len(plan.segments) - known
            dispatcher.finished(synthetic_record(trial, plan, results.random(), new, full))
            _add_shared(dispatcher, rows)
            if expected.trials >= MAX_TRIALS:
                expected.is_cut_off = True
                break
        _add_shared(dispatcher, rows)
    # A proxy is trained at some budgets alone; the others may hold no step of it.
    rows = {(proxy, budget): row for (proxy, budget), row in rows.items() if proxy is None or row.staged}
    for (proxy, budget), row in rows.items():
        of_task = space if proxy is None else space.proxy_space(proxy)
        row.full_steps = compile_in_currency(Schedule.full_model(), Task(of_task.task), budget, of_task, table).steps
    expected.budgets = list(rows.values())
    return expected


def _seconds(times: StepTimes | None, steps: int, flops: float) -> float:
    """Time of training steps; 0 where none was measured."""
    return steps * times.overhead + flops * times.per_flop if times else 0.0


def _evaluation_cost(task: Task) -> float:
    """Cost of one evaluation in full trainings; see `Forecast.evaluation`."""
    inventory = task.data.inventory
    evaluated = inventory.validation.images + inventory.test.images
    return evaluated / (3 * task.epochs * task.train_images)


def _add_shared(dispatcher: Dispatcher, rows: Mapping[tuple[int | None, Budget], BudgetForecast]) -> None:
    for record in dispatcher.take_shared_records():
        assert record.outcome is not None
        rows[record.trial.proxy, record.trial.budget].add(record.trial, record.outcome.planned_cost)


def synthetic_record(
    trial: Trial, plan: Plan, score: float, executed_segments: int | None = None, full: Plan | None = None
) -> Record:
    """The record that a worker would have written if the training had ended with this result.

    Args:
        trial: the trial.
        plan: its plan.
        score: of validation and test images, from 0 to 1, as an accuracy.
        executed_segments: number of segments at the end that were not in the stage store; `None` for all.
        full: as for `outcome_costs`.
    """
    stages = tuple(
        StageOutcome(
            rates=s.rates,
            steps=s.steps,
            step_flops=s.step_flops,
            flops=s.flops,
            seconds=0.0,
            mean_loss=0.0,
            planned_seconds=s.seconds,
        )
        for s in plan.stages()
    )
    outcome = Outcome(
        validation=score,
        test=score,
        **outcome_costs(plan, 0 if executed_segments is None else len(plan.segments) - executed_segments, full),
        steps=plan.steps,
        train_seconds=1.0,
        evaluation_seconds=0.0,
        stages=stages,
    )
    now = time.time()
    return Record(
        trial=trial,
        status="completed",
        outcome=outcome,
        started=now,
        finished=now,
        worker="",
        device="",
        plan=plan.digest(),
    )

"""Train every method of methods.py on Fashion-MNIST, with each optimizer.

    python benchmarks/fashion_mnist/run.py [--only full sweep] [--optimizers adamw] [--up-to 50%]
    python benchmarks/fashion_mnist/compare.py    tables from the results

It resumes when interrupted, and continues with the more expensive budgets when called again without a limit.

Every method chooses by validation accuracy: sweeps with the product's search, fixed schedules among all pairs of a learning
rate and a batch size, as many at each budget as task.yaml has `baseline_trials`; the best pairs of a budget are those tried at
the next. What is chosen at a budget is then trained with five seeds that no search has used. One core.

What was tried is in tuning.csv, what was chosen in chosen.csv, the trainings with fresh seeds in results.csv, and which test
images each of these classifies correctly in correct.csv. Where that is missing, the training is repeated, and must give the
stored accuracy.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from explorer import Budget, Schedule, SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.trials import describe, rows
from explorer.ledger.correct_images import CorrectImages
from explorer.plan import Plan
from explorer.search.search import Search
from explorer.search.step_times import measure_table
from explorer.search.trial_plan import compile_in_currency
from explorer.spec.rates import AXES
from explorer.spec.step_times import StepTimeTable
from explorer.training.loop import train
from explorer.training.result import TrainingResult
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from methods import METHODS, OPTIMIZERS, muon_in_float32, space_of  # noqa: E402 (a module in the folder of the script)
from one_process import opened, trained  # noqa: E402

TUNING, CHOSEN, RESULTS, CORRECT = (FOLDER / f"{name}.csv" for name in ("tuning", "chosen", "results", "correct"))
KEY, SETTINGS = ["method", "optimizer", "budget"], ["learning_rate", "batch_size"]
COLUMNS = {
    TUNING: [*KEY, *SETTINGS, "validation_accuracy", "cost"],
    CHOSEN: [*KEY, *SETTINGS, "validation_accuracy", "search_cost", "schedule"],
    RESULTS: [
        *KEY,
        "seed",
        "cost",
        "validation_accuracy",
        "test_accuracy",
        "learning_rate",
        "batch_size",
        "stages",
        "schedule",
    ],
    CORRECT: [*KEY, "seed", "images", "packed"],
}
FRESH_SEEDS = range(700, 705)
"""Seeds that no search has used."""


@dataclass(frozen=True)
class Choice:
    """What a method found for a budget."""

    budget: Budget
    schedule: Schedule
    learning_rate: float
    batch_size: int
    validation: float
    search_cost: float
    """What the method's search trained at this budget, in full trainings."""


def planned(space: SearchSpace, schedule: Schedule, budget: Budget, learning_rate: float, batch_size: int) -> tuple[Task, Plan]:
    """The task with these settings, and the plan of a schedule for it, in the currency of the method."""
    task = Task(space.task.with_settings(learning_rate, batch_size, {}))
    return task, compile_in_currency(schedule, task, budget, space, table_of(space))


def table_of(space: SearchSpace) -> StepTimeTable | None:
    """The step times by which a method plans seconds, measured once for each optimizer; `None` for one that counts FLOPs."""
    if space.currency == "flops":
        return None
    path = FOLDER / f"{space.name}_step_times.json"
    if not path.exists():
        path.write_text(measure_table(space).model_dump_json(indent=1) + "\n", encoding="utf-8")
    return StepTimeTable.model_validate_json(path.read_text(encoding="utf-8"))


def tuned(space: SearchSpace, method: str, optimizer: str) -> Iterator[Choice]:
    """The best learning rate and batch size of a fixed schedule at each budget, from the cheapest."""
    search, schedule = space.search, METHODS[method].schedule
    assert isinstance(search.baseline_trials, tuple)
    assert schedule is not None
    known = {
        (row["budget"], float(row["learning_rate"]), int(row["batch_size"])): (
            float(row["validation_accuracy"]),
            float(row["cost"]),
        )
        for row in _stored(TUNING, method, optimizer)
    }
    pairs = [(rate, size) for rate in search.learning_rates() for size in search.batch_size]
    for budget, count in zip(space.budgets, search.baseline_trials, strict=True):
        found: list[tuple[float, float, tuple[float, int]]] = []
        for rate, size in pairs[:count]:
            key = (str(budget), round(rate, 9), size)
            if key not in known:
                task, plan = planned(space, schedule, budget, rate, size)
                known[key] = round(train(task, plan, seed=search.seed).validation, 6), round(plan.cost, 6)
                _append(TUNING, [method, optimizer, *key, *known[key]])
            found.append((*known[key], (rate, size)))
        found.sort(key=lambda each: -each[0])
        pairs = [pair for *_, pair in found]
        yield Choice(budget, schedule, *pairs[0], found[0][0], sum(cost for _, cost, _ in found))


def searched(space: SearchSpace, storage: str) -> Iterator[Choice]:
    """What the product's search finds at each budget; its winners are not repeated, and it trains no baseline."""
    space = space.with_search(repeat=0)
    ledger, table = opened(space, storage), table_of(space)
    records = ledger.records()
    unfinished = [trial for trial in ledger.unfinished(records) if trial.budget in space.budgets]
    search = Search(space, records, unfinished, table)
    for rung in search.rungs:
        if rung.kind == "baseline":
            rung.wanted = 0
    for record in trained(search, space, ledger, table):
        print(f"{space.name} {record.trial.id}: {record.outcome.validation if record.outcome else record.reason}", flush=True)
    records = [record for record in ledger.records() if record.outcome and record.trial.budget in space.budgets]
    for winner in rows(best_by_budget(trials_frame(records, ledger.header()))):
        outcomes = [record.outcome for record in records if str(record.trial.budget) == winner.budget and record.outcome]
        cost = sum(outcome.executed_flops / outcome.full_flops for outcome in outcomes)
        budget = next(each for each in space.budgets if str(each) == winner.budget)
        yield Choice(budget, winner.schedule, winner.learning_rate, winner.batch_size, winner.validation_mean, cost)


def choose(method: str, optimizer: str, storage: str, up_to: str) -> None:
    """Search what is not in chosen.csv yet, up to a budget, and write a row for each."""
    space = space_of(method, optimizer).with_search(goal=up_to).up_to_goal()
    if {str(budget) for budget in space.budgets} <= {row["budget"] for row in _stored(CHOSEN, method, optimizer)}:
        return
    is_fixed = METHODS[method].schedule is not None
    for found in tuned(space, method, optimizer) if is_fixed else searched(space, storage):
        if str(found.budget) in {row["budget"] for row in _stored(CHOSEN, method, optimizer)}:
            continue
        row = [method, optimizer, found.budget, found.learning_rate, found.batch_size, round(found.validation, 6)]
        _append(CHOSEN, [*row, round(found.search_cost, 4), found.schedule.model_dump_json(exclude_none=True)])


def train_fresh(method: str, optimizer: str) -> Iterator[None]:
    """Train all that was chosen with the fresh seeds that are missing, from the cheapest budget, one training per iteration."""
    space, stored = space_of(method, optimizer), _stored(RESULTS, method, optimizer)
    accuracies = {(row["budget"], int(row["seed"])): float(row["test_accuracy"]) for row in stored}
    done = {(row["budget"], int(row["seed"])) for row in _stored(CORRECT, method, optimizer)}
    chosen = _stored(CHOSEN, method, optimizer)
    for seed in FRESH_SEEDS:
        for row in chosen:
            if (row["budget"], seed) in done:
                continue
            schedule = Schedule.model_validate(json.loads(row["schedule"]))
            rate, size = float(row["learning_rate"]), int(row["batch_size"])
            task, plan = planned(space, schedule, Budget.parse(row["budget"]), rate, size)
            result = train(task, plan, seed=seed)
            measured, correct = _measured(plan, result), CorrectImages.of(result.test_correct)
            known = accuracies.get((row["budget"], seed))
            if known is None:
                settings = [rate, size, _stages(plan), describe(schedule)]
                _append(RESULTS, [method, optimizer, row["budget"], seed, *measured, *settings])
            elif known != measured[-1]:
                sys.exit(f"{method} {row['budget']} {seed}: {measured[-1]}, but results.csv has {known}: of another machine?")
            assert correct is not None
            _append(CORRECT, [method, optimizer, row["budget"], seed, correct.images, correct.packed])
            yield


def _measured(plan: Plan, result: TrainingResult) -> list[float]:
    """FLOPs as a share of full training, whatever the plan counts, and both accuracies."""
    return [round(plan.flops / plan.full_flops, 6), round(result.validation, 6), round(result.test, 6)]


def _stages(plan: Plan) -> str:
    """Rates of heads, MLP, tokens and depth, batch size and steps of each stage."""
    stages = plan.stages()
    return "; ".join(f"{' '.join(f'{getattr(s.rates, axis):.3g}' for axis in AXES)} b{s.batch_size} x{s.steps}" for s in stages)


def _stored(path: Path, method: str, optimizer: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if (row["method"], row["optimizer"]) == (method, optimizer)]


def _append(path: Path, row: list[Any]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
    print(*row, flush=True)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", default="sweeps", help="folder of the sweeps' ledgers")
    parser.add_argument("--only", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--up-to", default="100%", help="the largest budget for which something is searched")
    parser.add_argument("--optimizers", nargs="*", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    muon_in_float32()
    for path, columns in COLUMNS.items():
        if not path.exists():
            path.write_text(",".join(columns) + "\n", encoding="utf-8")
    for optimizer in options.optimizers:
        for method in options.only:
            choose(method, optimizer, options.storage, options.up_to)
        running = [train_fresh(method, optimizer) for method in options.only]
        while running:  # in turn, so that results after an interruption can be compared
            running = [each for each in running if next(each, "done") != "done"]


if __name__ == "__main__":
    main()

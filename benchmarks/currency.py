"""Sweeps that count FLOPs and sweeps that count seconds, side by side: what each finds, by FLOPs and by seconds.

    python benchmarks/currency.py --run [--task fractals] [--storage sweeps]    an hour and a half on one core; resumes
    python benchmarks/currency.py --table                                       from the kept results

Both sweeps search the same space with the same number of trials, and plan seconds by one table of step times, which is measured
first. Trials run one at a time in one process, without Ray. Winners are repeated with fresh seeds, and their steps are
measured where the table's model gave the seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from curves import TEST_IMAGES, average, common_range, curve, difference, over_seeds
from figures import keep
from one_process import opened, trained
from rich.console import Console

from explorer import SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.curve import Match
from explorer.frontier.trials import describe
from explorer.ledger import KINDS, Ledger, Record
from explorer.search.search import Search
from explorer.search.step_times import measure_again, measure_table, steps_of, steps_to_verify, verified_table
from explorer.search.trial_plan import compile_trial, full_training_plan
from explorer.spec.budget import CURRENCIES, Currency
from explorer.spec.rates import AXES, Rates
from explorer.spec.step_times import StepTimeTable
from explorer.training.calibration import Calibration
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER / "methods"))
import compare  # noqa: E402 (a module in the folder of the methods)

RESULTS = FOLDER / "currency.csv"
STEP_TIMES = FOLDER / "currency_step_times.csv"
SPACES = {"fractals": FOLDER / "methods" / "copies.yaml", "digits": FOLDER.parent / "reports" / "digits" / "space.yaml"}
BUDGETS = ("6.25%", "12.5%", "25%", "50%", "100%")
LEVELS = (0.25, 0.5, 0.75, 1.0)
SETTINGS = {
    "trials": (16, 8, 6, 3, 1),
    "baseline_trials": (8, 8, 6, 3, 2),
    "promote": 2,
    "rates": dict.fromkeys(AXES, LEVELS),
    "repeat": 1,
    "repeat_seeds": 3,
}
"""Of both sweeps. The baseline tries all eight pairs of a learning rate and a batch size at the cheapest budgets."""
FOUND: dict[Currency, str] = {"flops": "found by FLOPs", "device_seconds": "found by seconds"}
COSTS = {"flops": "FLOPs", "seconds": "seconds"}
UNMEASURED_CHECKED = 12
"""Steps that the table's model gave and that are measured afterwards, to check the model."""


def space_of(task: str, currency: Currency) -> SearchSpace:
    """The search space of a task, in a currency, with few trials."""
    space = SearchSpace.load(SPACES[task]).with_search(trials=1, baseline_trials=1)
    content = space.model_dump(mode="json")
    content |= {"name": f"currency_{task}_{currency}", "currency": currency, "budgets": list(BUDGETS)}
    content["search"] |= SETTINGS
    return SearchSpace.model_validate(content)


def run(task: str, storage: str, console: Console) -> None:
    """Run both sweeps in turn, trial by trial, and write the results after each of them."""
    torch.set_num_threads(1)
    sweeps = {currency: (space_of(task, currency), Ledger(f"{storage}/currency_{task}_{currency}")) for currency in CURRENCIES}
    space, kept = sweeps["device_seconds"]
    if (table := kept.step_times()) is None:
        console.print("measuring step times", highlight=False)
        kept.keep_step_times(table := measure_table(space))
    searches = {}
    for currency, (space, ledger) in sweeps.items():
        opened(space, storage)
        records = ledger.records()
        own = table if currency == "device_seconds" else None
        searches[currency] = trained(Search(space, records, ledger.unfinished(records), own), space, ledger, own)
    while searches:
        for currency, running in list(searches.items()):
            if (record := next(running, None)) is None:
                del searches[currency]
                continue
            accuracy = f"{record.outcome.validation:.3f}" if record.outcome else record.reason
            console.print(f"{sweeps[currency][0].name} {record.trial.id}: {accuracy}", highlight=False)
            _write(RESULTS, results(task, sweeps, table), task)
    table = _verify(sweeps, table)
    _write(RESULTS, results(task, sweeps, table), task)
    _write(STEP_TIMES, step_times(task, space, table), task)


def _verify(sweeps: dict[Currency, tuple[SearchSpace, Ledger]], table: StepTimeTable) -> StepTimeTable:
    """Measure the steps of the winners of both sweeps, and some others, that the table's model gave."""
    space, kept = sweeps["device_seconds"]
    variants = []
    for own, ledger in sweeps.values():
        records = ledger.records()
        best = set(best_by_budget(trials_frame(records)).id)
        variants += steps_to_verify(own, table, [record for record in records if record.trial.id in best])
    known = [each for each in steps_of(space) if _known(table, each.rates, each.batch_size, dict(each.staging)) is None]
    variants += [each for each in known if each.key not in {variant.key for variant in variants}][:UNMEASURED_CHECKED]
    variants = list({variant.key: variant for variant in variants}.values())
    if variants and not table.verified:
        table = verified_table(table, measure_again(space, table, variants, seconds=1.0))
        kept.keep_step_times(table)
    return table


def _known(table: StepTimeTable, rates: Rates, batch_size: int, staging: dict[str, str]) -> float | None:
    return table.measured(rates, batch_size, staging) or table.measured_later(rates, batch_size, staging)


def results(task: str, sweeps: dict[Currency, tuple[SearchSpace, Ledger]], table: StepTimeTable) -> pd.DataFrame:
    """One row per trained trial of both sweeps.

    Costs are fractions of full training: by FLOPs, and by seconds of the table, in which winners' steps are measured ones.
    """
    known = {(each.rates, each.batch_size, tuple(each.staging.items())): each for each in table.verified}
    measured = Calibration.of_table(table.model_copy(update={"steps": (*table.steps, *known.values()), "verified": ()}))
    rows = []
    for currency, (space, ledger) in sweeps.items():
        records = [record for record in ledger.records() if record.outcome]
        if not records:
            continue
        best = set(best_by_budget(trials_frame(records)).id)
        for record in records:
            trial, outcome = record.trial, record.outcome
            assert outcome is not None
            rows.append(
                {
                    "task": task,
                    "found_by": currency,
                    "id": trial.id,
                    "candidate": trial.repeat_of or trial.id,
                    "phase": trial.phase,
                    "kind": trial.kind,
                    "budget": str(trial.budget),
                    "is_best": (trial.repeat_of or trial.id) in best,
                    "seed": trial.seed,
                    "flops": round(outcome.planned_flops / outcome.full_flops, 6),
                    "seconds": round(_seconds(record, space, table, measured), 6),
                    "planned_seconds": outcome.planned_seconds,
                    "train_seconds": round(outcome.train_seconds, 4),
                    "validation_accuracy": round(outcome.validation, 6),
                    "test_accuracy": round(outcome.test, 6),
                    "learning_rate": trial.learning_rate,
                    "batch_size": trial.batch_size,
                    "schedule": describe(trial.schedule),
                    "shared": record.shared_with is not None,
                }
            )
    return pd.DataFrame(rows)


def _seconds(record: Record, space: SearchSpace, table: StepTimeTable, measured: Calibration) -> float:
    """Seconds of a trial's steps over those of full training: of its plan, with each step as it was measured."""
    trial = record.trial
    own = table if space.currency == "device_seconds" else None
    task, plan = compile_trial(trial, space, own)
    cost = measured.step_cost(task)
    seconds = sum(segment.steps * (cost(segment.requested).seconds or math.nan) for segment in plan.segments)
    return seconds / (measured.full_seconds(task) or math.nan)


def step_times(task: str, space: SearchSpace, table: StepTimeTable) -> pd.DataFrame:
    """One row per measured step: measured and, for those measured after the search, predicted milliseconds."""
    costs, rows = Calibration.of_table(table), []
    for step in (*table.steps, *table.verified):
        size = step.batch_size or table.setting.task.recipe.batch_size
        spec = space.task.with_settings(space.task.recipe.learning_rate, size, step.staging)
        predicted = costs.step_cost(Task(spec))(step.rates).seconds if step in table.verified else None
        rows.append(
            {
                "task": task,
                "rates": str(step.rates),
                "batch_size": size,
                "milliseconds": round(1000 * step.seconds, 4),
                "predicted": None if predicted is None else round(1000 * predicted, 4),
            }
        )
    model = table.model
    return pd.DataFrame(rows).assign(
        held_out_median=model.held_out_median if model else math.nan, scatter=table.scatter if table.scatter else math.nan
    )


def _write(path: Path, rows: pd.DataFrame, task: str) -> None:
    """Write the rows of a task, and keep those of others."""
    others = pd.read_csv(path) if path.exists() else pd.DataFrame({"task": []})
    kept = others[others.task != task]
    pd.concat([kept, rows] if len(kept) else [rows], ignore_index=True).to_csv(path, index=False)


def points(runs: pd.DataFrame) -> pd.DataFrame:
    """The best of each kind at each budget of each sweep, over its fresh seeds."""
    best = runs[runs.is_best & (runs.phase == "repeat")]
    means = ("flops", "seconds", "validation_accuracy")
    return over_seeds(best, ("found_by", "kind", "budget"), means, TEST_IMAGES[runs.task.iloc[0]])


def match(table: pd.DataFrame, found_by: str, kind: str, cost: str) -> Match:
    """The share of full training at which a curve reaches the test accuracy of the full model there.

    Of the full models of the two sweeps, it is the one that is better on validation data.
    """
    full = table[(table.kind == "baseline") & (table.budget == "100%")]
    target = full.loc[full.validation_accuracy.idxmax()]
    rows = table[(table.found_by == found_by) & (table.kind == kind)]
    return curve(rows, cost).cost_to_match(target)


def depth_growth() -> pd.DataFrame:
    """Depth growth of benchmarks/methods, with seconds as shares of those of the recipe's full training, as in `results`."""
    recipe = full_training_plan(SearchSpace.load(SPACES["fractals"]))
    full_seconds = recipe.steps * compare.step_times()["drop", "1 1 1 1", recipe.batch_size] / 1000
    table = compare.in_seconds()
    return table[table.method == "depth"].assign(seconds=table.seconds / full_seconds)


def print_tables(task: str) -> None:
    """Print the comparison of a task."""
    runs = pd.read_csv(RESULTS)
    runs = runs[runs.task == task]
    table = points(runs)
    print(f"{task}: {len(runs)} trials\n")
    for cost, name in COSTS.items():
        curves = {key: curve(rows, cost) for key, rows in table.groupby(["found_by", "kind"])}
        grown = curve(depth_growth(), cost) if (task, cost) == ("fractals", "seconds") else None
        costs = common_range([*curves.values(), grown] if grown else curves.values())
        print(f"| by {name} | to match the full model | mean accuracy, {costs[0]:.2f} to {costs[1]:.2f} |\n| --- | --- | --- |")
        for found_by, title in FOUND.items():
            for kind in KINDS:
                if (found_by, kind) not in curves:
                    continue
                found = match(table, found_by, kind, cost)
                bounds = f" ({share(found.low)} to {share(found.high)})"
                print(f"| {kind}, {title} | {share(found.cost)}{bounds} | {average(curves[found_by, kind], costs)} |")
                if kind == "staged":
                    keep(f"{task}, {title}: share of {name} to match", found.cost, 0.05)
        if grown:
            print(f"| depth growth of the methods, by its own step times | | {average(grown, costs)} |")
            of_seconds = curves["device_seconds", "staged"]
            shared = common_range([of_seconds, grown])
            ahead = difference(of_seconds, grown, shared)
            print(f"\nstaged, found by seconds, over depth growth from {shared[0]:.2f} to {shared[1]:.2f}: {ahead} points")
        print()
    print("| sweep | kind | budget | test, 95 % interval | of FLOPs | of seconds | schedule | LR, batch |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in table.itertuples():
        accuracy = f"{100 * row.test_mean:.1f} ({100 * row.test_low:.1f} to {100 * row.test_high:.1f})"
        settings = f"{row.learning_rate:g}, {row.batch_size}"
        costs = f"{row.flops:.3f} | {row.seconds:.3f}"
        print(f"| {FOUND[row.found_by]} | {row.kind} | {row.budget} | {accuracy} | {costs} | {row.schedule} | {settings} |")
    print()
    trained = runs[(runs.found_by == "device_seconds") & ~runs.shared & runs.planned_seconds.notna()]
    if len(trained):
        ratio = trained.train_seconds / trained.planned_seconds
        off = (ratio - 1).abs()
        print(
            f"realised over planned seconds of {len(ratio)} trials: median {ratio.median():.3f}, 95 % within "
            f"{off.quantile(0.95):.1%}, {(off <= 0.08).mean():.0%} within 8 %"
        )
        keep(f"{task}: realised over planned seconds, median", ratio.median(), 0.03)
    if STEP_TIMES.exists():
        steps = pd.read_csv(STEP_TIMES)
        steps = steps[steps.task == task]
        line = f"model of step times: leave-one-out median {steps.held_out_median.iloc[0]:.1%}"
        later = steps[steps.predicted.notna()]
        if len(later):
            error = (later.predicted / later.milliseconds - 1).abs()
            line += f"; of {len(later)} steps measured afterwards: median {error.median():.1%}, largest {error.max():.1%}"
        print(f"{line}; scatter of the full step {steps.scatter.iloc[0]:.0%}")


def share(value: float) -> str:
    """Format a share of full training; infinite means not reached within the measured costs."""
    return "no interval" if math.isnan(value) else f"{value:.2f}" if np.isfinite(value) else "not reached"


def main() -> None:
    """Run the sweeps, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the sweeps, and write the results")
    parser.add_argument("--table", action="store_true", help="print the comparison from the kept results")
    parser.add_argument("--task", choices=SPACES, default="fractals")
    parser.add_argument("--storage", default="sweeps", help="folder of the sweeps' ledgers")
    options = parser.parse_args()
    if options.run:
        run(options.task, options.storage, Console())
    if options.table or not options.run:
        print_tables(options.task)


if __name__ == "__main__":
    main()

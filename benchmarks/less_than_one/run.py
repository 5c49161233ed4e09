"""Sweeps of at most one full training against the exhaustive one: what they cost, and how good what they recommend is.

    python benchmarks/less_than_one/run.py --table                          from results.csv, in seconds
    python benchmarks/less_than_one/run.py --run [--storage sweeps]         trains what is missing; resumes when interrupted

Every sweep is asked for a schedule for 25 % of full training. What it recommends (`explorer best --budget 25%`: stages,
learning rate and batch size) is trained with three seeds that no search has used. `--run` has five seeds of the search for both
kinds of sweep, which are kept for fractals and digits; of Fashion-MNIST, three limited ones are. Two hours on one core, next
to other work.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from scipy import stats

from explorer import Schedule, SearchSpace, compile_plan
from explorer.frontier import trials_frame
from explorer.frontier.choice import best_schedule
from explorer.frontier.trials import describe
from explorer.frontier.uncertainty import floored_error
from explorer.ledger import Record
from explorer.search.priced_limit import priced_limit
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.training.loop import train
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "fashion_mnist")]  # the latter for the data source of fashion.yaml
from curves import TEST_IMAGES, over_seeds  # noqa: E402 (a module in the folder of the benchmarks)
from one_process import opened, trained  # noqa: E402

RESULTS = FOLDER / "results.csv"
COLUMNS = ["task", "sweep", "seed", "cost", "on_proxies", "trials", "at_goal", "schedule", "learning_rate", "batch_size",
           "fresh_seed", "test_accuracy"]  # fmt: skip
TASKS = ("fractals", "digits", "fashion")
EXHAUSTIVE = "exhaustive"
VARIANTS: Mapping[str, dict[str, object]] = {
    EXHAUSTIVE: {"plan": "exhaustive"},
    "one training": {},
}
"""Sweeps, and what they change in the settings of the search."""
SEEDS = 5
SEARCH_SEEDS = 10
"""Distance of the seeds of two searches, which are followed by those of repeats."""
FRESH_SEEDS = range(900, 903)


def space_of(task: str, variant: str, seed: int) -> SearchSpace:
    """The search space of a sweep."""
    space = SearchSpace.load(FOLDER / f"{task}.yaml")
    named = space.model_copy(update={"name": f"{space.name}-{variant.replace(' ', '-')}-{seed}"})
    return named.with_search(**VARIANTS[variant], seed=SEARCH_SEEDS * seed)


def sweep(space: SearchSpace, storage: str, console: Console) -> list[Record]:
    """Train what is missing of a sweep, and return its records."""
    ledger = opened(space, storage)
    records = ledger.records()
    planned = space.as_planned().up_to_goal()
    priced = priced_limit(planned)
    spending = Spending(planned, priced, records) if priced else None
    search = Search(planned, records, ledger.unfinished(records), spending=spending)
    for line in search.limit_lines() if not records else []:
        console.print(f"{space.name}: {line}", highlight=False)
    for record in trained(search, search.space, ledger):
        accuracy = f"{record.outcome.validation:.3f}" if record.outcome else record.reason
        console.print(f"{space.name} {record.trial.id}: {accuracy}", highlight=False)
    return ledger.records()


def recommended(space: SearchSpace, storage: str) -> tuple[Schedule, bool]:
    """The schedule that a sweep recommends for its goal, and whether it was trained there."""
    ledger = opened(space, storage)
    header = ledger.header()
    assert space.search.goal is not None
    schedule = best_schedule(trials_frame(ledger.records(), header), header, space.search.goal)
    return schedule, schedule.provenance is not None and schedule.provenance.prediction is None


def cost_of(records: list[Record]) -> tuple[float, float]:
    """Executed FLOPs in full trainings of the target, of all trials, and of those on proxies."""
    full = next(each.outcome.full_flops for each in records if each.outcome and each.trial.proxy is None)
    executed = [(each.trial.proxy is not None, each.outcome.executed_flops / full) for each in records if each.outcome]
    return sum(cost for _, cost in executed), sum(cost for on_proxy, cost in executed if on_proxy)


def run(tasks: list[str], variants: list[str], seeds: int, storage: str, console: Console) -> None:
    """Run the missing sweeps, and train what they recommend."""
    stored = set()
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8") as file:
            stored = {(row["task"], row["sweep"], int(row["seed"]), int(row["fresh_seed"])) for row in csv.DictReader(file)}
    else:
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for seed in range(seeds):
        for variant in variants:
            for task in tasks:
                missing = [fresh for fresh in FRESH_SEEDS if (task, variant, seed, fresh) not in stored]
                if not missing:
                    continue
                space = space_of(task, variant, seed)
                records = sweep(space, storage, console)
                schedule, at_goal = recommended(space, storage)
                found = schedule.provenance
                assert found is not None
                spec = space.task.with_settings(found.learning_rate, found.batch_size, found.staging)
                trained_task = Task(spec)
                plan = compile_plan(schedule, trained_task, space.search.goal, trained_task.step_cost)
                for fresh in missing:
                    accuracy = train(trained_task, plan, seed=fresh).test
                    cost, on_proxies = cost_of(records)
                    row = [
                        task,
                        variant,
                        seed,
                        round(cost, 4),
                        round(on_proxies, 4),
                        len(records),
                        int(at_goal),
                        describe(schedule),
                    ]
                    row += [found.learning_rate, found.batch_size, fresh, round(accuracy, 6)]
                    with RESULTS.open("a", newline="", encoding="utf-8") as file:
                        csv.writer(file, lineterminator="\n").writerow(row)
                    console.print(f"{space.name} recommends {row[7:]}", highlight=False)


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run what is missing")
    parser.add_argument("--table", action="store_true", help="print the table of the stored results")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS[:2])
    parser.add_argument("--sweeps", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--storage", default="sweeps", help="folder of the sweeps' ledgers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run:
        run(options.tasks, options.sweeps, options.seeds, options.storage, Console())
    if options.table or not options.run:
        print(table(pd.read_csv(RESULTS)))


def table(results: pd.DataFrame) -> str:
    """Executed cost of each sweep, and the accuracy of what it recommends, compared with the exhaustive sweeps."""
    named = results.rename(columns={"seed": "search_seed", "fresh_seed": "seed"})
    lines = [
        "| task | sweep | seed | executed cost, full trainings | on proxies | test accuracy at 25 % | behind exhaustive, "
        "points | schedule; learning rate, batch |",
        f"|{' --- |' * 8}",
    ]
    summary = []
    for task, runs in named.groupby("task", sort=False):
        images = TEST_IMAGES[task]
        of_task = over_seeds(runs, ("sweep", "search_seed"), ("cost", "on_proxies", "at_goal"), images)
        exhaustive = of_task[of_task.sweep == EXHAUSTIVE].test_mean
        reference = exhaustive.mean()
        for name, group in of_task.groupby("sweep", sort=False):
            behind = 100 * (reference - group.test_mean)
            for row, regret in zip(group.itertuples(), behind, strict=True):
                settings = f"{row.schedule}; {row.learning_rate:g}, {row.batch_size}"
                found = "" if row.at_goal else " (not trained at 25 %)"
                lines.append(
                    f"| {task} | {name} | {row.search_seed} | {row.cost:.2f} | {row.on_proxies:.2f} | "
                    f"{100 * row.test_mean:.1f} | {f'{regret:.1f}' if len(exhaustive) else ''} | {settings}{found} |"
                )
            if not len(exhaustive):
                summary.append(
                    f"{task}, {name}: at most {group.cost.max():.2f} full trainings; no exhaustive sweep to compare with"
                )
            elif name != EXHAUSTIVE:
                side = "behind" if behind.mean() >= 0 else "ahead of"
                summary.append(
                    f"{task}, {name}: at most {group.cost.max():.2f} full trainings, {abs(behind.mean()):.1f} points {side} "
                    f"exhaustive sweeps (means of {len(group)} and {len(exhaustive)} sweeps; single ones {behind.min():.1f} to "
                    f"{behind.max():.1f} behind); {interval_of_difference(exhaustive, group.test_mean, images)}"
                )
    return "\n".join([*lines, "", *summary])


def interval_of_difference(exhaustive: pd.Series, limited: pd.Series, test_images: int) -> str:
    """The 95 % interval of the difference of two means over sweeps, in words (Welch's t).

    The standard error of each mean is at least what the number of test images allows.

    Args:
        exhaustive: mean test accuracy of what each exhaustive sweep recommends.
        limited: the same of limited sweeps.
        test_images: number of images on which all were tested.
    """
    if min(len(exhaustive), len(limited)) < 2:
        return "no interval of the difference: it needs two sweeps of each kind"
    counts = np.array([len(exhaustive), len(limited)])
    means, errors = (np.array([getattr(each, name)() for each in (exhaustive, limited)]) for name in ("mean", "sem"))
    variances = floored_error(means, errors, counts, np.full(2, test_images)) ** 2
    freedom = variances.sum() ** 2 / (variances**2 / (counts - 1)).sum()
    half = stats.t.ppf(0.975, freedom) * variances.sum() ** 0.5
    difference = means[0] - means[1]
    return f"95 % interval of the difference {100 * (difference - half):.1f} to {100 * (difference + half):.1f} points behind"


if __name__ == "__main__":
    main()

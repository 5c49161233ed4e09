"""Compare the training that this project's search and other searches need, replayed on recorded results.

    python benchmarks/search/replay.py --table           prints the table from digits_replay.csv, in seconds
    python benchmarks/search/replay.py --run             replays ours, and what is missing of the others: minutes, see below
    python benchmarks/search/replay.py --task fashion    the same for Fashion-MNIST, with proxies

All use the same search space and the same recorded accuracies (digits_table.csv, fashion_table.csv, written by record.py), with
ten seeds of the search.

- Ours: one study per budget with promotion, duplicates reused, and prefixes trained once (with every state at the end of a
  segment stored, as in the stage store). Baseline trials are not counted, because the others have none.
- Others: see rivals.py. Each spends what ours spends on average. A seed is replayed if it is not kept for the installed version
  of its package: delete its rows from the file to repeat it. Searches whose package is not installed are left out, and
  their kept results stay. Two fit slow models: CARBS and EHVI need five minutes and more for each seed, and run last.

Progress is the hypervolume of validation accuracy over log2 of the cost, so that each doubling of the budget has the same
weight. The reference point is full training with zero accuracy.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from scipy import stats

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent)]
from figures import keep  # noqa: E402 (a script's neighbour folder)
from recorded import TASKS, Progress, Table, recorded  # noqa: E402 (scripts of this folder)
from rivals import RIVALS  # noqa: E402

from explorer.search.dispatcher import Dispatcher, PlannedTrial  # noqa: E402
from explorer.search.forecast import synthetic_record  # noqa: E402
from explorer.search.search import Search  # noqa: E402
from explorer.search.trial_plan import full_training_plan  # noqa: E402
from explorer.spec.search_space import SearchSpace  # noqa: E402

COLUMNS = ["search", "package", "seed", "spent", "hypervolume"]
"""Of the results: full trainings spent and the hypervolume then, wherever it rises and at the end."""
SEEDS = 10
SETTINGS = {"trials": 40, "baseline_trials": 1}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours without sharing": {"sharing": False},
    "ours without promotion": {"promote": 0},
    "ours, proxy of 1/16 of the images": {"proxies": (1,)},
    "ours, proxy of 1/4 of the images": {"proxies": (2,)},
}
PROXY_TRIALS = (0, 0, 0, 16)
"""Trials of a proxy at each budget."""
TARGETS = ("OptunaSearch, two objectives", "OptunaSearch per budget")
"""Searches whose final hypervolume the others are to reach."""


def ours(task: str, seed: int, sharing: bool = True, proxies: tuple[int, ...] = (), **search: Any) -> Progress:
    """A sweep of this project, without proxies or with those that are given by number."""
    table = Table(task, proxies)
    space = table.space.with_search(seed=seed, **search).with_proxy_trials([PROXY_TRIALS for _ in proxies])
    full = full_training_plan(space)
    progress, trained = Progress(space), set()
    # Results were recorded with one training seed; here the seed is that of the search only.
    work = Dispatcher(Search(space), table.plan, hold_back=False)

    def add_shared() -> None:
        """A staged trial that shares the training of a baseline is charged in full: baselines are not counted here."""
        for record in work.take_shared_records():
            if record.trial.kind == "staged" and record.trial.proxy is None and record.outcome:
                cost = record.outcome.planned_flops / record.outcome.full_flops
                progress.add(record.trial.budget, record.outcome.validation, cost)

    while isinstance(planned := work.next(), PlannedTrial):
        add_shared()
        trial, plan = planned.trial, planned.plan
        known = planned.segments_in(trained) if sharing else 0
        trained.update(planned.prefixes)
        executed = sum(segment.flops for segment in plan.segments[known:]) / full.full_flops
        accuracy = table.accuracy(trial)
        if trial.proxy is not None:
            progress.add_on_proxy(executed)
        elif trial.kind == "staged":
            progress.add(trial.budget, accuracy, executed)
        work.finished(synthetic_record(trial, plan, accuracy, full=full))
    add_shared()
    return progress


def run(task: str) -> None:
    """Replay ours, and the seeds of other searches that are not kept for the installed versions of their packages."""
    kept = FOLDER / f"{task}_replay.csv"
    results = pd.read_csv(kept) if kept.exists() else pd.DataFrame(columns=COLUMNS)
    every_proxy = len(SearchSpace.load(FOLDER / f"{task}.yaml").proxy)
    for name, settings in OURS.items():
        if max(settings.get("proxies", ()), default=0) > every_proxy:
            continue  # not recorded for this task
        runs = [ours(task, seed, **{**SETTINGS, **settings}) for seed in range(SEEDS)]
        for seed, progress in enumerate(runs):
            results = _with(results, name, "", seed, progress)
    limit = final(results, "ours").spent.mean()
    table = Table(task)
    for name, rival in RIVALS.items():
        if rival.version is None:
            print(f"{name}: {rival.package} is not installed, kept results stay", file=sys.stderr)
            continue
        for seed in range(SEEDS):
            if not ((results.search == name) & (results.seed == seed) & (results.package == rival.version)).any():
                results = _with(results, name, rival.version, seed, rival.progress(table, seed, limit))
                results.to_csv(kept, index=False)
    results.to_csv(kept, index=False)


def _with(results: pd.DataFrame, name: str, package: str, seed: int, progress: Progress) -> pd.DataFrame:
    """The results with one more run, in place of an earlier one of this search and seed; in the order of the table."""
    points = [(progress.spent, progress.volumes[-1][1])]
    for spent, volume in reversed(progress.volumes[:-1]):
        if volume < points[-1][1]:
            points.append((spent, volume))
        else:  # reached before
            points[-1] = (spent, volume)
    points = [*reversed(points), (progress.spent, progress.volumes[-1][1])]
    rows = [(name, package, seed, round(spent, 4), round(volume, 4)) for spent, volume in dict.fromkeys(points)]
    others = results[(results.search != name) | (results.seed != seed)]
    merged = pd.concat([others, pd.DataFrame(rows, columns=COLUMNS)]) if len(others) else pd.DataFrame(rows, columns=COLUMNS)
    names = [*OURS, *RIVALS]
    order = {each: number for number, each in enumerate(names)}
    return merged.sort_values("search", key=lambda column: column.map(order), kind="stable")


def final(results: pd.DataFrame, name: str) -> pd.DataFrame:
    """The last row of each seed of a search."""
    return results[results.search == name].groupby("seed").last()


def costs_to_reach(results: pd.DataFrame, name: str, volume: float) -> list[float]:
    """Full trainings that each seed of a search had spent when it reached a hypervolume; infinite where it never did."""
    of = results[results.search == name]
    reached = of[of.hypervolume >= volume].groupby("seed").spent.min()
    return [float(reached.get(seed, math.inf)) for seed in of.seed.unique()]


def table(results: pd.DataFrame) -> str:
    """What the searches reach, and for which share of the training that ours spends, in Markdown."""
    limit = final(results, "ours").spent.mean()
    volumes = {name: final(results, name).hypervolume for name in (*OURS, *RIVALS) if (results.search == name).any()}

    def share(name: str, target: str) -> str:
        shares = [cost / limit for cost in costs_to_reach(results, name, volumes[target].mean())]
        return f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"

    titles = ["search", "seeds", "full trainings", "hypervolume", "ours reaches it at", "two objectives at", "per budget at"]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for name, of in volumes.items():
        half = stats.t.ppf(0.975, len(of) - 1) * of.sem() if len(of) > 1 else math.nan
        cells = [name, len(of), f"{final(results, name).spent.mean():.2f}", f"{of.mean():.3f} ± {half:.3f}"]
        cells += [share("ours", name) if name in RIVALS else "", *(share(name, target) for target in TARGETS)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Replay searches, print the table, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument("--run", action="store_true", help="replay ours, and what is missing of the others")
    parser.add_argument("--table", action="store_true", help="print the table")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.run:
        run(options.task)
    results = pd.read_csv(FOLDER / f"{options.task}_replay.csv")
    print("share of what ours spends, when a final mean hypervolume is reached: median (lowest to highest of the seeds)")
    print(table(results))
    print("packages:", ", ".join(results.package.dropna().unique()))
    for name in (each for each in (*OURS, *TARGETS) if (results.search == each).any()):
        keep(f"{options.task}, {name}: hypervolume", final(results, name).hypervolume.mean(), 0.01)
    rows = recorded(options.task)
    accuracies = rows[rows.task == "target"].pivot_table(
        index=["learning_rate", "batch_size", "units"], columns="budget", values="validation_accuracy"
    )
    ranks = accuracies[["5%", "10%", "20%", "40%"]].corr(method="spearman")
    neighbours = [f"{a} to {b} {ranks.loc[a, b]:.2f}" for a, b in itertools.pairwise(ranks.columns)]
    print(f"Spearman between neighbouring budgets, all {len(accuracies)} points: {', '.join(neighbours)}")


if __name__ == "__main__":
    main()

"""Predicted against measured: how far predictions are off, and how often their 95 % intervals hold what was measured.

    python benchmarks/prediction.py --table                    two minutes, from kept results
    python benchmarks/prediction.py --add SWEEP --name NAME    keep the winners of a finished sweep in prediction.csv

From each recorded curve, the most expensive budgets are left out and predicted from the others, down to two; then those in
between.
The curves: those of reports/digits, methods/results.csv, fashion_mnist/results.csv, currency.csv and prediction.csv; sweeps
drawn from search/digits_table.csv, the recorded results of 440 schedules and settings at four budgets; and curves published for
ImageNet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from curves import TEST_IMAGES
from figures import keep

from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.laws import LAWS, Law
from explorer.frontier.prediction import PredictedCurve
from explorer.ledger import Ledger
from explorer.spec.provenance import MAX_REACH, MIN_BUDGETS

FOLDER = Path(__file__).parent
KEPT = FOLDER / "prediction.csv"
COLUMNS = ["sweep", "kind", "budget", "cost", "seeds", "test_mean", "seed_error", "test_images"]
MIN_SHOWN_BUDGETS = 3
"""Trained budgets of the main figures; those from two are listed apart."""
REACHES = {"2x": (1.7, 2.7), "5x": (3.5, 6.0), "10x": (7.0, 10.5)}
"""Cost of what is predicted over the largest trained one: bounds of each group."""
CHEAP = 0.205
"""Trained budgets of the predictions at 100 %: at most 20 % of full training."""
DRAWN_SWEEPS = 40
NEIGHBOUR_SWEEPS = 300
DRAWN_TRIALS = {"5%": 20, "10%": 10, "20%": 6, "40%": 4}
"""Staged trials at each budget of a drawn sweep: half of them, but for the first, are the best of the budget below."""
DRAWN_BASELINES = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """A budget that was left out, and its prediction from others."""

    sweep: str
    kind: str
    trained: int
    """Number of budgets that the prediction is from."""
    trained_to: float
    """Largest of them, as a share of full training."""
    cost: float
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Cost over the largest trained one."""
        return self.cost / self.trained_to

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low <= self.measured <= self.high


def recorded_curves() -> pd.DataFrame:
    """The winners of recorded sweeps, with the columns of `COLUMNS`."""
    digits = pd.read_csv(FOLDER.parent / "reports" / "digits" / "frontier.csv").assign(sweep="digits")
    methods = pd.read_csv(FOLDER / "methods" / "results.csv").assign(kind="staged")
    methods.loc[methods.method == "full", "kind"] = "baseline"
    methods["sweep"] = "methods: " + methods.method
    currency = pd.read_csv(FOLDER / "currency.csv")
    currency = currency[(currency.phase == "repeat") & currency.is_best]
    currency = currency[(currency.found_by == "flops") | (currency.kind == "staged")]  # both have the same baseline
    currency["sweep"] = "by " + currency.found_by.map({"flops": "FLOPs", "device_seconds": "seconds"})
    currency["cost"] = [float(budget.rstrip("%")) / 100 for budget in currency.budget]
    fashion = pd.read_csv(FOLDER / "fashion_mnist" / "results.csv").assign(kind="staged")
    fashion.loc[fashion.method == "full", "kind"] = "baseline"
    fashion["sweep"] = (
        "Fashion-MNIST: " + fashion.method + fashion.optimizer.map(lambda name: "" if name == "adamw" else f", {name}")
    )
    of_fractals = [_over_seeds(runs, TEST_IMAGES["fractals"]) for runs in (methods, currency)]
    tables = [digits, *of_fractals, _over_seeds(fashion, TEST_IMAGES["fashion"]), pd.read_csv(KEPT)]
    return pd.concat([table[COLUMNS] for table in tables], ignore_index=True)


def _over_seeds(runs: pd.DataFrame, test_images: int) -> pd.DataFrame:
    table = runs.groupby(["sweep", "kind", "budget"], as_index=False).agg(
        cost=("cost", "mean"),
        seeds=("seed", "size"),
        test_mean=("test_accuracy", "mean"),
        seed_error=("test_accuracy", "sem"),
    )
    return table.assign(test_images=test_images).sort_values(["sweep", "kind", "cost"])


def drawn_curves(count: int) -> pd.DataFrame:
    """Winners of sweeps over random settings of search/digits_table.csv; one run each, chosen on validation data.

    The columns of `COLUMNS`, and the test accuracy of the same settings at every budget (`at 5%` ...).
    """
    table = pd.read_csv(FOLDER / "search" / "digits_table.csv")
    table["setting"] = table.learning_rate.astype(str) + " " + table.batch_size.astype(str) + " " + table.units
    results = {budget: of_budget.set_index("setting") for budget, of_budget in table.groupby("budget")}
    settings, baselines = table.setting.unique(), table[table.units == "0-0-10"].setting.unique()
    rows = []
    for number in range(count):
        generator = np.random.default_rng(number)
        asked = {"baseline": list(generator.choice(baselines, DRAWN_BASELINES, replace=False))}
        best: list[str] = []
        for budget, trials in DRAWN_TRIALS.items():
            promoted = best[: trials // 2]
            asked["staged"] = [*promoted, *generator.choice(settings, trials - len(promoted), replace=False)]
            for kind, names in asked.items():
                ordered = results[budget].loc[names].sort_values("validation_accuracy", ascending=False, kind="stable")
                best = list(ordered.index) if kind == "staged" else best
                shown = {"sweep": f"drawn {number}", "kind": kind, "budget": budget, "cost": float(budget.rstrip("%")) / 100}
                measured = {"seeds": 1, "test_mean": ordered.test_accuracy.iloc[0], "seed_error": np.nan}
                at_others = {f"at {other}": table_at.test_accuracy[ordered.index[0]] for other, table_at in results.items()}
                rows.append({**shown, **measured, "test_images": TEST_IMAGES["digits"], **at_others})
    return pd.DataFrame(rows)


def neighbours_table() -> str:
    """By how much a neighbour's winner is below a budget's own, in points, over the staged winners of drawn sweeps."""
    winners = drawn_curves(NEIGHBOUR_SWEEPS)
    accuracy = dict(tuple(winners[winners.kind == "staged"].groupby("budget")))
    budgets, rows = list(DRAWN_TRIALS), []
    for place, budget in enumerate(budgets):
        own = accuracy[budget][f"at {budget}"].mean()
        beside = [budgets[other] if 0 <= other < len(budgets) else None for other in (place - 1, place + 1)]
        rows.append(
            [budget, *(f"{100 * (own - accuracy[other][f'at {budget}'].mean()):.1f}" if other else "" for other in beside)]
        )
    return table(["budget", "winner of the next cheaper budget", "of the next more expensive one"], rows)


def cases(curves: pd.DataFrame, laws: Sequence[Law] = LAWS, *, between: bool = False) -> Iterator[Case]:
    """Every budget of every curve, predicted from the cheaper ones; or from all others, if it lies between them."""
    for (sweep, kind), points in curves.groupby(["sweep", "kind"], sort=False):
        ordered = points.sort_values("cost")
        if between:
            left_out = [(ordered.drop(index), ordered.loc[[index]]) for index in ordered.index[1:-1]]
        else:
            left_out = [(ordered.iloc[:count], ordered.iloc[count:]) for count in range(MIN_BUDGETS, len(ordered))]
        for trained, rest in left_out:
            curve = PredictedCurve.through(trained, laws)
            largest = float(trained.cost.iloc[-1])
            for row in rest[rest.cost <= 1.02 * MAX_REACH * largest].itertuples():
                mean, low, high = (float(values[0]) for values in curve.at([row.cost], runs=int(row.seeds)))
                predicted = {"trained": len(trained), "trained_to": largest, "cost": float(row.cost)}
                predicted |= {"measured": float(row.test_mean), "predicted": mean, "low": low, "high": high}
                yield Case(sweep=str(sweep), kind=str(kind), **predicted)


def summary(chosen: Sequence[Case]) -> str:
    """Mean absolute error in points, mean half width of the interval, and how many intervals hold what was measured."""
    if not chosen:
        return ""
    error = np.mean([abs(case.predicted - case.measured) for case in chosen])
    half_width = np.mean([(case.high - case.low) / 2 for case in chosen])
    inside = sum(case.inside for case in chosen)
    return f"{100 * error:.1f} ± {100 * half_width:.1f}, {inside} of {len(chosen)}"


def at_reach(chosen: Sequence[Case], group: str) -> list[Case]:
    """The cases whose reach is of a group."""
    low, high = REACHES[group]
    return [case for case in chosen if low <= case.reach <= high]


def coverage(chosen: Sequence[Case]) -> float:
    """Share of the intervals that hold what was measured."""
    return float(np.mean([case.inside for case in chosen]))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_tables() -> None:
    """Compute everything and print it."""
    curves = recorded_curves()
    published = curves.sweep.str.startswith("published")
    groups = {
        "recorded sweeps": curves[~published],
        f"{DRAWN_SWEEPS} drawn sweeps": drawn_curves(DRAWN_SWEEPS),
        "published on ImageNet": curves[published],
    }
    above = {name: list(cases(group)) for name, group in groups.items()}
    between = {name: list(cases(group, between=True)) for name, group in groups.items()}
    print(
        "Mean absolute error ± mean half width of the 95 % interval, in points of test accuracy; intervals that hold what was"
    )
    print("measured. Columns: cost of what was left out over the largest trained one.\n")
    rows = []
    for name, found in above.items():
        for few in (False, True):
            chosen = [case for case in found if (case.trained < MIN_SHOWN_BUDGETS) is few]
            trained = f"{MIN_BUDGETS}" if few else f"{MIN_SHOWN_BUDGETS} or more"
            inside = "" if few else summary(between[name])
            rows.append([name, trained, *(summary(at_reach(chosen, group)) for group in REACHES), inside])
    print(table(["", "trained budgets", *REACHES, "between"], rows))
    main = [case for case in above["recorded sweeps"] if case.trained >= MIN_SHOWN_BUDGETS]
    print("\nEach recorded sweep\n")
    rows = []
    for sweep, kind in dict.fromkeys((case.sweep, case.kind) for case in main):
        of_sweep = [case for case in above["recorded sweeps"] if (case.sweep, case.kind) == (sweep, kind)]
        rows.append([sweep, kind, *(summary(at_reach(of_sweep, group)) for group in REACHES)])
    print(table(["sweep", "training", *REACHES], rows))
    print("\nAt 100 %, from the budgets of at most 20 %\n")
    full = [case for case in above["recorded sweeps"] if case.cost > 0.99 and case.trained_to <= CHEAP]
    full = [case for case in full if case.trained == max(each.trained for each in full if each.sweep == case.sweep)]
    rows = [
        [
            *(case.sweep, case.kind, str(case.trained), f"{case.measured:.1%}", f"{case.predicted:.1%}"),
            *(f"{case.low:.1%} to {case.high:.1%}", "yes" if case.inside else "NO"),
        ]
        for case in full
    ]
    print(table(["sweep", "training", "trained budgets", "measured", "predicted", "95 % interval", "inside"], rows))
    print(f"\nAll: {summary(full)}")
    print("\nEach law alone, and the average over all of them (recorded sweeps, 3 or more trained budgets)\n")
    rows = []
    for laws in (*((law,) for law in LAWS), LAWS):
        alone = main if laws is LAWS else list(cases(groups["recorded sweeps"], laws))
        alone = [case for case in alone if case.trained >= MIN_SHOWN_BUDGETS]
        law = laws[0]
        title = ["average", ""] if laws is LAWS else [law.name, f"`{law.formula}`"]
        rows.append([*title, *(summary(at_reach(alone, group)) for group in ("2x", "5x"))])
    print(table(["law", "error e at x", "2x", "5x"], rows))
    print(f"\nA neighbour's winner at a budget, points below the budget's own ({NEIGHBOUR_SWEEPS} drawn sweeps)\n")
    print(neighbours_table())
    for group in ("2x", "5x"):
        keep(f"coverage of 95 % intervals at {group}", coverage(at_reach(above["recorded sweeps"], group)), 0.03)
    keep("predicted at 100 % from at most 20 %: mean absolute error, points", _error(full), 0.05)
    keep("predicted at 100 % from at most 20 %: coverage", coverage(full), 0.05)


def _error(chosen: Sequence[Case]) -> float:
    return float(np.mean([100 * abs(case.predicted - case.measured) for case in chosen]))


def add(location: str, name: str) -> None:
    """Keep the winners of a finished sweep."""
    ledger = Ledger(location)
    winners = best_by_budget(trials_frame(ledger.records(), ledger.header())).assign(sweep=name)
    kept = pd.read_csv(KEPT)
    rows = pd.concat([kept[kept.sweep != name], winners.sort_values(["kind", "cost"])[COLUMNS]])
    rows.to_csv(KEPT, index=False, float_format="%.6g")


def main() -> None:
    """Print the tables, or keep a sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the tables (what is done without an option, too)")
    parser.add_argument("--add", help="folder of a finished sweep")
    parser.add_argument("--name", help="its name in prediction.csv")
    options = parser.parse_args()
    if options.add:
        add(options.add, options.name or Path(options.add).name)
    else:
        print_tables()


if __name__ == "__main__":
    main()

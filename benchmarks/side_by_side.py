"""Tables that compare methods at equal budgets: accuracies, cost to match the baseline, mean accuracy, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from curves import average, common_range
from curves import curve as through

from explorer.frontier import MetricCurve
from explorer.frontier.curve import Match
from explorer.frontier.prediction import PLAN_TOLERANCE

CURRENCIES = {"cost": "counted FLOPs", "seconds": "seconds"}
BASELINE = "full"
"""The method that all are compared with."""


def curve(table: pd.DataFrame, method: str, currency: str) -> MetricCurve:
    """Accuracy of a method as a function of a currency."""
    return through(table[table.method == method], currency)


def match(table: pd.DataFrame, method: str, currency: str) -> Match:
    """The share of the baseline's cost at 100 % at which a method reaches the baseline's accuracy there."""
    full = table[(table.method == BASELINE) & (table.budget == "100%")].iloc[0]
    return curve(table, method, currency).cost_to_match(full)


def whole(table: pd.DataFrame) -> list[str]:
    """The methods that were trained at the largest budget."""
    largest = table.budget.iloc[table.cost.argmax()]
    return [method for method in dict.fromkeys(table.method) if largest in set(table[table.method == method].budget)]


def share(value: float) -> str:
    """Format a share of full training; infinite means not reached within the measured costs."""
    return f"{value:.2f}" if np.isfinite(value) else "not reached"


def matched(table: pd.DataFrame, method: str, currency: str) -> str:
    """`match` with its interval; of a method without the largest budget that does not reach it, how far it was trained."""
    found = match(table, method, currency)
    if method in whole(table) or np.isfinite(found.cost):
        return f"{share(found.cost)} ({share(found.low)} to {share(found.high)})"
    return f"not by {curve(table, method, currency).costs[-1]:.2f}"


def accuracies(table: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Test accuracy in % by method and budget."""
    budgets = list(dict.fromkeys(table.budget))
    lines = [f"| method | {' | '.join(budgets)} |", "| --- |" + " --- |" * len(budgets)]
    for method in dict.fromkeys(table.method):
        cells = []
        for budget in budgets:
            rows = table[(table.method == method) & (table.budget == budget)]
            cells += [f"{100 * r.test_mean:.1f} ({100 * r.test_low:.1f} to {100 * r.test_high:.1f})" for r in rows.itertuples()]
            cells += ["" for _ in range(1 - len(rows))]
        lines.append(f"| {names[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headlines(table: pd.DataFrame, names: Mapping[str, str], currency: str) -> str:
    """Cost to match, accuracy at 25 % and 10 %, and its average over the costs that all curves have.

    Methods without the largest budget take no part in the last one; the other columns say what their curves have.
    """
    complete = whole(table)
    low, high = common_range(curve(table, method, currency) for method in complete)
    averages = f"mean, {low:.2f} to {high:.2f}"
    lines = [
        f"| method, by {CURRENCIES[currency]} | to match the baseline | accuracy at 25% | at 10% | {averages} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(table.method):
        cells, between = [matched(table, method, currency)], curve(table, method, currency)
        for cost in (0.25, 0.1):
            if not between.costs[0] <= cost <= between.costs[-1] * (1 + PLAN_TOLERANCE):
                cells.append("not measured")
                continue
            expected = between.at([min(cost, between.costs[-1])])
            cells.append(f"{100 * expected.mean[0]:.1f} ({100 * expected.low[0]:.1f} to {100 * expected.high[0]:.1f})")
        cells.append(str(average(between, (low, high))) if method in complete and low < high else "not measured")
        lines.append(f"| {names[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chosen(table: pd.DataFrame, names: Mapping[str, str]) -> str:
    """The schedule and settings that each method's search selected."""
    lines = ["| method | budget | schedule | learning rate | batch | time |", "| --- | --- | --- | --- | --- | --- |"]
    for row in table.itertuples():
        seconds = f"{row.seconds:.2f}" if "seconds" in table else "not measured"
        settings = f"{row.learning_rate:g} | {row.batch_size} | {seconds}"
        lines.append(f"| {names[row.method]} | {row.budget} | {row.schedule} | {settings} |")
    return "\n".join(lines)

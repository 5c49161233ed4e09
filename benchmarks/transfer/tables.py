"""Rank correlation and regret from proxies to targets, from the stored results of run.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from explorer.frontier.transfer import spearman_interval

TARGET = "target"
NAMES = {"fractals": "fractals", "fashion": "Fashion-MNIST"}
BEST = 3
"""Schedules of a proxy that would be promoted."""
TRUSTED_CORRELATION = 0.7
"""A proxy is trusted if the interval over schedules of its rank correlation begins above this on both targets ..."""
TRUSTED_REGRET = 1.0
"""... and the best of its three best schedules is at most this many points below the best of all, on average over seeds."""
WITH_INTERVAL = 2
"""Seeds from which there is an interval over seeds."""


@dataclass(frozen=True)
class Carried:
    """How the ranks on one task carry over to a target. One number per seed of the task, except `spearman`."""

    cost: float
    """Full training of the task in full trainings of the target."""
    schedules: int
    correlations: np.ndarray
    """Spearman's correlation of a seed's validation accuracies with the target's mean test accuracies."""
    regrets: np.ndarray
    """Test accuracy on the target of the best schedule, minus that of the one that is best in a seed."""
    regrets_of_best: np.ndarray
    """The same of the best of the `BEST` schedules that are best in a seed."""

    @property
    def spearman(self) -> float:
        """Mean of Fisher's z over seeds, as a correlation."""
        return float(np.tanh(self._z.mean()))

    @property
    def over_schedules(self) -> tuple[float, float]:
        """95 % interval for other schedules."""
        return spearman_interval(self.spearman, self.schedules)

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """95 % interval for the mean over seeds (Student's t on Fisher's z); `None` for one seed."""
        if len(self.correlations) < WITH_INTERVAL:
            return None
        low, high = np.tanh(interval(self._z))
        return float(low), float(high)

    @property
    def is_trusted(self) -> bool:
        """Whether the proxy may be trusted on this target; see the constants above."""
        return self.over_schedules[0] > TRUSTED_CORRELATION and 100 * self.regrets_of_best.mean() <= TRUSTED_REGRET

    @property
    def _z(self) -> np.ndarray:
        return np.arctanh(np.clip(self.correlations, -0.9999, 0.9999))


def interval(values: np.ndarray) -> np.ndarray:
    """95 % interval of a mean over seeds, by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return np.array([values.mean() - half, values.mean() + half])


def carried(results: pd.DataFrame, source: str, proxy: str, target: str) -> Carried | None:
    """How the ranks on a proxy of one data set carry over to a target; `None` where too little is stored.

    A single seed of the target is compared with the others, so that its row says what noise allows.
    """
    on_target = results[(results.task == target) & (results.proxy == TARGET)]
    accuracies = on_target.pivot(index="schedule", columns="seed", values="test_accuracy")
    if not len(accuracies) or accuracies.isna().any().any():
        accuracies = accuracies.dropna(axis="columns")
    of_proxy = results[(results.task == source) & (results.proxy == proxy)]
    scores = of_proxy.pivot(index="schedule", columns="seed", values="validation_accuracy").dropna(axis="columns")
    is_itself = (source, proxy) == (target, TARGET)
    if scores.empty or accuracies.empty or (is_itself and accuracies.shape[1] < WITH_INTERVAL):
        return None
    correlations, regrets, regrets_of_best = [], [], []
    for seed in scores:
        others = accuracies.drop(columns=seed) if is_itself else accuracies
        means = others.mean(axis="columns").reindex(scores.index)
        correlations.append(scores[seed].rank().corr(means.rank()))
        ranked = scores[seed].sort_values(ascending=False, kind="stable").index
        regrets.append(means.max() - means[ranked[0]])
        regrets_of_best.append(means.max() - means[ranked[:BEST]].max())
    full = results[(results.task == source) & (results.proxy == TARGET) & (results.schedule == 0)].cost.mean()
    cost = of_proxy[of_proxy.schedule == 0].cost.mean() / full
    return Carried(cost, len(scores), *(np.array(each) for each in (correlations, regrets, regrets_of_best)))


def tables(kept: Path, proxies: Sequence[str]) -> str:
    """What each proxy says about its own target, which proxies may be trusted, and what one data set says about another."""
    results = pd.read_csv(kept)
    # A seed counts when all of its schedules are there.
    whole = results.groupby(["task", "proxy", "seed"]).schedule.transform("size") == results.schedule.nunique()
    results = results[whole]
    if results.empty:
        return "no task has all of its schedules yet"
    lines, trusted = _summary(results), []
    for task, title in NAMES.items():
        lines += _heading(f"{title}: proxy")
        lines += [_row(name, each) for name in proxies if (each := carried(results, task, name, task))]
    for name in proxies:
        both = [carried(results, task, name, task) for task in NAMES]
        if name != TARGET and all(each is not None and each.is_trusted for each in both):
            trusted.append(name)
    rule = (
        f"Trusted on both targets (interval over schedules above {TRUSTED_CORRELATION}, regret of the best {BEST} at most "
        f"{TRUSTED_REGRET:g} point): "
    )
    lines += ["", rule + ("; ".join(trusted) or "none yet"), *_heading("from one data set to the other")]
    for source, target in (("fractals", "fashion"), ("fashion", "fractals")):
        for name in proxies:
            if each := carried(results, source, name, target):
                lines.append(_row(f"{NAMES[source]} ({name}) to {NAMES[target]}", each))
    return "\n".join(lines)


def _heading(title: str) -> list[str]:
    correlation = "rank correlation (over schedules; over seeds)"
    regrets = f"regret of the best, points | of the best {BEST}"
    return ["", f"| {title} | cost | {correlation} | {regrets} | seeds |", "| --- | --- | --- | --- | --- | --- |"]


def _summary(results: pd.DataFrame) -> list[str]:
    lines = ["| target | seeds | schedules | full model | mean | best |", "| --- | --- | --- | --- | --- | --- |"]
    for task, name in NAMES.items():
        runs = results[(results.task == task) & (results.proxy == TARGET)]
        if runs.empty:
            continue
        means = 100 * runs.groupby("schedule").test_accuracy.mean()
        best = runs[runs.schedule == means.idxmax()].stages.iloc[0]
        accuracies = f"{means[0]:.1f} | {means.mean():.1f} | {means.max():.1f} ({best})"
        lines.append(f"| {name} | {runs.seed.nunique()} | {len(means)} | {accuracies} |")
    return lines


def _row(name: str, each: Carried) -> str:
    low, high = each.over_schedules
    seeds = "one seed" if each.over_seeds is None else "{:.2f} to {:.2f}".format(*each.over_seeds)
    cells = [
        f"1/{1 / each.cost:.0f}",
        f"{each.spearman:.2f} ({low:.2f} to {high:.2f}; {seeds})",
        *(_points(values) for values in (each.regrets, each.regrets_of_best)),
        str(len(each.correlations)),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _points(regrets: np.ndarray) -> str:
    shown = f"{100 * regrets.mean():.1f}"
    if len(regrets) < WITH_INTERVAL:
        return shown
    low, high = 100 * interval(regrets)
    return f"{shown} ({max(0.0, low):.1f} to {high:.1f})"

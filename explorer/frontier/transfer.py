"""Do the ranks of schedules carry over from a proxy to the target? Measured on the schedules that a sweep trained on both."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from explorer.frontier.trials import metric_of, row_with_largest, rows
from explorer.frontier.uncertainty import test_set_error
from explorer.spec.binomial import LEVEL
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.training_key import schedule_key

MIN_SCHEDULES = 5
"""With fewer schedules on both tasks, a rank correlation says nothing."""
POOR_CORRELATION = 0.5
"""Below this rank correlation, transfer counts as poor."""

Verdict = Literal["carries over", "poor", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The schedules that were trained on a proxy and on the target, by their scores on validation images."""

    proxy: int
    """Number of the proxy, from 1."""
    budget: str
    """Share of full training on the proxy; that on the target is named, too, if it is another one."""
    promoted: int
    """Number of schedules that the proxy chose for the target; 0 for an earlier proxy, which chooses for the next one."""
    controls: int
    """Number of controls: schedules that the proxy did not choose, and that the target tried because of that; 0 for an earlier
    proxy."""
    others: int = 0
    """Number of schedules that the target tried, but not because of the proxy, such as first guesses that both have."""
    spearman: float
    """Spearman's rank correlation; NaN for fewer than `MIN_SCHEDULES` schedules, or if all scores are equal."""
    spearman_low: float
    spearman_high: float
    """Its 95 % interval; see `spearman_interval`."""
    regret: float
    """Score on the target of the best of these schedules, minus that of the one that is best on the proxy. The best one was
    chosen for its score, so the regret is overestimated."""
    ahead_of_control: float
    """Score on the target of the best promoted schedule, minus that of the best control; NaN if one of them is missing."""
    noise: float
    """Half of the 95 % interval of a difference between two trainings with one seed each."""
    metric: MetricSpec = ACCURACY
    """What was measured."""
    has_seeds: bool
    """Whether `noise` includes the differences between seeds; otherwise it is that of the validation images alone, because
    nothing was repeated with fresh seeds."""

    @property
    def schedules(self) -> int:
        """Number of schedules on both tasks."""
        return self.promoted + self.controls + self.others

    @property
    def regret_interval(self) -> tuple[float, float]:
        """The 95 % interval of the regret, by `noise`."""
        return max(0.0, self.regret - self.noise), self.regret + self.noise

    @property
    def verdict(self) -> Verdict:
        """Whether the ranks carry over, as far as the number of schedules allows to say."""
        if self.ahead_of_control < -self.noise or self.spearman < POOR_CORRELATION:  # False where they are NaN
            return "poor"
        return "carries over" if self.spearman_low > 0 else "undecided"

    def __str__(self) -> str:
        name = f"proxy {self.proxy} at {self.budget}"
        low, high = self.regret_interval
        gain = partial(self.metric.gain_number, signed=False)
        unit = f" {unit}" if (unit := self.metric.unit_of_differences) else ""
        regret = f"regret {gain(self.regret)} ({gain(low)} to {gain(high)}){unit}"
        if math.isnan(self.spearman):
            return f"{name}: {self.schedules} schedules are too few to say whether its ranks carry over; {regret}"
        said = {
            "carries over": "the ranks of schedules carry over to the target",
            "poor": "the ranks of schedules carry over poorly, so that better ones may have been missed",
            "undecided": "too few schedules to say whether ranks carry over",
        }[self.verdict]
        numbers = f"rank correlation {self.spearman:.2f} ({self.spearman_low:.2f} to {self.spearman_high:.2f})"
        control = ""
        if self.ahead_of_control < -self.noise:
            control = f"; a control is {gain(-self.ahead_of_control)}{unit} ahead of all that were promoted"
        return f"{name}: {said}: {numbers} over {self.schedules} schedules, {regret}{control}"


def transfers(trials: pd.DataFrame, validation_images: int | None = None) -> list[Transfer]:
    """What each proxy says about the target, by proxy and budget; budgets with fewer than two common schedules are left out.

    Where a proxy was not trained at a budget of the target, it is compared at the next larger one, from which its schedules
    were promoted.

    Args:
        trials: of the target and of the proxies, as `trials_frame` returns them.
        validation_images: number of validation images; `None` if unknown.
    """
    is_target = trials.proxy.isna()
    seed_variance = _seed_variance(trials[is_target])
    # Those taken from a proxy come first: they have a common learning rate. On a proxy, the best trial of a schedule counts.
    on_target = _searched(trials[is_target]).sort_values(["budget_amount", "from_proxy"], kind="stable")
    # A schedule that comes from the budget below is still one that was taken from the proxy there, as promoted or as a control.
    on_target["from_proxy"] = on_target.groupby("key").from_proxy.ffill()
    on_proxies = _searched(trials[~is_target]).sort_values("validation_score", ascending=False, kind="stable")
    found = []
    for proxy in sorted(on_proxies.proxy.unique()):
        for amount, budget in sorted(set(zip(on_target.budget_amount, on_target.budget, strict=True))):
            ours = _by_schedule(on_target[on_target.budget == budget])
            of_proxy = on_proxies[(on_proxies.proxy == proxy) & (on_proxies.budget_amount >= amount)]
            if of_proxy.empty:
                continue
            theirs = _by_schedule(of_proxy[of_proxy.budget_amount == of_proxy.budget_amount.min()])
            at = theirs.budget.iloc[0]
            name = budget if at == budget else f"{at}, on the target at {budget}"
            both = ours.assign(score_on_proxy=theirs.validation_score).dropna(subset="score_on_proxy")
            if len(both) >= 2:
                if proxy != on_proxies.proxy.max():  # what the target took from a proxy, it took from the last one
                    both = both.assign(from_proxy=None)
                found.append(_transfer(int(proxy), str(name), both, seed_variance, validation_images))
    return found


def _by_schedule(searched: pd.DataFrame) -> pd.DataFrame:
    """The first row of each schedule, by its key."""
    return searched.drop_duplicates("key").set_index("key")


def _transfer(
    proxy: int, budget: str, both: pd.DataFrame, seed_variance: float | None, validation_images: int | None
) -> Transfer:
    target, on_proxy = both.validation_score, both.score_on_proxy
    chosen, best = float(row_with_largest(both, "score_on_proxy").validation_score), float(target.max())
    metric = metric_of(both)
    images = validation_images if metric.is_fraction_of_images and validation_images else math.nan
    images_variance = float(test_set_error(best, images)) ** 2
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(2 * (images_variance + (seed_variance or 0.0)))
    spearman = low = high = math.nan
    if len(both) >= MIN_SCHEDULES and target.nunique() > 1 and on_proxy.nunique() > 1:
        spearman = float(target.rank().corr(on_proxy.rank()))
        low, high = spearman_interval(spearman, len(both))
    is_promoted, is_control = both.from_proxy == "promoted", both.from_proxy == "control"
    ahead = float(target[is_promoted].max() - target[is_control].max())  # NaN without one of the two
    return Transfer(
        proxy=proxy,
        budget=budget,
        promoted=int(is_promoted.sum()),
        controls=int(is_control.sum()),
        others=int((~is_promoted & ~is_control).sum()),
        spearman=spearman,
        spearman_low=low,
        spearman_high=high,
        regret=best - chosen,
        ahead_of_control=ahead,
        noise=half,
        metric=metric,
        has_seeds=seed_variance is not None,
    )


def spearman_interval(correlation: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation (Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations", Psychometrika 65, 2000): Fisher's z with the variance (1 + r^2 / 2) / (n - 3).

    A correlation of 1 or -1, whose interval would have no width, counts as one pair of neighbours that changed places.

    Args:
        correlation: Spearman's rank correlation r.
        count: n, the number of pairs, at least 4.
    """
    largest = 1 - 12 / (count * (count**2 - 1))
    r = min(max(correlation, -largest), largest)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + r**2 / 2) / (count - 3))
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return min(low, correlation), max(high, correlation)


def _searched(trials: pd.DataFrame) -> pd.DataFrame:
    """The completed staged search trials, with a key of their schedule and settings of `staging`."""
    searched = trials[(trials.status == "completed") & (trials.phase == "search") & (trials.kind == "staged")]
    keys = [schedule_key(json.dumps(sorted(row.staging.items())), row.schedule) for row in rows(searched)]
    return searched.assign(key=keys)


def _seed_variance(trials: pd.DataFrame) -> float | None:
    """Variance of the score over fresh seeds, pooled over everything that was repeated; `None` if nothing was."""
    repeats = trials[(trials.status == "completed") & (trials.phase == "repeat")].groupby("candidate").validation_score
    counts = repeats.size()
    degrees = np.maximum(counts - 1, 0)
    return float((repeats.var() * degrees).sum() / degrees.sum()) if degrees.sum() else None

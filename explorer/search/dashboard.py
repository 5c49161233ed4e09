"""Studies for optuna-dashboard: what was tried, in the terms of a search space. Nothing is searched with them.

The search's own studies have variables in [0, 1], from which schedules are made (see `proposal`). These studies are written
from records instead. Their parameters are the share and the rates of each stage, named as in the report.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from explorer.ledger import KINDS, Kind, Record, Trial
from explorer.search.rung import objective_values, rung_name
from explorer.spec.budget import Budget
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.rates import AXES
from explorer.spec.schedule import Stage
from explorer.spec.search_settings import SearchSettings
from explorer.spec.search_space import SearchSpace

Value = float | int | str


class Dashboard:
    """A journal file with one study per budget and kind of each task. A file that is there already is replaced.

    Args:
        space: the search space.
        path: the file, to be opened with `optuna-dashboard`.
        records: what the ledger already holds.
        metric: what trials are compared by.
    """

    def __init__(self, space: SearchSpace, path: Path, records: Iterable[Record] = (), metric: MetricSpec = ACCURACY) -> None:
        self._space, self._metric = space, metric
        path.unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(path)))
        names = [f"validation_{metric.slug}"] + ([space.search.minimize] if space.search.minimize else [])
        self._studies: dict[tuple[int | None, Kind, Budget], optuna.Study] = {}
        searched: list[tuple[int | None, Kind]] = [(None, kind) for kind in KINDS]
        searched += [(number, "staged") for number in range(1, len(space.proxy) + 1)]
        for budget in space.budgets:
            for proxy, kind in searched:
                study = optuna.create_study(
                    storage=storage,
                    study_name=f"{space.name} {rung_name(budget, kind, proxy)}",
                    directions=[metric.direction, "minimize"][: len(names)],
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    study.set_metric_names(names)
                self._studies[proxy, kind, budget] = study
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a search trial that ended. Repeats with fresh seeds are left out: their parameters are those of the trial."""
        trial, outcome = record.trial, record.outcome
        if trial.phase != "search":
            return
        attributes = {
            "trial_id": trial.id,
            "seed": trial.seed,
            "reason": record.reason,
            "shared_with": record.shared_with,
            "known_schedule": trial.known_schedule,
            "from_proxy": trial.from_proxy,
            "from_sweep": None if trial.from_sweep is None else str(trial.from_sweep),
            "reused_from": None if record.reused_from is None else str(record.reused_from),
            "cost": outcome.planned_flops / outcome.full_flops if outcome else None,
            f"test_{self._metric.slug}": outcome.test if outcome else None,
        }
        parameters = shown_parameters(self._space.search, trial)
        distributions = shown_distributions(self._space.search, trial.kind)
        shown = optuna.trial.create_trial(
            state=TrialState.COMPLETE if outcome else TrialState.FAIL,
            values=[outcome.validation, *objective_values(self._space, outcome)[1:]] if outcome else None,
            params=parameters,
            distributions={name: each for name, each in distributions.items() if name in parameters},
            user_attrs={name: value for name, value in attributes.items() if value is not None},
        )
        shown.datetime_start = datetime.fromtimestamp(record.started)
        shown.datetime_complete = datetime.fromtimestamp(record.finished)
        self._studies[trial.proxy, trial.kind, trial.budget].add_trial(shown)


def shown_distributions(search: SearchSettings, kind: Kind) -> dict[str, BaseDistribution]:
    """The parameters of a kind of trial as people know them, and the values that they can have."""
    low, high = _learning_rates(search)
    shown: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(low, high, log=True),
        "batch_size": CategoricalDistribution(search.batch_size),
    }
    if search.lr_schedule:
        shown["lr_schedule"] = CategoricalDistribution(search.lr_schedule)
    if search.optimizer:
        shown["optimizer"] = CategoricalDistribution(tuple(search.optimizer))
    if kind == "baseline":
        return shown
    for setting, values in search.staging.listed.items():
        shown[f"staging.{setting}"] = CategoricalDistribution(values)
    for number in range(1, search.stages):
        shown[f"share {number}"] = FloatDistribution(0, 1)
        for name, axis in _rate_names(search).items():
            shown[f"{name} {number}"] = CategoricalDistribution(getattr(search.rates, axis))
    shown["full share"] = FloatDistribution(0, 1)
    return shown


def _learning_rates(search: SearchSettings) -> tuple[float, float]:
    """The lowest and the highest learning rate of any optimizer."""
    scales = search.optimizer.values() or (1.0,)
    low, high = search.learning_rate
    return low * min(scales), high * max(scales)


def shown_parameters(search: SearchSettings, trial: Trial) -> dict[str, Value]:
    """The parameters of a trial as people know them.

    Schedules are aligned at their last stage, the full model. A schedule with fewer stages than `search.stages` starts with
    stages of no duration, which have the rates of the stage after them. A known schedule that the search could not propose has
    neither shares nor rates here.
    """
    low, high = _learning_rates(search)
    shown: dict[str, Value] = {
        "learning_rate": min(max(trial.learning_rate, low), high),  # a grid's last value may be off by rounding
        "batch_size": trial.batch_size,
    }
    if trial.lr_schedule is not None:
        shown["lr_schedule"] = trial.lr_schedule
    if trial.optimizer is not None:
        shown["optimizer"] = trial.optimizer.name
    if trial.kind == "baseline" or trial.is_outside_the_space:
        return shown
    shown |= {f"staging.{setting}": trial.staging[setting] for setting in search.staging.listed}
    stages = list(trial.schedule.stages)
    missing = Stage(rates=stages[0].rates, duration_ratio=0)
    stages = [missing] * (search.stages - len(stages)) + stages
    for number, stage in enumerate(stages[:-1], start=1):
        shown[f"share {number}"] = stage.share
        for name, axis in _rate_names(search).items():
            shown[f"{name} {number}"] = getattr(stage.rates, axis)
    shown["full share"] = stages[-1].share
    return shown


def _rate_names(search: SearchSettings) -> dict[str, str]:
    """Names of the rate parameters and an axis that each one shows: one for all where all axes have the same rates."""
    searched = [axis for axis in AXES if len(getattr(search.rates, axis)) > 1]
    if search.tied and len({getattr(search.rates, axis) for axis in searched}) == 1:
        return {"rate": searched[0]}
    return {axis: axis for axis in searched}

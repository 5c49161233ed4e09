"""Which settings affect the metric: Optuna's fANOVA importances, per budget."""

from __future__ import annotations

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from explorer.frontier.settings import is_choice, settings_table
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import AXIS, INK, LAYOUT, SHARE_SCALE
from explorer.report.panels.panel import Panel
from explorer.report.plotly_values import accepted

MIN_TRIALS = 8
"""With fewer trials at a budget, importances mean nothing."""
MAX_TRIALS = 250
"""Trials of a budget that are evaluated, drawn at random if there are more: fANOVA takes a second per thousand."""
NOT_SETTINGS = ("id", "budget", "budget_amount", "validation")
EVALUATOR = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)


def importance_data(trials: pd.DataFrame) -> pd.DataFrame:
    """Importance of every setting at every budget with enough trials; the importances of one budget sum to 1.

    An importance is the fraction of the variance of the metric on validation images that a setting explains (fANOVA: Hutter,
    Hoos, Leyton-Brown 2014).

    Args:
        trials: the table that `trials_frame` returns.

    Returns:
        Columns budget, setting, importance; from the cheapest budget.
    """
    table = settings_table(trials).sort_values("budget_amount", kind="stable")
    importances: list[dict[str, object]] = []
    for budget, at_budget in table.groupby("budget", sort=False):
        sample = at_budget.sample(min(len(at_budget), MAX_TRIALS), random_state=0)
        settings = {name: sample[name] for name in sample.columns if name not in NOT_SETTINGS and sample[name].nunique() > 1}
        if len(sample) < MIN_TRIALS or sample.validation.nunique() < 2 or not settings:
            continue
        study = _study(settings, sample.validation)
        explained = optuna.importance.get_param_importances(study, evaluator=EVALUATOR)
        importances += [{"budget": budget, "setting": name, "importance": explained.get(name, 0.0)} for name in settings]
    return pd.DataFrame(importances, columns=pd.Index(["budget", "setting", "importance"]))


def _study(settings: dict[str, pd.Series], scores: pd.Series) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    distributions = {name: _distribution(name, values) for name, values in settings.items()}
    for row, value in enumerate(scores):
        parameters = {name: values.iloc[row] for name, values in settings.items()}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=float(value)))
    return study


def _distribution(name: str, values: pd.Series) -> BaseDistribution:
    if is_choice(name, values):
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(float(values.min()), float(values.max()), log=name == "learning_rate")


def importance_figure(data: pd.DataFrame) -> go.Figure:
    """Draw a row per setting and a column per budget; darker explains more."""
    table = data.pivot(index="setting", columns="budget", values="importance").fillna(0)
    table = table[list(dict.fromkeys(data.budget))]
    table = table.loc[table.mean(axis=1).sort_values().index]
    figure = go.Figure()
    figure.add_heatmap(
        x=accepted(list(table.columns)),
        y=accepted([name.replace("_", " ") for name in table.index]),
        z=accepted(table.to_numpy().tolist()),
        zmin=0,
        zmax=1,
        colorscale=list(SHARE_SCALE),
        text=accepted([[f"{value:.0%}" for value in row] for row in table.to_numpy()]),
        texttemplate="%{text}",
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{y} at %{x}: explains %{text} of the variance<extra></extra>",
    )
    figure.update_layout(LAYOUT, height=110 + 34 * len(table), margin={"t": 8}, font_color=INK)
    width = min(1.0, 0.16 * len(table.columns))  # so that a single column is not stretched over the page
    figure.update_xaxes(AXIS, type="category", title_text="budget", showgrid=False, domain=[0, width])
    figure.update_yaxes(AXIS, type="category", showgrid=False)
    return figure


def _panel_data(sweep: LoadedSweep) -> pd.DataFrame | None:
    data = importance_data(sweep.trials)
    return None if data.empty else data


PANEL = Panel(
    name="importance",
    section="settings",
    title="Which settings matter for the result",
    note=(
        "Fraction of the variance of the metric on validation images that each setting explains among the staged trials of a "
        "budget (fANOVA, by Optuna). The search samples where results are good, so the importances hold there, not everywhere."
    ),
    data=_panel_data,
    figure=importance_figure,
    label="Importance of each setting at each budget",
)

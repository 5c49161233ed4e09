"""Which settings moved the accuracy: Optuna's fANOVA importances, budget by budget."""

from __future__ import annotations

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from explorer.frontier.settings import settings_table
from explorer.report.palette import AXIS, INK, LAYOUT, SHARE_SCALE

LEAST_TRIALS = 8
"""With fewer trials at a budget an importance says nothing."""
MOST_TRIALS = 250
"""Of more trials at a budget so many are looked at, drawn at random: fANOVA takes a second for each thousand."""
NOT_SETTINGS = ("id", "budget", "budget_amount", "validation_accuracy")
EVALUATOR = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)


def importance_data(trials: pd.DataFrame) -> pd.DataFrame:
    """Importance of every setting at every budget with enough trials; those of one budget sum to 1.

    The share of the variance of validation accuracy that a setting explains (fANOVA: Hutter, Hoos, Leyton-Brown 2014).

    Returns:
        Columns budget, setting, importance; budgets from the cheapest.
    """
    table = settings_table(trials).sort_values("budget_amount", kind="stable")
    rows = []
    for budget, whole in table.groupby("budget", sort=False):
        here = whole.sample(min(len(whole), MOST_TRIALS), random_state=0)
        settings = {name: here[name] for name in here.columns if name not in NOT_SETTINGS and here[name].nunique() > 1}
        if len(here) < LEAST_TRIALS or here.validation_accuracy.nunique() < 2 or not settings:
            continue
        importances = optuna.importance.get_param_importances(_study(settings, here.validation_accuracy), evaluator=EVALUATOR)
        rows += [{"budget": budget, "setting": name, "importance": importances.get(name, 0.0)} for name in settings]
    return pd.DataFrame(rows, columns=pd.Index(["budget", "setting", "importance"]))


def _study(settings: dict[str, pd.Series], accuracy: pd.Series) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    distributions = {name: _distribution(name, values) for name, values in settings.items()}
    for row, value in enumerate(accuracy):
        parameters = {name: values.iloc[row] for name, values in settings.items()}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=float(value)))
    return study


def _distribution(name: str, values: pd.Series) -> BaseDistribution:
    if values.dtype == object or name == "batch_size":
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(float(values.min()), float(values.max()), log=name == "learning_rate")


def importance_figure(data: pd.DataFrame) -> go.Figure:
    """Draw a row for each setting and a column for each budget; darker explains more."""
    table = data.pivot(index="setting", columns="budget", values="importance").fillna(0)
    table = table[list(dict.fromkeys(data.budget))]
    table = table.loc[table.mean(axis=1).sort_values().index]
    figure = go.Figure()
    figure.add_heatmap(
        x=list(table.columns),
        y=[name.replace("_", " ") for name in table.index],
        z=table.to_numpy().tolist(),
        zmin=0,
        zmax=1,
        colorscale=[list(stop) for stop in SHARE_SCALE],
        text=[[f"{value:.0%}" for value in row] for row in table.to_numpy()],
        texttemplate="%{text}",
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{y} at %{x}: explains %{text} of the variance<extra></extra>",
    )
    figure.update_layout(LAYOUT, height=110 + 34 * len(table), margin={"t": 8}, font_color=INK)
    width = min(1.0, 0.16 * len(table.columns))  # a single column is no poster
    figure.update_xaxes(AXIS, type="category", title_text="budget", showgrid=False, domain=[0, width])
    figure.update_yaxes(AXIS, type="category", showgrid=False)
    return figure

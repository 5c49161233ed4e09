"""What a sweep was, in words and numbers: for the reader at a glance, and to reproduce it."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pandas as pd

from explorer.frontier import hypervolume, knee
from explorer.frontier.ranks import rank_correlations
from explorer.frontier.trials import describe
from explorer.ledger import SweepHeader
from explorer.report.frontier_panel import FrontierData, match_text
from explorer.spec.budget import Budget


def tiles(data: FrontierData, trials: pd.DataFrame) -> list[dict[str, str]]:
    """The numbers under the headline: what, value and more."""
    winners = data.winners.sort_values("cost").reset_index(drop=True)
    top = winners.loc[winners.test_mean.idxmax()]
    bend = knee(winners.cost, winners.test_mean)
    spent, planned = _in_full_trainings(trials, "executed_flops"), _in_full_trainings(trials, "planned_flops")
    matched, spread = match_text(data.match, data.curves[data.curves.kind == "staged"].cost)
    sure = f"of its cost; 95 % interval {spread}" if spread else "of its cost"
    return [
        {"what": "staging matches full training at", "value": matched, "more": sure if matched[0].isdigit() else ""},
        {"what": "best test accuracy", "value": f"{top.test_mean:.1%}", "more": f"at {top.budget}, {_kind(top.kind)}"},
        {
            "what": "knee of the curve",
            "value": str(winners.budget[bend]) if bend is not None else "none",
            "more": f"{winners.test_mean[bend]:.1%}; beyond it more cost brings less" if bend is not None else "",
        },
        {
            "what": "finding out cost",
            "value": f"{spent:.1f} full trainings",
            "more": f"{len(trials)} trials, planned {planned:.1f}; the rest was shared",
        },
    ]


def sharing(trials: pd.DataFrame) -> str:
    """What sharing saved, in a sentence."""
    spent, planned = _in_full_trainings(trials, "executed_flops"), _in_full_trainings(trials, "planned_flops")
    return (
        f"The trials' plans cost {planned:.1f} full trainings together; {spent:.1f} were executed, because trials with equal "
        f"beginnings share them ({1 - spent / planned:.0%} saved)."
    )


def facts(header: SweepHeader, trials: pd.DataFrame) -> dict[str, str]:
    """What one needs to know to run it again."""
    space = header.space
    seconds = trials.executed_seconds.fillna(trials.train_seconds).sum()
    devices = ", ".join(sorted(set(trials.device)))
    seeds = sorted({int(seed) for seed in trials.seed})
    return {
        "model": _named(space.task.model.model_dump()),
        "data": _named(space.task.data.model_dump()),
        "recipe": _named(space.task.recipe.model_dump()),
        "seeds": ", ".join(map(str, seeds)),
        "training": f"{seconds / 60:.1f} device-minutes on {devices}, {trials.worker.nunique()} workers",
        "hardware": header.hardware,
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.created)),
        "versions": ", ".join(f"{name} {number}" for name, number in header.versions.items()),
        "git commit": header.git_commit or "unknown",
    }


def commands(header: SweepHeader, data: FrontierData) -> str:
    """The commands that lead here and on from here."""
    name, last = header.name, data.winners.iloc[-1]
    space = f"{name}.yaml"
    return "\n".join(
        (
            f"explorer sweep {shlex.quote(space)}      # the search space, which this page offers to download",
            f"explorer report {shlex.quote(name)}",
            f"explorer best {shlex.quote(name)} --budget {shlex.quote(last.budget)}",
            f"explorer train --schedule {shlex.quote(f'{name}-{Budget.parse(last.budget).slug}.json')} "
            f"--task {shlex.quote(space)} --budget {shlex.quote(last.budget)}",
        )
    )


def ranks(trials: pd.DataFrame) -> list[dict[str, str]]:
    """Rank correlations between neighbouring budgets, as text."""
    return [
        {
            "budget": str(row.budget),
            "next_budget": str(row.next_budget),
            "spearman": f"{row.spearman:.2f}" if pd.notna(row.spearman) else "too few trials in common",
            "common": str(row.common),
        }
        for row in rank_correlations(trials).itertuples()
    ]


def budget_rows(data: FrontierData) -> list[dict[str, Any]]:
    """The best of each kind at each budget, as text."""
    winners = set(data.winners.id)
    return [
        {
            "budget": str(row.budget),
            "kind": _kind(row.kind),
            "test": f"{row.test_mean:.1%}",
            "interval": f"{row.test_low:.1%} to {row.test_high:.1%}" if pd.notna(row.test_low) else "one seed",
            "validation": f"{row.validation_mean:.1%}",
            "seconds": f"{row.train_seconds:.1f}",
            "settings": f"{row.learning_rate:.2g}, {row.batch_size}",
            "schedule": describe(row.schedule),
            "winner": row.id in winners,
        }
        for row in data.curves.itertuples()
    ]


def task(header: SweepHeader) -> str:
    """What was trained, in a few words: a model on data, for so many epochs in full."""
    space = header.space
    return f"{space.task.model.name} on {space.task.data.name}, {space.task.recipe.epochs:g} epochs in full"


def comparison(name: str, header: SweepHeader, data: FrontierData, trials: pd.DataFrame, differences: str) -> dict[str, Any]:
    """One sweep in a comparison; `differences` says what its space has where the spaces differ."""
    best = data.curves.loc[data.curves.test_mean.idxmax()]
    volumes = {kind: f"{hypervolume(rows.cost, rows.test_mean):.3f}" for kind, rows in data.curves.groupby("kind") if len(rows)}
    return {
        "name": name,
        "headline": data.headline,
        "model": header.space.task.model.name,
        "data": header.space.task.data.name,
        "full_flops": f"{data.runs.full_flops.iloc[0]:.3g}",
        "match": match_text(data.match, data.curves[data.curves.kind == "staged"].cost)[0],
        "best": f"{best.test_mean:.1%} at {best.budget}",
        "hypervolume_staged": volumes.get("staged", "none"),
        "hypervolume_baseline": volumes.get("baseline", "none"),
        "facts": {"differs in": differences, **facts(header, trials)},
    }


def _in_full_trainings(trials: pd.DataFrame, column: str) -> float:
    return float((trials[column] / trials.full_flops).sum())


def _kind(kind: str) -> str:
    return "staged" if kind == "staged" else "full model"


def _named(part: dict[str, Any]) -> str:
    """A part of a space on a line, its name first; what is nothing is left out."""
    shown = _listed({key: value for key, value in part.items() if key != "name"})
    return f"{part['name']}: {shown}" if "name" in part and shown else part.get("name", shown)


def _listed(part: dict[str, Any]) -> str:
    said = []
    for key, value in part.items():
        shown = _listed(value) if isinstance(value, dict) else value
        if shown not in (None, "", [], False):
            said.append(f"{key} ({shown})" if isinstance(value, dict) else f"{key} {shown}")
    return ", ".join(said)

"""What is needed to run the sweep again: settings, versions and commands."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from explorer.frontier.trials import charged
from explorer.ledger import SweepHeader
from explorer.report.frontier_data import FrontierData
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Panel
from explorer.spec.budget import Budget


@dataclass(frozen=True)
class FactsData:
    """A list of facts, the commands of a sweep, and its search space file."""

    facts: dict[str, str]
    commands: str
    space: str


def facts(header: SweepHeader, trials: pd.DataFrame) -> dict[str, str]:
    """The settings of a sweep, and where and when it ran."""
    task = header.space.task
    trained = charged(trials)
    seconds = trained.executed_seconds.fillna(trained.train_seconds).sum()
    devices = ", ".join(sorted(set(trials.device)))
    workers = trials.worker.nunique()
    seeds = sorted({int(seed) for seed in trials.seed})
    return {
        "model": _on_one_line(task.model.model_dump()),
        "data": _on_one_line(task.data.model_dump()),
        "recipe": _on_one_line(task.recipe.model_dump()),
        "seeds": ", ".join(map(str, seeds)),
        "training": f"{seconds / 60:.1f} device-minutes on {devices}, {workers} worker{'s' if workers > 1 else ''}",
        "hardware": header.hardware,
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.created)),
        "versions": ", ".join(f"{name} {number}" for name, number in header.versions.items()),
        **mixed_versions(trials),
        "git commit": header.git_commit or "unknown",
    }


def mixed_versions(trials: pd.DataFrame) -> dict[str, str]:
    """Says how many trials ran with which versions of torch and timm; empty unless there are several."""
    counts = trials.versions[trials.versions != ""].value_counts()
    if len(counts) < 2:
        return {}
    return {"mixed versions": "; ".join(f"{count} trials with {versions}" for versions, count in counts.items())}


def commands(header: SweepHeader, data: FrontierData) -> str:
    """The commands that run the sweep, write this page, and train with the schedule of the most expensive budget."""
    last = data.winners.iloc[-1]
    budget = Budget(last.budget_amount, last.budget_unit)
    name, space = shlex.quote(header.name), shlex.quote(f"{header.name}.yaml")
    schedule, argument = shlex.quote(f"{header.name}-{budget.slug}.json"), shlex.quote(str(budget))
    return "\n".join(
        (
            f"explorer sweep {space}      # the search space file, which this page offers for download",
            f"explorer report {name}",
            f"explorer best {name} --budget {argument}",
            f"explorer train --schedule {schedule} --task {space} --budget {argument}",
        )
    )


def space_file(header: SweepHeader) -> str:
    """The search space as YAML."""
    return yaml.safe_dump(header.space.model_dump(mode="json"), sort_keys=False)


def _facts_data(sweep: LoadedSweep) -> FactsData:
    header = sweep.header
    return FactsData(facts(header, sweep.trials), commands(header, sweep.data), space_file(header))


PANEL = Panel(name="facts", section="reproduce", data=_facts_data, template="facts.html")


def _on_one_line(settings: dict[str, Any]) -> str:
    """Settings on one line, the name first; unset ones are left out."""
    others = _listed({key: value for key, value in settings.items() if key != "name"})
    return f"{settings['name']}: {others}" if "name" in settings and others else settings.get("name", others)


def _listed(settings: dict[str, Any]) -> str:
    listed = []
    for key, value in settings.items():
        text = _listed(value) if isinstance(value, dict) else value
        if text not in (None, "", [], (), False):
            listed.append(f"{key} ({text})" if isinstance(value, dict) else f"{key} {text}")
    return ", ".join(listed)

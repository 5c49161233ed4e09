"""What is needed to run the sweep again: settings, versions and commands."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass

import pandas as pd
import yaml

from explorer.frontier.equal_time import devices
from explorer.frontier.trials import charged
from explorer.ledger import SweepHeader
from explorer.report.frontier_data import FrontierData
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Panel
from explorer.report.trained_on import data_settings, listed, model_text
from explorer.spec.base import without_empty
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
    kinds, workers = ", ".join(devices(trials)), trials[trials.status == "completed"].worker.nunique()
    seeds = sorted({int(seed) for seed in trials.seed})
    return {
        "model": model_text(task.model),
        "data": listed(data_settings(task.data)).removeprefix("name "),
        "recipe": listed(task.recipe.model_dump()),
        **({"objective": listed(chosen)} if (chosen := task.objective.model_dump()) else {}),
        "seeds": ", ".join(map(str, seeds)),
        "training": f"{seconds / 60:.1f} device-minutes on {kinds}, {workers} worker{'s' if workers > 1 else ''}",
        "hardware": header.hardware,
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.created)),
        "versions": ", ".join(f"{name} {number}" for name, number in header.versions.items()),
        **mixed_versions(trials),
        "git commit": header.git_commit or "unknown",
    }


def mixed_versions(trials: pd.DataFrame) -> dict[str, str]:
    """Says how many trials ran with which versions of torch and timm; empty unless there are several."""
    texts = trials.versions.map(lambda versions: ", ".join(f"{package} {number}" for package, number in versions.items()))
    counts = texts[texts != ""].value_counts()
    if len(counts) < 2:
        return {}
    return {"mixed versions": "; ".join(f"{count} trials with {versions}" for versions, count in counts.items())}


def commands(header: SweepHeader, data: FrontierData) -> str:
    """The commands that run the sweep, write this page, and train with the schedule of the most expensive budget."""
    last = data.winners.iloc[-1]
    budget = Budget.parse(last.budget)
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
    """The search space as YAML, without settings whose default is to be empty, and those of other data sources."""
    settings = without_empty(header.space, (None, {}, [], ""))
    if header.space.task.data.name != "fractals":
        del settings["data"]["fractals"]
    return yaml.safe_dump(settings, sort_keys=False)


def _facts_data(sweep: LoadedSweep) -> FactsData:
    header = sweep.header
    return FactsData(facts(header, sweep.all_trials), commands(header, sweep.data), space_file(header))


PANEL = Panel(name="facts", section="reproduce", data=_facts_data, template="facts.html")

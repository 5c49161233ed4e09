"""What was trained on, and how long it takes: model, data, augmentation, full training, evaluation."""

from __future__ import annotations

import pandas as pd

from explorer.frontier.comparison import of_full_training
from explorer.frontier.trials import charged
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Panel
from explorer.report.trained_on import trained_on
from explorer.report.units import significant


def task_facts(sweep: LoadedSweep) -> dict[str, str]:
    """What the header says of the task, completed by what the trials measured."""
    facts = trained_on(sweep.header)
    if measured := full_training_time(sweep.trials):
        facts["full training"] += f"; {measured}"
    if share := evaluation_share(sweep.trials):
        facts["evaluation"] = f"{share:.1%} of the device time of the trials"
    return facts


TIME_UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}
"""Seconds in a unit of time."""


def full_training_time(trials: pd.DataFrame) -> str:
    """Time of full training on each kind of device, as text; empty if no baseline has finished."""
    runs = trials[(trials.status == "completed") & (trials.kind == "baseline")]
    texts = []
    for (device, _), on_device in runs.groupby(["device", "processes"]):
        processes = int(on_device.processes.iloc[0])
        full = of_full_training(on_device)
        basis = full if len(full) else on_device[on_device.cost == on_device.cost.max()]
        seconds = float((basis.train_seconds / basis.cost).mean()) / processes
        how = "measured" if len(full) else f"from baselines at {basis.budget.iloc[0]}"
        unit = "hours" if seconds >= 7200 else "minutes" if seconds >= 60 else "seconds"
        time = f"{significant(seconds / TIME_UNITS[unit])} {unit}"
        where = device if processes == 1 else f"{processes} x {device}"
        texts.append(f"{time} on {where} ({how})")
    return ", ".join(texts)


def evaluation_share(trials: pd.DataFrame) -> float:
    """Fraction of the trials' device time that was spent on evaluation; 0 if no trial has finished."""
    trained = charged(trials[trials.status == "completed"])
    evaluation = trained.evaluation_seconds.sum()
    total = evaluation + trained.executed_seconds.fillna(trained.train_seconds).sum()
    return float(evaluation / total) if total else 0.0


PANEL = Panel(name="task", section="task", data=task_facts, template="task.html")

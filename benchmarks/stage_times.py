"""Step times of the stages of recorded trainings, measured in turn, so that drifts of the machine cancel."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping
from typing import TypeVar

from explorer import Rates
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

ROUNDS = 5
Stage = TypeVar("Stage", bound=Hashable)


def milliseconds(stages: Mapping[Stage, tuple[Task, Rates]], rounds: int = ROUNDS) -> dict[Stage, float]:
    """Median over rounds of the time of a training step of each stage; all are timed in each round."""
    timed: dict[Stage, list[float]] = {stage: [] for stage in stages}
    for _ in range(rounds):
        for stage, (task, rates) in stages.items():
            timed[stage].append(step_seconds(task, rates))
    return {stage: round(1000 * statistics.median(values), 3) for stage, values in timed.items()}

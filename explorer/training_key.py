"""Which trainings are the same. One scheme of keys for everything that compares trainings; pure, without torch.

Three things decide how a training ends: the task, which is the same for all trials of a sweep; the settings that a search
varies besides the schedule; and the segments of the compiled plan. Keys are equal exactly where these are.

- `settings_key`: the varied settings.
- `training_key`: a whole training. Trials with equal keys end in the same weights, so one training serves all of them.
- `prefix_keys`: the training after one segment, two, and so on. Trials with a common prefix share its training.
- `schedule_key`: schedule and settings without a budget, to find the same candidate again at another budget.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.plan import Segment
    from explorer.spec.schedule import Schedule


def settings_key(
    learning_rate: float, batch_size: int, seed: int, staging: Mapping[str, str], lr_schedule: str | None = None
) -> str:
    """Key of the settings that a search varies besides the schedule.

    Args:
        learning_rate: peak learning rate.
        batch_size: images in one step.
        seed: seed of the training.
        staging: the settings of `staging` that are searched.
        lr_schedule: kind of the learning-rate schedule, where trials without a plan are compared: the segments of a plan
            have it.
    """
    settings: list[object] = [float(learning_rate), int(batch_size), int(seed), sorted(staging.items())]
    return json.dumps(settings if lr_schedule is None else [*settings, lr_schedule])


def training_key(settings: str, plan_digest: str) -> str:
    """Key of a whole training.

    Args:
        settings: as `settings_key` gives.
        plan_digest: as `Plan.digest` gives.
    """
    return f"{settings} {plan_digest}"


def schedule_key(settings: str, schedule: Schedule) -> str:
    """Key of a schedule and settings at any budget; where the schedule comes from does not matter.

    Args:
        settings: as `settings_key` gives.
        schedule: the schedule.
    """
    return f"{settings} {schedule.model_dump_json(exclude={'provenance'})}"


def prefix_keys(base: Any, segments: Sequence[Segment]) -> list[str]:
    """Keys of a training after one segment, two, ... and all but the last: no training resumes from the end.

    A segment in which the learning rate is constant is described by its rates and its number of steps alone, together with the
    equal segments before it. Where the learning rate is constant, budgets of different size therefore share their prefixes.

    Args:
        base: what the training depends on besides its segments: a string, or nested lists and dictionaries for JSON.
        segments: the segments of the plan.
    """
    closed = hashlib.sha256(json.dumps(base, sort_keys=True).encode())
    constant_rates, constant_steps = "", 0
    keys = []
    for segment in segments[:-1]:
        rates = segment.what_is_trained
        if constant_steps and not (_has_peak_rate(segment) and rates == constant_rates):
            closed.update(f"{constant_rates} constant {constant_steps};".encode())
            constant_steps = 0
        key = closed
        if _has_peak_rate(segment):
            constant_rates, constant_steps = rates, constant_steps + segment.steps
            key = closed.copy()
            key.update(f"{constant_rates} constant {constant_steps};".encode())
        else:
            times = f"{segment.start_time!r} {segment.end_time!r}"
            closed.update(f"{rates} {segment.steps} {times} {segment.lr_schedule.model_dump_json()};".encode())
        keys.append(key.hexdigest())
    return keys


def _has_peak_rate(segment: Segment) -> bool:
    """Whether every step of a segment has the peak learning rate: between warmup and cooldown of a wsd schedule.

    After the warmup the factor never rises, so the last step decides.
    """
    schedule = segment.lr_schedule
    after_warmup = schedule.kind == "wsd" and segment.start_time >= schedule.warmup
    return after_warmup and segment.learning_rate_factor(segment.steps - 1) == 1

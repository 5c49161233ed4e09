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
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.plan import Segment
    from explorer.spec.optimizer_choice import OptimizerChoice
    from explorer.spec.schedule import Schedule


def settings_key(
    learning_rate: float,
    batch_size: int,
    seed: int,
    staging: Mapping[str, str],
    lr_schedule: str | None = None,
    optimizer: OptimizerChoice | None = None,
) -> str:
    """Key of the settings that a search varies besides the schedule.

    Args:
        learning_rate: peak learning rate.
        batch_size: images in one step.
        seed: seed of the training.
        staging: the settings of `staging` that are searched.
        lr_schedule: kind of the learning-rate schedule, where trials without a plan are compared: the segments of a plan
            have it.
        optimizer: the optimizer, where the search compares several.
    """
    settings: list[object] = [float(learning_rate), int(batch_size), int(seed), sorted(staging.items())]
    if lr_schedule is not None:
        settings.append(lr_schedule)
    if optimizer is not None:
        settings.append(optimizer.model_dump())
    return json.dumps(settings)


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
    equal segments before it, and so is one in a warmup that is a fraction of full training. There, budgets of different size
    therefore share their prefixes.

    Args:
        base: what the training depends on besides its segments: a string, or nested lists and dictionaries for JSON.
        segments: the segments of the plan.
    """
    closed = hashlib.sha256(json.dumps(base, sort_keys=True).encode())
    group, group_steps = "", 0
    previous: Segment | None = None
    keys = []
    for segment in segments[:-1]:
        in_trunk = _is_in_trunk(segment)
        if group_steps and not (in_trunk and previous and segment.what_is_trained == previous.what_is_trained):
            closed.update(f"{group} {group_steps};".encode())
            group_steps = 0
        key = closed
        if in_trunk:
            group = group if group_steps else _described_in_trunk(segment)
            group_steps += segment.steps
            key = closed.copy()
            key.update(f"{group} {group_steps};".encode())
        else:
            times = f"{segment.start_time!r} {segment.end_time!r}"
            schedule = segment.lr_schedule.model_dump_json() + ("" if segment.warmup is None else str(segment.warmup))
            closed.update(f"{segment.what_is_trained} {segment.steps} {times} {schedule};".encode())
        keys.append(key.hexdigest())
        previous = segment
    return keys


def trunk_length(segments: Sequence[Segment]) -> int:
    """Number of leading segments that larger budgets share, where the warmup is a fraction of full training; otherwise 0."""
    return sum(1 for _ in takewhile(lambda segment: segment.warmup is not None and _is_in_trunk(segment), segments))


def _is_in_trunk(segment: Segment) -> bool:
    """Whether the learning rate of each step of a segment is the same at every budget.

    That is between the warmup and the cooldown of a wsd schedule, and in a warmup that is a fraction of full training. After
    the warmup the factor never rises, so the last step decides.
    """
    schedule, last = segment.lr_schedule, segment.steps - 1
    if segment.warmup is None:
        after_warmup = schedule.kind == "wsd" and segment.start_time >= schedule.warmup
        return after_warmup and segment.learning_rate_factor(last) == 1
    return segment.warmup.factor(last) is not None or (schedule.kind == "wsd" and segment.learning_rate_factor(last) == 1)


def _described_in_trunk(segment: Segment) -> str:
    """The rates and learning rates of the steps of a segment of the trunk, and of equal segments that follow."""
    if segment.warmup is None or segment.warmup.factor(0) is None:
        return f"{segment.what_is_trained} constant"
    return f"{segment.what_is_trained} warmup {segment.warmup.spent} {segment.warmup.step} {segment.warmup.length!r}"

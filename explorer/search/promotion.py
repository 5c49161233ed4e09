"""Which schedules of a proxy are tried on the next task, and in which order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from explorer.ledger import Trial
from explorer.ledger.records import FromProxy
from explorer.search.proposal import schedule_variables
from explorer.training_key import schedule_key

REASONS: tuple[FromProxy, FromProxy] = ("promoted", "control")


class FromProxySchedule(NamedTuple):
    """A schedule of a proxy that the next task tries."""

    variables: dict[str, Any]
    """The variables of the schedule alone: neither learning rate nor batch size is taken over."""
    reason: FromProxy


def promotion(trials: Iterable[Trial], count: int, controls: int) -> list[FromProxySchedule]:
    """The best schedules in turn with controls, each once.

    Controls are evenly spaced in the ranking of the schedules that are not among the best.

    Args:
        trials: of the proxy at one budget, the best first.
        count: number of the best schedules.
        controls: number of controls, if there are enough other schedules.
    """
    distinct: dict[str, dict[str, Any]] = {}
    for trial in trials:
        key = schedule_key(json.dumps(sorted(trial.staging.items())), trial.schedule)
        distinct.setdefault(key, schedule_variables(trial.parameters))
    ranked = list(distinct.values())
    best, others = ranked[:count], ranked[count:]
    controls = min(controls, len(others))
    chosen = [others[(2 * number + 1) * len(others) // (2 * controls)] for number in range(controls)]
    return [
        FromProxySchedule(variables, reason)
        for pair in itertools.zip_longest(best, chosen)
        for variables, reason in zip(pair, REASONS, strict=True)
        if variables is not None
    ]

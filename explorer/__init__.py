"""vit-budget-explorer: how accurate can a vision transformer get for this much training, and by which schedule."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from explorer.errors import InvalidInput
from explorer.plan import Plan, Segment, StepCost, compile_plan
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.staging import Staging

if TYPE_CHECKING:
    from explorer.production.staged_training import StagedTraining
    from explorer.spec.search_space import SearchSpace
    from explorer.sweep.driver import Sweep

__all__ = [
    "Budget",
    "InvalidInput",
    "LearningRateSchedule",
    "Plan",
    "Rates",
    "Schedule",
    "SearchSpace",
    "Segment",
    "Stage",
    "StagedTraining",
    "Staging",
    "StepCost",
    "Sweep",
    "compile_plan",
]

# Imported when they are first used, because they need torch or ray (or save time where they are not needed).
_LAZY = {
    "StagedTraining": "explorer.production.staged_training",
    "SearchSpace": "explorer.spec.search_space",
    "Sweep": "explorer.sweep.driver",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

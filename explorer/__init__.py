"""vit-budget-explorer: how accurate can a vision transformer get for this much training, and by which schedule."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from explorer.budget import Budget
from explorer.errors import InvalidInput
from explorer.plan import Plan, Segment, StepCost, plan
from explorer.schedule import Rates, Schedule, Stage

if TYPE_CHECKING:
    from explorer.production.staged_training import StagedTraining
    from explorer.sweep.run import Sweep
    from explorer.sweep.space import SearchSpace

__all__ = [
    "Budget",
    "InvalidInput",
    "Plan",
    "Rates",
    "Schedule",
    "SearchSpace",
    "Segment",
    "Stage",
    "StagedTraining",
    "StepCost",
    "Sweep",
    "plan",
]

# These import torch or ray: only when asked for.
_LAZY = {
    "StagedTraining": "explorer.production.staged_training",
    "SearchSpace": "explorer.sweep.space",
    "Sweep": "explorer.sweep.run",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a sweep has taken from earlier sweeps (`search.from`). It is kept with the sweep, so that these may change or go."""

from __future__ import annotations

from explorer.spec.base import Frozen
from explorer.spec.budget import BudgetField, Currency
from explorer.spec.lr_schedule import Decay
from explorer.spec.schedule import Schedule


class Winner(Frozen):
    """The best staged trial of an earlier sweep at one of its budgets."""

    trial: str
    """Its id in that sweep."""
    proxy: int | None = None
    """Number of the proxy that it trained; `None` for the sweep's own task."""
    budget: BudgetField
    share: float
    """Its planned cost as a share of full training; of a proxy, of the proxy's own full training."""
    schedule: Schedule
    staging: dict[str, str]
    """All settings of `staging` that it was trained with."""
    learning_rate: float
    batch_size: int
    lr_schedule: Decay
    """Kind of its learning-rate schedule."""
    optimizer: str | None = None
    """Its optimizer, where the sweep compared several; `None` for that of the task."""
    same_task: bool
    """Whether it trained the task of the sweep that starts, so that its learning rate and batch size apply."""


class EarlierSweep(Frozen):
    """An earlier sweep as it was when a sweep started from it."""

    name: str
    """Name, folder or URI, as in `search.from`."""
    currency: Currency
    winners: tuple[Winner, ...]
    """The cheapest budget first."""

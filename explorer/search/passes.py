"""How often, and up to how many trials, a search visits all budgets of the target."""

from __future__ import annotations

from typing import NamedTuple


class Pass(NamedTuple):
    """One visit of all budgets, from the cheapest to the most expensive."""

    number: int
    share: float
    """Share of all trials of a budget with which the pass ends there."""
    at_most: int | None = None
    """Largest number of trials above the cheapest budget; `None` for no other limit than the share."""


ALL = Pass(2, 1.0)
"""The last pass, with all trials: the only one of a proxy, which has no curve to show, and few trials at its last budget."""
PASSES = (Pass(0, 1 / 3, at_most=2), Pass(1, 1 / 3), ALL)
"""Of the target. A third of the trials at the cheapest budget, and the best two of each budget at the next, give a first curve
early; a third of all trials gives a second one. See benchmarks/README.md, what a search costs."""

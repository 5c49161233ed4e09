"""`recipe.compile: auto`: chosen once for a sweep, before its first trial, and kept with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from explorer.ledger import Ledger
from explorer.search.compile_choice import choice_for_sweep
from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace
from explorer.sweep.step_times import on_worker


def with_compilation_chosen(
    space: SearchSpace,
    ledger: Ledger,
    trials: Mapping[Budget, int],
    side_by_side: int,
    excluded: Collection[str],
    say: Callable[[str], None],
) -> SearchSpace:
    """The space with a choice in place of `auto`: the one that is kept with the sweep, else one that is measured on a worker.

    Args:
        space: the search space.
        ledger: of the sweep.
        trials: number of trials at each budget.
        side_by_side: number of trials that run at the same time.
        excluded: ids of nodes that get no trials.
        say: called with a line that says what was chosen and why.

    Raises:
        InvalidInput: when the storage or the device cannot be used.
    """
    if space.task.recipe.compile != "auto":
        return space
    compile = ledger.compilation()
    if compile is None:
        choice = on_worker(space, excluded, choice_for_sweep, space, trials, side_by_side)
        ledger.keep_compilation(compile := choice.compile)
        say(choice.reason)
    return space.model_copy(update={"task": space.task.with_compilation(compile)})

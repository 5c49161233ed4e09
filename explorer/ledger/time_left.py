"""How much time the trials of a sweep that have not ended will take, from those that have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from explorer.ledger.records import Record
from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace
from explorer.spec.trial_counts import KINDS, Kind


def seconds_left(space: SearchSpace, planned: int, records: Sequence[Record]) -> float | None:
    """Time of the trials without a record, one after another, if time per cost and the overhead of a trial stay as they are.

    Args:
        space: the search space.
        planned: number of trials of the whole sweep.
        records: the trials that have ended.

    Returns:
        Seconds, the sum over all trials, whatever the number of devices of each; `None` if no trial is completed yet.
    """
    done = [(record, record.outcome) for record in records if record.outcome]
    if not done:
        return None
    work = 0.0
    for proxy, kind in _groups(space):
        of_kind = [each for each in done if each[0].trial.kind == kind] or done
        of_group = [each for each in of_kind if each[0].trial.proxy == proxy] or of_kind
        relative = recorded_relative_cost(space, proxy, records)
        trials = [record.trial for record, _ in of_group]
        amounts = [trial.budget.amount * recorded_relative_cost(space, trial.proxy, records) for trial in trials]
        seconds = sum(outcome.train_seconds for _, outcome in of_group) / sum(amounts)
        work += seconds * relative * _amount_left(space, records, proxy, kind)
    trained = [(record, outcome) for record, outcome in done if record.was_trained]
    overhead = sum(record.finished - record.started - outcome.train_seconds for record, outcome in trained)
    return work + overhead / max(1, len(trained)) * max(0, planned - len(records))


def seconds_of(records: Iterable[Record]) -> float:
    """Time from start to end of the trainings of some trials, or attempts at them; a training that two share counts once."""
    return sum(record.finished - record.started for record in records if record.was_trained)


def planned_trials(space: SearchSpace) -> int:
    """Number of trials of a whole sweep, repeats with fresh seeds included. A small space may have fewer settings to try."""
    return sum(_trials(space, budget, proxy, kind) for budget in space.budgets for proxy, kind in _groups(space))


def _groups(space: SearchSpace) -> list[tuple[int | None, Kind]]:
    """Number of the proxy and kind of all trials of a space; `None` is the target."""
    proxies: list[tuple[int | None, Kind]] = [(number, "staged") for number in range(1, len(space.proxy) + 1)]
    return [*proxies, *((None, kind) for kind in KINDS)]


def _trials(space: SearchSpace, budget: Budget, proxy: int | None, kind: Kind) -> int:
    space = space if proxy is None else space.proxy_space(proxy)
    wanted = space.trials_at(budget, kind)
    if budget == space.search.goal:  # not searched: a few schedules are trained there once; see Search.allocated_space
        return wanted
    return wanted + min(space.search.repeat, wanted) * space.seeds_at(budget)


def _amount_left(space: SearchSpace, records: Sequence[Record], proxy: int | None, kind: Kind) -> float:
    """Sum of the budgets of the trials of a group that have not ended, in the unit of the budgets."""
    left = -sum(record.trial.budget.amount for record in records if (record.trial.proxy, record.trial.kind) == (proxy, kind))
    left += sum(budget.amount * _trials(space, budget, proxy, kind) for budget in space.budgets)
    return max(0.0, left)


def recorded_relative_cost(space: SearchSpace, proxy: int | None, records: Sequence[Record]) -> float:
    """Cost of full training of a proxy in full trainings of the target.

    It is known when a trial of the proxy is completed; before, that of fewer images and epochs is assumed.
    """
    if proxy is None:
        return 1.0
    for record in records:
        if record.trial.proxy == proxy and record.outcome:
            return record.outcome.planned_cost / record.trial.budget.amount
    return space.proxy[proxy - 1].images * space.proxy[proxy - 1].epochs

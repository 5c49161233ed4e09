"""How much time the trials of a sweep that have not ended will take, from those that have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from explorer.ledger.records import Record
from explorer.spec.search_space import SearchSpace
from explorer.spec.trial_counts import Kind


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
    for proxy, kind in space.trial_groups():
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


def _amount_left(space: SearchSpace, records: Sequence[Record], proxy: int | None, kind: Kind) -> float:
    """Sum of the budgets of the trials of a group that have not ended, in the unit of the budgets."""
    left = -sum(record.trial.budget.amount for record in records if (record.trial.proxy, record.trial.kind) == (proxy, kind))
    left += sum(budget.amount * space.planned_at(budget, proxy, kind) for budget in space.budgets)
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

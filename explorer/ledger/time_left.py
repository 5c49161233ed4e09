"""How much device time the trials of a sweep that have not ended will take, from those that have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from explorer.ledger.records import Record
from explorer.spec.search_space import KINDS, Kind, SearchSpace


def device_seconds_left(space: SearchSpace, planned: int, records: Sequence[Record]) -> float | None:
    """Device time of the trials without a record, if training time per cost and the overhead of a trial stay as they are.

    Args:
        space: the search space.
        planned: number of trials of the whole sweep.
        records: the trials that have ended.

    Returns:
        Seconds of one device, the sum over all trials; `None` if no trial is completed yet.
    """
    done = [(record, record.outcome) for record in records if record.outcome]
    if not done:
        return None
    work = 0.0
    for kind in KINDS:
        of_kind = [(record, outcome) for record, outcome in done if record.trial.kind == kind] or done
        seconds = sum(outcome.train_seconds for _, outcome in of_kind) / sum(_amount(record) for record, _ in of_kind)
        work += seconds * _cost_left(space, records, kind)
    trained = [(record, outcome) for record, outcome in done if record.shared_with is None]
    overhead = sum(record.finished - record.started - outcome.train_seconds for record, outcome in trained)
    return work + overhead / max(1, len(trained)) * max(0, planned - len(records))


def seconds_of(records: Iterable[Record]) -> float:
    """Time from start to end of the trainings of some trials, or attempts at them; a training that two share counts once."""
    return sum(record.finished - record.started for record in records if record.shared_with is None)


def planned_trials(space: SearchSpace) -> int:
    """Number of trials of a whole sweep, repeats with fresh seeds included. A small space may have fewer settings to try."""
    return sum(_trials(space, position, kind) for position in range(len(space.budgets)) for kind in KINDS)


def _trials(space: SearchSpace, position: int, kind: Kind) -> int:
    wanted = space.trials_at(space.budgets[position], kind)
    return wanted + min(space.search.repeat, wanted) * space.search.repeat_seeds


def _cost_left(space: SearchSpace, records: Sequence[Record], kind: Kind) -> float:
    """Cost of the trials of a kind that have not ended, in the unit of the budgets."""
    left = -sum(_amount(record) for record in records if record.trial.kind == kind)
    left += sum(budget.amount * _trials(space, position, kind) for position, budget in enumerate(space.budgets))
    return max(0.0, left)


def _amount(record: Record) -> float:
    return record.trial.budget.amount

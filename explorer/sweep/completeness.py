"""What a sweep lacks when it ends: budgets at which no staged trial or no baseline trial succeeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from explorer.ledger import KINDS, Failure, Record, of_target
from explorer.spec.search_space import SearchSpace

NAMES: dict[Failure | None, str] = {
    "diverged": "diverged",
    "memory": "out of memory",
    "error": "with an error",
    "place": "for lack of data, storage, device or package",
    "lost": "with a lost worker",
    "preempted": "preempted",
    None: "for another reason",
}


def lacking(space: SearchSpace, records: Iterable[Record]) -> tuple[str, ...]:
    """What the results lack, one line each (`50%: no baseline trial succeeded`); empty if all that was planned can be judged.

    Within a spending limit, what was begun was planned.
    """
    target = of_target(records)
    begun = {(record.trial.budget, record.trial.kind) for record in target}
    succeeded = {(record.trial.budget, record.trial.kind) for record in target if record.outcome}
    places = [(budget, kind) for budget in space.budgets for kind in KINDS]
    planned = begun if space.search.spend else {(budget, kind) for budget, kind in places if space.trials_at(budget, kind)}
    return tuple(f"{budget}: no {kind} trial succeeded" for budget, kind in places if (budget, kind) in planned - succeeded)


def failures_line(records: Iterable[Record]) -> str | None:
    """How many trials failed and how (`2 of 9 trials failed (1 diverged, 1 out of memory), ...`); `None` if none did."""
    records = list(records)
    failed = [record for record in records if record.outcome is None]
    if not failed:
        return None
    kinds = Counter("diverged" if record.diverged else NAMES[record.failure] for record in failed)
    counted = ", ".join(f"{count} {name}" for name, count in kinds.items())
    line = f"{len(failed)} of {len(records)} trials failed ({counted}), the first one with: {failed[0].reason}"
    if any(not record.diverged for record in failed):
        line += "\nthe same command tries those again that did not diverge; --retry none leaves them as they are"
    return line

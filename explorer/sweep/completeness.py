"""What a sweep lacks when it ends: budgets at which no staged trial or no baseline trial succeeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from explorer.ledger import KINDS, Failure, Record, of_target
from explorer.spec.budget import Budget

NAMES: dict[Failure | None, str] = {
    "diverged": "diverged",
    "memory": "out of memory",
    "error": "with an error",
    "place": "for lack of data, storage, device or package",
    "lost": "with a lost worker",
    "preempted": "preempted",
    None: "for another reason",
}


def lacking(budgets: Sequence[Budget], records: Iterable[Record]) -> tuple[str, ...]:
    """What the results lack, one line each (`50%: no baseline trial succeeded`); empty if every budget can be judged."""
    there = {(record.trial.budget, record.trial.kind) for record in of_target(records) if record.outcome}
    return tuple(f"{budget}: no {kind} trial succeeded" for budget in budgets for kind in KINDS if (budget, kind) not in there)


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

"""Runs the trials of a search one at a time in this process, without Ray, as `explorer sweep` does."""

from __future__ import annotations

import time
from collections.abc import Iterator

from explorer import SearchSpace
from explorer.ledger import Ledger, Record, SweepHeader
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.trial import run_trial


def opened(space: SearchSpace, storage: str) -> Ledger:
    """The ledger of a sweep in a storage, begun if it is not there."""
    ledger = Ledger(f"{storage}/{space.name}")
    if not ledger.exists:
        ledger.create(SweepHeader(name=space.name, space=space, created=time.time(), versions={}, hardware="one core"))
    return ledger


def trained(search: Search, space: SearchSpace, ledger: Ledger, table: StepTimeTable | None = None) -> Iterator[Record]:
    """Train what is missing from a ledger, one trial per iteration."""
    work = Dispatcher(search, lambda trial: compile_trial(trial, space, table)[1], ledger.records(), hold_back=False)
    while isinstance(planned := work.next(), PlannedTrial):
        ledger.start(planned.trial)
        record = run_trial(planned.trial, space, ledger, table=table)
        work.finished(record)
        for shared in work.take_shared_records():
            ledger.append(shared)
        yield record

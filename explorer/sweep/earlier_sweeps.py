"""Reads the sweeps of `search.from` when a sweep starts. Their ledgers are opened, and nothing of them is executed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explorer.errors import InvalidInput
from explorer.frontier import trials_frame
from explorer.frontier.trials import rows
from explorer.frontier.winners import staged_winners
from explorer.ledger import Ledger, SweepHeader, find_sweep
from explorer.ledger.earlier_sweeps import EarlierSweep, Winner
from explorer.spec.budget import Budget
from explorer.spec.inventory import Inventory
from explorer.spec.search_space import SearchSpace
from explorer.spec.task_identity import is_same_task

FIELD = "search.from"


def earlier_sweeps(space: SearchSpace, inventory: Inventory, ledger: Ledger) -> tuple[EarlierSweep, ...]:
    """The sweeps of `search.from`: as they are kept with the sweep, else as they are now.

    Args:
        space: the search space of the sweep.
        inventory: what its data set contains.
        ledger: of the sweep, whether it has been started or not.

    Raises:
        InvalidInput: when one of them does not exist, is the sweep itself, is of another release, or has no finished staged
            trial.
    """
    kept = {sweep.name: sweep for sweep in ledger.earlier_sweeps()} if space.search.from_ else {}
    return tuple(kept.get(name) or _read(name, space, inventory, ledger) for name in space.search.from_)


def keep(ledger: Ledger, sweeps: Sequence[EarlierSweep]) -> None:
    """Keep what a sweep takes from earlier ones with it, beside what it took in earlier runs.

    Raises:
        InvalidInput: when the storage cannot be written.
    """
    kept = {sweep.name: sweep for sweep in ledger.earlier_sweeps()} if sweeps else {}
    if added := {sweep.name: sweep for sweep in sweeps if sweep.name not in kept}:
        ledger.keep_earlier_sweeps(tuple({**kept, **added}.values()))


def _read(name: str, space: SearchSpace, inventory: Inventory, ledger: Ledger) -> EarlierSweep:
    try:
        other = find_sweep(name, ledger.location.rpartition("/")[0])
        if _absolute(other.location) == _absolute(ledger.location):
            raise InvalidInput(FIELD, name, "is this sweep itself")
        header = other.header()
        records = other.records()
    except InvalidInput as error:
        raise InvalidInput(FIELD, name, error.allowed) from None
    winners = staged_winners(records, header)
    if winners.empty:
        raise InvalidInput(FIELD, name, f"has no finished staged trial ({len(records)} trials ended)")
    trials = trials_frame(records, header, of="all")
    # The record of a searched run may be lost while its repeats, which have its settings, are there.
    trials = trials[trials.status == "completed"].drop_duplicates("candidate").set_index("candidate")
    found = []
    for winner in rows(winners):
        run, budget = trials.loc[winner.id], Budget.parse(winner.budget)
        task = header.space.task.with_settings(run.learning_rate, run.batch_size, run.staging, run.lr_schedule, run.optimizer)
        found.append(
            Winner(
                trial=winner.id,
                proxy=winner.proxy,
                budget=budget,
                share=budget.amount if budget.unit == "fraction" else winner.cost,
                schedule=winner.schedule.model_copy(update={"provenance": None}),
                staging={setting: str(value) for setting, value in task.staging.model_dump().items()},
                learning_rate=run.learning_rate,
                batch_size=run.batch_size,
                lr_schedule=task.recipe.lr_schedule.kind,
                optimizer=None if run.optimizer is None else run.optimizer.name,
                same_task=winner.proxy is None and _is_same(header, space, inventory),
            )
        )
    return EarlierSweep(name=name, currency=header.space.currency, winners=tuple(found))


def _is_same(header: SweepHeader, space: SearchSpace, inventory: Inventory) -> bool:
    """Whether an earlier sweep trained the task of this one, and counted its cost alike."""
    if header.inventory is None or header.space.currency != space.currency:
        return False
    return is_same_task(header.space.task, header.inventory, space.task, inventory)


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).resolve())

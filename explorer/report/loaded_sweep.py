"""A sweep's ledger, read: what every part of a report is made from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier import trials_frame
from explorer.frontier.transfer import Transfer, transfers
from explorer.ledger import Ledger, Record, SweepHeader
from explorer.ledger.driver_note import DriverNote
from explorer.ledger.spending import SpendingStatus, spending_status
from explorer.report.frontier_data import FrontierData, frontier_data
from explorer.report.units import CostUnit, cost_units
from explorer.spec.step_times import StepTimeTable


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep with at least one finished trial; what panels take their data from."""

    header: SweepHeader
    trials: pd.DataFrame
    """One row per trial of the target, as `trials_frame` returns: what results are taken from."""
    all_trials: pd.DataFrame
    """The same with the trials of proxies: what the sweep cost."""
    data: FrontierData
    units: tuple[CostUnit, ...]
    """Units of cost that the page can switch between."""
    step_times: StepTimeTable | None = None
    """Step times by which the trials were planned; `None` in a sweep that counts FLOPs."""
    failed_attempts: tuple[Record, ...] = ()
    """Failed trials, and failed attempts at trials that were tried again, but not those that others resumed."""
    spending: SpendingStatus | None = None
    """How the sweep stands with its spending limit; `None` if there is none."""
    note: DriverNote | None = None
    """What the driver of the last run said about itself; `None` if that is lost."""

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """Whether the ranks of schedules carry over from the proxies to the target."""
        inventory = self.header.inventory
        return tuple(transfers(self.all_trials, inventory.validation.images if inventory else None))

    @classmethod
    def read(cls, ledger: Ledger, *, price: float | None = None) -> LoadedSweep:
        """Read a ledger.

        Args:
            ledger: the ledger of the sweep.
            price: price of a device-hour, in any currency; `None` leaves out money as a unit of cost.

        Raises:
            InvalidInput: when the sweep has no finished trial, or the price is not above 0, or another than that of budgets in
            money.
        """
        header = ledger.header()
        own, in_money = header.space.price, any(budget.unit == "money" for budget in header.space.budgets)
        if in_money and price not in (None, own):
            reason = f"the budgets of the sweep are money, at {own:g} for a device-hour: leave out the price"
            raise InvalidInput("price", price, reason)
        note = _note(ledger)  # before the records: a trial that ends meanwhile is not missed
        records = ledger.records()
        trials, all_trials = trials_frame(records, header), trials_frame(records, header, of="all")
        if not (trials.status == "completed").any():
            failed = int((trials.status == "failed").sum())
            proxies = f", {len(all_trials) - len(trials)} of proxies ended" if header.space.proxy else ""
            reason = f"has no finished trial yet ({failed} failed{proxies}); nothing to report"
            raise InvalidInput("sweep", ledger.location, reason)
        data = frontier_data(trials, all_trials)
        superseded = ledger.superseded()
        failed_attempts = tuple(
            each for each in (*records, *superseded) if each.outcome is None and each.failure != "preempted"
        )
        units = tuple(cost_units(data.shown_budgets, header.space.price if price is None else price, currency=data.currency))
        limit = note.spend if note else header.space.search.spend
        spending = spending_status(header.space, limit, records, superseded)
        return cls(header, trials, all_trials, data, units, ledger.step_times(), failed_attempts, spending, note)


def _note(ledger: Ledger) -> DriverNote | None:
    with suppress(OSError):
        return DriverNote.read(ledger.location)
    return None

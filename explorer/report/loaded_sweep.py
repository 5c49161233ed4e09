"""A sweep's ledger, read: what every part of a report is made from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, Record, SweepHeader
from explorer.report.frontier_data import FrontierData, frontier_data
from explorer.report.units import CostUnit, cost_units
from explorer.spec.step_times import StepTimeTable


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep with at least one finished trial; what panels take their data from."""

    header: SweepHeader
    trials: pd.DataFrame
    """One row per record, as `trials_frame` returns."""
    data: FrontierData
    units: tuple[CostUnit, ...]
    """Units of cost that the page can switch between."""
    step_times: StepTimeTable | None = None
    """Step times by which the trials were planned; `None` in a sweep that counts FLOPs."""
    failed_attempts: tuple[Record, ...] = ()
    """Failed trials, and failed attempts at trials that were tried again."""

    @classmethod
    def read(cls, ledger: Ledger, *, price: float | None = None) -> LoadedSweep:
        """Read a ledger.

        Args:
            ledger: the ledger of the sweep.
            price: price of a device-hour, in any currency; `None` leaves out money as a unit of cost.

        Raises:
            InvalidInput: when the sweep has no finished trial, or the price is not above 0.
        """
        header = ledger.header()
        records = ledger.records()
        trials = trials_frame(records, header)
        if not (trials.status == "completed").any():
            failed = int((trials.status == "failed").sum())
            raise InvalidInput("sweep", ledger.location, f"has no finished trial yet ({failed} failed); nothing to report")
        data = frontier_data(trials)
        failed_attempts = (*(record for record in records if record.outcome is None), *ledger.superseded())
        units = tuple(cost_units(data.curves, header.space.price if price is None else price, currency=data.currency))
        return cls(header, trials, data, units, ledger.step_times(), failed_attempts)

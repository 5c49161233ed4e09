"""A sweep's ledger, read: what every file of a report is made from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, SweepHeader
from explorer.report.frontier_panel import FrontierData, frontier_data


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep with a finished trial at least."""

    header: SweepHeader
    trials: pd.DataFrame
    data: FrontierData

    @classmethod
    def read(cls, ledger: Ledger) -> LoadedSweep:
        """Read a ledger.

        Raises:
            InvalidInput: when the sweep has no finished trial.
        """
        header, trials = ledger.header(), trials_frame(ledger.records())
        if not (trials.status == "completed").any():
            failed = int((trials.status == "failed").sum())
            raise InvalidInput("sweep", ledger.location, f"has no finished trial yet ({failed} failed); nothing to report")
        return cls(header, trials, frontier_data(trials))

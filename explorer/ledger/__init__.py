"""The source of truth about a sweep: immutable records on any storage. Needs neither torch nor ray."""

from explorer.ledger.records import (
    Failure,
    OtherTrial,
    Outcome,
    Phase,
    Record,
    StageOutcome,
    SweepHeader,
    Trial,
    of_target,
)
from explorer.ledger.storage import Ledger, find_sweep, sweeps_in
from explorer.spec.trial_counts import KINDS, Kind

__all__ = [
    "KINDS",
    "Failure",
    "Kind",
    "Ledger",
    "OtherTrial",
    "Outcome",
    "Phase",
    "Record",
    "StageOutcome",
    "SweepHeader",
    "Trial",
    "find_sweep",
    "of_target",
    "sweeps_in",
]

"""The source of truth about a sweep: immutable records on any storage. Needs neither torch nor ray."""

from explorer.ledger.records import Failure, Outcome, Phase, Record, StageOutcome, SweepHeader, Trial, of_target
from explorer.ledger.storage import Ledger, find_sweep
from explorer.spec.search_space import KINDS, Kind

__all__ = [
    "KINDS",
    "Failure",
    "Kind",
    "Ledger",
    "Outcome",
    "Phase",
    "Record",
    "StageOutcome",
    "SweepHeader",
    "Trial",
    "find_sweep",
    "of_target",
]

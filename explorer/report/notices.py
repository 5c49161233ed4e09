"""What a reader must know before trusting a page: trials that are missing or failed, mixed versions, overlapping data."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from explorer.frontier.transfer import Transfer
from explorer.ledger import Record, SweepHeader
from explorer.ledger.driver_note import DriverNote
from explorer.ledger.time_left import seconds_of


def notices(
    header: SweepHeader,
    trials: pd.DataFrame,
    failed_attempts: Sequence[Record] = (),
    transfers: Sequence[Transfer] = (),
    note: DriverNote | None = None,
) -> list[str]:
    """One sentence each; none for a complete sweep without failures.

    Args:
        header: the header of the sweep.
        trials: of the target and of the proxies, as `trials_frame` returns them.
        failed_attempts: failed trials, and failed attempts at trials that were tried again.
        transfers: whether ranks carry over from the proxies.
        note: of the last driver, which alone knows how many trials a spending limit allows; `None` if it is lost.
    """
    found = []
    space = note.space if note else header.space.up_to_goal()
    planned = note.planned if note else space.planned_trials
    ended = int(trials.budget_amount.isin([budget.amount for budget in space.budgets]).sum())
    failed = trials[trials.status == "failed"]
    if ended < planned:
        found.append(
            f"Not complete: {ended} of {planned} planned trials have ended. If the sweep does not run, the same command "
            "resumes it."
        )
    if len(failed):
        found.append(f"{len(failed)} of {len(trials)} trials failed; the reasons are listed below.")
    if failed_attempts:
        seconds = seconds_of(failed_attempts)
        took = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
        found.append(f"Failed attempts ({len(failed_attempts)}) took workers {took}, which are not part of the search cost.")
    for column, text in (
        ("reused_from", "have results of other sweeps, whose cost is not part of the search cost"),
        ("from_sweep", "are warm starts: their schedules are of earlier sweeps"),
    ):
        counts = trials if column == "reused_from" else trials[trials.phase == "search"]  # repeats are not counted again
        origins = counts[column].dropna().map(lambda origin: origin.partition(" of ")[2])
        if len(origins):
            counted = ", ".join(f"{name}: {count}" for name, count in origins.value_counts().items())
            found.append(f"{len(origins)} of {len(trials)} trials {text} ({counted}).")
    versions = {tuple(sorted(version.items())) for version in trials.versions if version}
    if len(versions) > 1:
        packages = sorted({name for one in versions for name, _ in set(one) - set.intersection(*map(set, versions))})
        found.append(f"The trials ran with different versions of {', '.join(packages)}.")
    if poor := [each for each in transfers if each.verdict == "poor"]:
        where = ", ".join(f"proxy {each.proxy} at {each.budget}" for each in poor)
        found.append(
            f"The ranks of schedules carry over poorly from proxies to the target ({where}), so that schedules which were not "
            "tried on the target may be better than those shown."
        )
    if header.inventory:
        found += [f"{count} images are in both {pair}." for pair, count in header.inventory.overlaps.items()]
    return found

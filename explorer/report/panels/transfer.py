"""Whether what is best on a proxy is best on the target."""

from __future__ import annotations

import math
from functools import partial

from explorer.frontier.transfer import Transfer, Verdict
from explorer.report.panels.panel import Column, Panel, Table

NOTE = (
    "Schedules that this sweep trained on a proxy and on the target, by their values on validation images: those that the "
    "proxy promoted, controls that it did not choose, and any that both tried without it. Ranks: Spearman's correlation, "
    "with Bonett and Wright's 95 % interval; schedules that were promoted lie close together, so it is lower than over all "
    "schedules. Regret: what is lost on the target by taking the schedule that is best on the proxy, with the 95 % interval "
    "of the difference between two trainings{noise}; it is overestimated, because the best of several is partly lucky."
)
VERDICTS: dict[Verdict, str] = {
    "carries over": "carry over",
    "poor": "carry over poorly",
    "undecided": "too few schedules to say",
}


def transfer_table(transfers: list[Transfer]) -> Table:
    """One row per proxy and budget, as text."""
    unit = f", {unit}" if (unit := transfers[0].metric.unit_of_differences) else ""
    columns = (
        Column("proxy"),
        Column("budget"),
        Column("schedules", is_number=True),
        Column("controls", is_number=True),
        Column("rank correlation", is_number=True),
        Column(f"regret{unit}", is_number=True),
        Column(f"promoted ahead of control{unit}", is_number=True),
        Column("ranks"),
    )
    return Table(columns, tuple(_cells(each) for each in transfers))


def _cells(transfer: Transfer) -> tuple[str, ...]:
    correlation = "too few schedules"
    if not math.isnan(transfer.spearman):
        correlation = f"{transfer.spearman:.2f} ({transfer.spearman_low:.2f} to {transfer.spearman_high:.2f})"
    regret_low, regret_high = transfer.regret_interval
    gain = partial(transfer.metric.gain_number, signed=False)
    return (
        str(transfer.proxy),
        transfer.budget,
        str(transfer.schedules),
        str(transfer.controls),
        correlation,
        f"{gain(transfer.regret)} ({gain(regret_low)} to {gain(regret_high)})",
        _ahead(transfer),
        VERDICTS[transfer.verdict],
    )


def _ahead(transfer: Transfer) -> str:
    """How far the best promoted schedule is ahead of the best control, if there is one of each."""
    if not transfer.controls:
        return "no control"
    if not transfer.promoted:
        return "none promoted"
    return transfer.metric.gain_number(transfer.ahead_of_control)


def _note(transfers: list[Transfer]) -> str:
    return NOTE.format(noise="" if transfers[0].has_seeds else " (of the images alone: nothing was repeated with fresh seeds)")


PANEL = Panel(
    name="transfer",
    section="sweep",
    title="Do proxies carry over?",
    note=_note,
    data=lambda sweep: list(sweep.transfers) or None,
    table=transfer_table,
)

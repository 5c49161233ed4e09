"""Progress of a sweep: trials done of planned, the best so far at each budget, time left."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from explorer.console import print_line
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.trials import rows
from explorer.ledger import KINDS, Kind, Record
from explorer.ledger.time_left import seconds_left
from explorer.spec.budget import Budget
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.search_space import SearchSpace
from explorer.sweep.interrupts import interrupted_line

LAST_TABLE = (
    "{metric} of the best trial of each kind, chosen on validation images: the mean over fresh seeds where it was repeated, "
    "otherwise that of the single run that was chosen"
)


class SweepProgress:
    """A live table on a terminal; elsewhere, one line per trial.

    Args:
        space: the search space.
        planned: number of trials of the whole sweep.
        at_once: number of trials that run side by side.
        records: what the ledger already holds.
        console: where to write.

    Attributes:
        spent: what was spent of a spending limit and what is left, in words; empty without a limit.
    """

    def __init__(self, space: SearchSpace, planned: int, at_once: int, records: Sequence[Record], console: Console) -> None:
        self.space, self.planned, self.at_once, self.console = space, planned, at_once, console
        self.records = list(records)
        self.spent = ""
        self._live = Live(get_renderable=self._view, console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def finished(self, record: Record) -> None:
        """A trial ended."""
        self.records.append(record)
        if self._live:
            self._live.refresh()
            return
        outcome = record.outcome
        result = f"{outcome.metric.text(outcome.validation, 1):>7}" if outcome else f"failed: {record.reason}"
        if record.shared_with:
            result += f"  (training shared with {record.shared_with})"
        if record.reused_from:
            result += f"  (reused: {record.reused_from})"
        left = ", ".join(filter(None, (f"{self.seconds_left() / 60:.1f} min left", self.spent)))
        print_line(self.console, f"{len(self.records):4d}/{self.planned}  {record.trial.id:28s} {result}  {left}")

    def interrupted(self) -> str:
        """What to say about a sweep that was interrupted now."""
        return interrupted_line(len(self.records), self.planned)

    def seconds_left(self) -> float:
        """Estimated time left; see `seconds_left`."""
        return (seconds_left(self.space, self.planned, self.records) or 0.0) / self.at_once

    def table(self) -> Group:
        """While the sweep runs: the best single run on validation images at each budget, staged against baseline."""
        table = _table("budget", "best staged", "best baseline")
        for proxy in (*range(1, len(self.space.proxy) + 1), None):
            for budget in self.space.budgets:
                here = self._records_at(budget, proxy)
                if proxy and not here and not self.space.proxy_space(proxy).trials_at(budget, "staged"):
                    continue
                name = str(budget) if proxy is None else f"proxy {proxy}, {budget}"
                table.add_row(name, self._best(here, "staged"), self._best(here, "baseline"), *_counts(here))
        metric = self._metric
        best = "highest" if metric.direction == "maximize" else "lowest"
        return Group(Text(f"{best} validation {metric.label} of a single run so far"), table)

    def last_table(self) -> Group:
        """At the end: the results of the best trial of each kind at each budget, as reports show them."""
        table = _table("budget", *(f"{kind} {what}" for kind in KINDS for what in ("validation", "test", "seeds")))
        best = {(row.budget, row.kind): row for row in rows(best_by_budget(trials_frame(self.records)))}
        for budget in self.space.budgets:
            cells = []
            for kind in KINDS:
                row = best.get((str(budget), kind))
                seeds = (f"{row.seeds} fresh" if row.repeated else "1") if row else "-"
                means = [row.metric.score_text(mean, 1) for mean in (row.validation_mean, row.test_mean)] if row else []
                cells += [*means, seeds] if row else ["-"] * 3
            table.add_row(str(budget), *cells, *_counts(self._records_at(budget)))
        return Group(Text(LAST_TABLE.format(metric=self._metric.label)), table)

    @property
    def _metric(self) -> MetricSpec:
        """The metric of the sweep; accuracy until something is measured."""
        return next((record.outcome.metric for record in self.records if record.outcome), ACCURACY)

    def _records_at(self, budget: Budget, proxy: int | None = None) -> list[Record]:
        """The records of the target or of a proxy at a budget."""
        return [record for record in self.records if (record.trial.proxy, record.trial.budget) == (proxy, budget)]

    @staticmethod
    def _best(records: Sequence[Record], kind: Kind) -> str:
        outcomes = [record.outcome for record in records if record.outcome and record.trial.kind == kind]
        best = max(outcomes, key=lambda outcome: outcome.validation_score, default=None)
        return "-" if best is None else best.metric.text(best.validation, 1)

    def _view(self) -> Group:
        minutes = self.seconds_left() / 60
        line = f"{self.space.name}: {len(self.records)} of {self.planned} trials, about {minutes:.1f} min left"
        return Group(Text(", ".join(filter(None, (line, self.spent)))), self.table())


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*columns, "done", "failed"):
        table.add_column(name, justify="right")
    return table


def _counts(records: Sequence[Record]) -> tuple[str, str]:
    return str(len(records)), str(sum(record.outcome is None for record in records) or "")

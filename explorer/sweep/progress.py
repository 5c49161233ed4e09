"""What a person sees while a sweep runs: trials done of planned, the best so far at each budget, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from explorer.budget import Budget
from explorer.ledger import KINDS, Kind, Record
from explorer.sweep.space import SearchSpace


class SweepProgress:
    """A live table on a terminal, a line a trial elsewhere.

    Args:
        space: the search space.
        planned: trials of the whole sweep.
        records: what the ledger already holds.
        console: where to write.
    """

    def __init__(self, space: SearchSpace, planned: int, records: Sequence[Record], console: Console) -> None:
        self.space, self.planned, self.console = space, planned, console
        self.records = list(records)
        self._already = len(self.records)
        self._started = time.monotonic()
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
        result = f"{outcome.validation_accuracy:7.2%}" if outcome else f"failed: {record.reason}"
        left = f"{self.seconds_left() / 60:.1f} min left"
        self.console.print(
            f"{len(self.records):4d}/{self.planned}  {record.trial.id:28s} {result}  {left}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def seconds_left(self) -> float:
        """Time left: seconds a unit of cost and a trial took so far, and trials at once, go on as they are."""
        done = [record for record in self.records if record.outcome]
        here = self.records[self._already :]
        if not done or not here:
            return 0.0
        search = self.space.search
        cost_left = -sum(map(_amount, self.records))
        for budget in self.space.budgets:
            for kind in KINDS:
                wanted = self.space.trials_at(budget, kind)
                cost_left += budget.amount * (wanted + min(search.confirm, wanted) * search.confirm_seeds)
        trained = sum(record.outcome.train_seconds for record in done if record.outcome)
        overhead = sum(record.finished - record.started for record in done) - trained
        work = max(0.0, cost_left) * trained / sum(map(_amount, done))
        work += (self.planned - len(self.records)) * overhead / len(done)
        at_once = sum(record.finished - record.started for record in here) / (time.monotonic() - self._started)
        return work / at_once

    def table(self) -> Table:
        """Best validation accuracy at each budget, staged against baseline."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("budget", "best staged", "best baseline", "done", "failed"):
            table.add_column(name, justify="right")
        for budget in self.space.budgets:
            here = [record for record in self.records if record.trial.budget == str(budget)]
            failed = sum(record.outcome is None for record in here)
            table.add_row(
                str(budget), self._best(here, "staged"), self._best(here, "baseline"), str(len(here)), str(failed or "")
            )
        return table

    @staticmethod
    def _best(records: Sequence[Record], kind: Kind) -> str:
        found = [r.outcome.validation_accuracy for r in records if r.outcome and r.trial.kind == kind]
        return f"{max(found):.2%}" if found else "-"

    def _view(self) -> Group:
        minutes = self.seconds_left() / 60
        line = f"{self.space.name}: {len(self.records)} of {self.planned} trials, about {minutes:.1f} min left"
        return Group(Text(line), self.table())


def _amount(record: Record) -> float:
    return Budget.parse(record.trial.budget).amount

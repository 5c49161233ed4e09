"""Progress of a sweep: trials done of planned, the best so far at each budget, time left."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from explorer.ledger import KINDS, Kind, Record
from explorer.spec.search_space import SearchSpace


class SweepProgress:
    """A live table on a terminal; elsewhere, one line per trial.

    Args:
        space: the search space.
        planned: number of trials of the whole sweep.
        at_once: number of trials that run side by side.
        records: what the ledger already holds.
        console: where to write.
    """

    def __init__(self, space: SearchSpace, planned: int, at_once: int, records: Sequence[Record], console: Console) -> None:
        self.space, self.planned, self.at_once, self.console = space, planned, at_once, console
        self.records = list(records)
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
        if record.shared_with:
            result += f"  (training shared with {record.shared_with})"
        left = f"{self.seconds_left() / 60:.1f} min left"
        self.console.print(
            f"{len(self.records):4d}/{self.planned}  {record.trial.id:28s} {result}  {left}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def interrupted(self) -> str:
        """What to say about a sweep that was interrupted now."""
        return f"interrupted after {len(self.records)} of {self.planned} trials; the same command resumes"

    def seconds_left(self) -> float:
        """Time left, if training time per cost (of each kind of trial) and the overhead of a trial stay as they are."""
        done = [(record, record.outcome) for record in self.records if record.outcome]
        if not done:
            return 0.0
        work = 0.0
        for kind in KINDS:
            of_kind = [(record, outcome) for record, outcome in done if record.trial.kind == kind] or done
            seconds = sum(outcome.train_seconds for _, outcome in of_kind) / sum(_amount(record) for record, _ in of_kind)
            work += seconds * self._cost_left(kind)
        trained = [(record, outcome) for record, outcome in done if record.shared_with is None]
        overhead = sum(record.finished - record.started - outcome.train_seconds for record, outcome in trained)
        work += overhead / max(1, len(trained)) * (self.planned - len(self.records))
        return work / self.at_once

    def _cost_left(self, kind: Kind) -> float:
        """Cost of the trials of a kind that have not ended, in the unit of the budgets."""
        search = self.space.search
        left = -sum(_amount(record) for record in self.records if record.trial.kind == kind)
        for budget in self.space.budgets:
            wanted = self.space.trials_at(budget, kind)
            left += budget.amount * (wanted + min(search.repeat, wanted) * search.repeat_seeds)
        return max(0.0, left)

    def table(self) -> Table:
        """Best validation accuracy at each budget, staged against baseline."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("budget", "best staged", "best baseline", "done", "failed"):
            table.add_column(name, justify="right")
        for budget in self.space.budgets:
            here = [record for record in self.records if record.trial.budget == budget]
            failed = sum(record.outcome is None for record in here)
            table.add_row(
                str(budget), self._best(here, "staged"), self._best(here, "baseline"), str(len(here)), str(failed or "")
            )
        return table

    @staticmethod
    def _best(records: Sequence[Record], kind: Kind) -> str:
        accuracies = [r.outcome.validation_accuracy for r in records if r.outcome and r.trial.kind == kind]
        return f"{max(accuracies):.2%}" if accuracies else "-"

    def _view(self) -> Group:
        minutes = self.seconds_left() / 60
        line = f"{self.space.name}: {len(self.records)} of {self.planned} trials, about {minutes:.1f} min left"
        return Group(Text(line), self.table())


def _amount(record: Record) -> float:
    return record.trial.budget.amount

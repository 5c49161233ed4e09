"""What the page's script reads: one typed, versioned record. All wording is in it; the script only formats what it computes.

`report.js` names the fields as they are named here and refuses a payload of another version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import plotly.graph_objects as go

from explorer.ledger import Kind
from explorer.report import palette
from explorer.report.units import CostUnit

PAYLOAD_VERSION = 3
"""Raised with every change of the fields below, here and in `report.js`."""

PlotlyJson = dict[str, Any]
"""A plotly figure as plain data: `data` and `layout`."""


@dataclass(frozen=True)
class UnitPayload:
    """A unit of cost."""

    key: str
    axis: dict[str, Any]
    """Settings of plotly's x axis."""


@dataclass(frozen=True)
class FigurePayload:
    """A figure of the page: the same for all budgets, or one per budget."""

    name: str
    """Id of its element."""
    lazy: bool
    figure: PlotlyJson | None = None
    by_budget: dict[str, PlotlyJson] | None = None
    """By the measured budget as text."""


@dataclass(frozen=True)
class Result:
    """A value of the metric on test images, as text."""

    value: str
    interval: str
    """95 % interval, or why there is none."""


@dataclass(frozen=True)
class StagePayload:
    """A row of a schedule's table."""

    cells: tuple[str, ...]
    """Text of each column; `EPOCHS_CELL` stands for the number of epochs, which depends on the chosen budget."""
    rates: tuple[str, ...]
    share: float
    """Share of the budget."""
    epochs: float
    """Passes over the data at a cost of one full training; a budget's cost times as many at that budget."""
    step: float
    """Cost of a step over that of the full model."""
    factors: tuple[float, ...]
    """Learning rate over its peak at the stage's start and end, and at the peak if that lies between."""


@dataclass(frozen=True)
class SchedulePayload:
    """A schedule that can be shown: its settings, bars, table and file."""

    id: str
    kind: Kind
    budget: str
    title: str
    settings: str
    """Learning rate as text."""
    other_settings: str
    """Batch size and searched settings of `staging` as text."""
    result: Result
    when_clicked: str
    """Sentence for a reader who clicked one of its runs; `{run}` stands for the run."""
    file_name: str
    learning_rate: float
    batch_size: int
    bars: dict[str, list[Any]]
    """Arrays of plotly's bar trace."""
    y: tuple[str, ...]
    """Axis of each bar."""
    columns: tuple[str, ...]
    """Titles of the table's columns."""
    stages: tuple[StagePayload, ...]
    seeds: int
    test: tuple[float | None, float | None, float | None]
    """Mean test score and its interval."""
    validation: float
    factors: tuple[float, ...] | None
    """Learning rate over its peak at the chooser's `times`; `None` for the chooser's own `factors`."""
    file: dict[str, Any]
    """Content of the schedule file."""


@dataclass(frozen=True)
class PositionPayload:
    """A position of the budget slider."""

    label: str
    """The budget as text."""
    argument: str
    """The budget as an argument on the command line, quoted if needed."""
    cost: float
    """Fraction of full training."""
    measured: bool
    schedule: str
    """Id of the schedule to use."""
    near: str
    """The measured budget that the schedule is the best of."""
    x: dict[str, float]
    """Cost in every unit, by the unit's key."""
    expected: dict[Kind, tuple[float | None, float | None, float | None]]
    """Expected mean test score and its interval."""
    result: dict[Kind, Result]
    """The same as text."""
    basis: str
    """What the numbers are based on."""
    cost_text: str
    other_costs: str
    """Cost in the other units, as text."""
    prediction: dict[str, Any] | None = None
    """What a downloaded schedule file says of this budget, if it was not trained: fields of `PredictedAccuracy`."""


@dataclass(frozen=True)
class ChooserPayload:
    """Everything that the budget slider shows."""

    schedules: dict[str, SchedulePayload]
    """By candidate id."""
    positions: tuple[PositionPayload, ...]
    """From the cheapest."""
    start: int
    """The position shown first."""
    times: tuple[float, ...]
    """Budget times at which the learning rate is drawn."""
    factors: tuple[float, ...]
    """Learning rate over its peak at `times`."""
    rerun: str
    """Text for a run that repeats a candidate, with `{run}` and `{candidate}`."""
    command: str
    """Command line that trains with a schedule, with `{file}` and `{budget}`."""


@dataclass(frozen=True)
class WatchPayload:
    """How an open page follows its sweep: it reloads when a file beside it has another stamp."""

    seconds: int
    """Time between two checks."""
    stamp: str = field(default_factory=lambda: str(time.time_ns()))


@dataclass(frozen=True)
class PagePayload:
    """The payload of a page."""

    name: str
    units: tuple[UnitPayload, ...]
    figures: tuple[FigurePayload, ...]
    """In the order of drawing."""
    chooser: ChooserPayload | None = None
    space: str | None = None
    """The search space file, as text to download."""
    watch: WatchPayload | None = None
    dark: dict[str, str] = field(default_factory=lambda: palette.DARK)
    """The dark color for every light one."""
    marker_color: str = palette.INK
    """Color of the line at the chosen budget."""
    version: int = PAYLOAD_VERSION

    def to_json(self) -> str:
        """The payload as JSON.

        Raises:
            ValueError: for a number that is not finite.
        """
        return json.dumps(asdict(self), allow_nan=False)


def units_payload(units: list[CostUnit] | tuple[CostUnit, ...]) -> tuple[UnitPayload, ...]:
    """What the script needs of the units of cost."""
    return tuple(UnitPayload(unit.key, unit.axis) for unit in units)


def figure_payload(name: str, figure: go.Figure | Mapping[str, go.Figure], *, lazy: bool = False) -> FigurePayload:
    """A figure, or one for each budget."""
    if isinstance(figure, go.Figure):
        return FigurePayload(name, lazy, figure=figure_json(figure))
    return FigurePayload(name, lazy, by_budget={budget: figure_json(each) for budget, each in figure.items()})


def figure_json(figure: go.Figure) -> PlotlyJson:
    """A figure as plain data."""
    data: PlotlyJson = json.loads(figure.to_json())
    return data

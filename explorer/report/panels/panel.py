"""What a panel of the page is: where its data comes from, how it is drawn, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import plotly.graph_objects as go

from explorer.errors import InvalidInput
from explorer.report.loaded_sweep import LoadedSweep

Data = TypeVar("Data")


@dataclass(frozen=True)
class Section:
    """A part of the page: panels under one heading."""

    name: str
    title: str = ""
    """Heading; empty for none."""
    folded: bool = False
    """True hides the panels until the reader opens the section; their figures are drawn then."""


SECTIONS = (
    Section("frontier"),
    Section("choose", "Choose a budget"),
    Section("budgets", "Every budget in numbers"),
    Section("settings", "What matters"),
    Section("failures", "Failed trials"),
    Section("task", "What was trained on"),
    Section("sweep", "Diagnostics", folded=True),
    Section("reproduce", "Reproduce it"),
)
"""The parts of the page, from the top."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    is_number: bool = False
    """Aligns the column to the right."""
    wraps: bool = False
    """Lets long text continue on further lines."""


@dataclass(frozen=True)
class Table:
    """A table of text."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    highlighted: frozenset[int] = frozenset()
    """Numbers of the rows to emphasize, from 0."""


@dataclass(frozen=True, kw_only=True)
class Panel(Generic[Data]):
    """One panel of the page: a function from a sweep to its data, and functions from the data to what is shown.

    Raises:
        InvalidInput: for a name that is not made of lower-case letters, digits and dashes, or an unknown section.
    """

    name: str
    """Unique name; also the id of the figure's element in the page."""
    section: str
    """Name of the section; panels of one section appear in the order of the list of panels."""
    title: str = ""
    """Heading above the panel; empty for none."""
    note: str | Callable[[Data], str] = ""
    """How to read the panel, in a few sentences."""
    data: Callable[[LoadedSweep], Data | None]
    """The numbers to show; `None` leaves the panel out."""
    figure: Callable[[Data], go.Figure | Mapping[str, go.Figure]] | None = None
    """Draws the data: one figure, or one for each budget (by its text, `25%`), of which the page shows the chosen budget's.

    Use the colors of `explorer.report.palette`: a dark page replaces each by its dark counterpart.
    """
    label: str = ""
    """What the figure shows, for readers who do not see it."""
    table: Callable[[Data], Table] | None = None
    """A table, below the figure if there is one."""
    template: str | None = None
    """Template of a panel with controls of its own, in `explorer/report/templates`; replaces note, figure and table."""
    half_width: bool = False
    """True lets the panel share its row with the next one of half width."""
    lazy: bool = False
    """True draws the figure only when the reader scrolls near it: for figures that take long to draw."""
    missing: str = ""
    """Shown in place of the panel if there is no data; empty leaves the panel out."""

    @property
    def is_folded(self) -> bool:
        """True if the panel is in a section that the reader opens."""
        return any(section.folded for section in SECTIONS if section.name == self.section)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise InvalidInput("panel.name", self.name, "must be made of lower-case letters, digits and dashes")
        names = [section.name for section in SECTIONS]
        if self.section not in names:
            raise InvalidInput(f"panel {self.name}: section", self.section, f"must be one of {', '.join(names)}")

"""The panels of the page, in one list. A panel of your own is registered, or given to `write_report`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from explorer.errors import InvalidInput
from explorer.references import load_reference
from explorer.report.panels import (
    budgets,
    chooser,
    equal_time,
    facts,
    failures,
    frontier,
    importance,
    learning,
    parallel,
    ranks,
    spending,
    task,
    ternary,
    timeline,
    transfer,
    workers,
)
from explorer.report.panels.panel import SECTIONS, Column, Panel, Section, Table

PANELS: list[Panel[Any]] = [
    frontier.PANEL,
    chooser.PANEL,
    budgets.PANEL,
    equal_time.PANEL,
    timeline.PANEL,
    importance.PANEL,
    ternary.PANEL,
    learning.PANEL,
    failures.PANEL,
    task.PANEL,
    spending.HYPERVOLUME_PANEL,
    spending.SHARING_PANEL,
    ranks.PANEL,
    transfer.PANEL,
    workers.PANEL,
    parallel.PANEL,
    facts.PANEL,
]
"""In the order of the page. To add a panel to the package, write its module and add it here."""


def register_panel(panel: Panel[Any]) -> Panel[Any]:
    """Add a panel to every page that this process writes, at the end of its section.

    Raises:
        InvalidInput: when there is a panel, or another element of the page, of that name.
    """
    PANELS[:] = with_panels([panel])
    return panel


@cache
def page_ids() -> frozenset[str]:
    """Ids of elements of the page that are not of panels."""
    templates = sorted((Path(__file__).parents[1] / "templates").glob("*.html"))
    return frozenset(found for path in templates for found in re.findall(r'\bid="([a-z-]+)"', path.read_text(encoding="utf-8")))


def with_panels(extra: Sequence[Panel[Any] | str]) -> list[Panel[Any]]:
    """The list of panels followed by others, given as themselves or as `package.module:name`.

    Raises:
        InvalidInput: when a reference does not lead to a panel, or two panels have the same name, or one has that of another
            element of the page.
    """
    panels = list(PANELS)
    for given in extra:
        panel = load_reference(given, "panel") if isinstance(given, str) else given
        if not isinstance(panel, Panel):
            raise InvalidInput("panel", given, f"must be a Panel, not {type(panel).__name__}")
        if panel.name in page_ids() or panel.name.startswith(("panel-", "section-")):
            raise InvalidInput("panel", panel.name, "is the id of another element of the page; choose another name")
        if any(panel.name == other.name for other in panels):
            raise InvalidInput("panel", panel.name, "there is a panel of that name already")
        panels.append(panel)
    return panels


__all__ = ["PANELS", "SECTIONS", "Column", "Panel", "Section", "Table", "register_panel", "with_panels"]

"""Panels: the registry, and one that lives outside the package."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from explorer import InvalidInput
from explorer.report import panels
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import page, page_payload, panel_contents, write_report
from explorer.report.panels import PANELS, Panel, register_panel, with_panels

EXAMPLES = Path("examples/extending").resolve()
COUNT = Panel(
    name="count",
    section="sweep",
    title="Number of trials",
    data=lambda sweep: len(sweep.trials),
    note=lambda count: f"There are {count} trials <i>in all</i>.",
)


@pytest.fixture
def sweep(real_ledger):
    return LoadedSweep.read(real_ledger)


def test_the_example_outside_the_package_is_on_the_page(real_ledger, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report_panel", real_ledger.location, str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "report_panel.py"), run_name="__main__")
    html = Path(capsys.readouterr().out.strip()).read_text()
    assert "<h3>Training times</h3>" in html
    assert 'class="figure" id="training-times"' in html
    assert "median seconds" in html


def test_a_panel_given_by_its_reference_has_its_figure_in_the_payload(sweep, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    contents = panel_contents(sweep, with_panels(["report_panel:PANEL"]))
    figure = next(each.figure for each in page_payload(sweep, contents).figures if each.name == "training-times")
    assert [trace["name"] for trace in figure["data"]] == ["staged", "baseline"]
    assert len(contents[-1].table.rows) == 4  # two budgets, two kinds


def test_a_registered_panel_is_on_every_page(sweep, monkeypatch):
    monkeypatch.setattr(panels, "PANELS", list(PANELS))
    assert register_panel(COUNT) is COUNT
    html = page(sweep)
    assert f"There are {len(sweep.trials)} trials &lt;i&gt;in all&lt;/i&gt;." in html
    assert html.index('id="panel-parallel"') < html.index('id="panel-count"') < html.index('id="section-reproduce"')


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (PANELS[0], "panel: 'frontier': there is a panel of that name already"),
        (replace(COUNT, name="cost"), "panel: 'cost': is the id of another element of the page"),
        (replace(COUNT, name="payload"), "panel: 'payload': is the id of another element of the page"),
        (replace(COUNT, name="panel-budgets"), "panel: 'panel-budgets': is the id of another element of the page"),
        ("os:sep", "panel: 'os:sep': must be a Panel, not str"),
        ("no_such_module:PANEL", "panel: 'no_such_module:PANEL': .*cannot be imported"),
    ],
)
def test_what_is_not_a_new_panel_is_refused(real_ledger, tmp_path, panel, message):
    with pytest.raises(InvalidInput, match=message):
        write_report(real_ledger, tmp_path, panels=[panel])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Two words"}, "panel.name: 'Two words': must be made of lower-case letters"),
        ({"section": "end"}, "panel count: section: 'end': must be one of frontier, choose, budgets"),
    ],
)
def test_names_and_sections_of_panels_are_checked(change, message):
    with pytest.raises(InvalidInput, match=message):
        replace(COUNT, **change)

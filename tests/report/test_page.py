import re

import pandas as pd
import pytest

from explorer import Budget, InvalidInput, Rates, Schedule, SearchSpace
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, StageOutcome
from explorer.report.compare import write_comparison
from explorer.report.frontier_data import frontier_data
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import write_report
from explorer.report.panels import PANELS, SECTIONS
from explorer.report.panels.facts import facts
from explorer.report.panels.spending import spending_data
from explorer.report.panels.task import full_training_time
from explorer.report.panels.timeline import timeline_data
from explorer.report.panels.workers import workers_data
from explorer.report.tiles import tiles
from explorer.spec.metric import BUILT_IN, SecondMetric
from tests.ledger.test_ledger import make_header, make_record


def sweep(*points):
    """Records from (kind, budget, test accuracy)."""
    return trials_frame(
        [make_record(f"{kind}-{budget}", kind=kind, budget=budget, validation=test, test=test) for kind, budget, test in points]
    )


def test_the_frontier_is_over_both_kinds():
    data = frontier_data(
        sweep(("staged", "25%", 0.93), ("baseline", "25%", 0.6), ("staged", "100%", 0.95), ("baseline", "100%", 0.92))
    )
    assert data.curves.on_frontier.tolist() == [True, False, True, False]


def test_timeline_rows():
    whole = {"steps": 1, "step_flops": 1, "seconds": 1.0, "mean_loss": 1.0}
    stages = (
        StageOutcome(rates=Rates(heads=0.5, mlp=0.25), flops=40, **whole),
        StageOutcome(rates=Rates(), flops=60, **whole),
    )
    data = timeline_data(pd.DataFrame({"budget": ["25%"], "stages": [stages]}))
    assert data.to_numpy().tolist() == [
        ["25%", "heads", 0, 0.4, 0.5],
        ["25%", "mlp", 0, 0.4, 0.25],
        ["25%", "tokens", 0, 0.4, 1.0],
        ["25%", "heads", 0.4, 1.0, 1.0],
        ["25%", "mlp", 0.4, 1.0, 1.0],
        ["25%", "tokens", 0.4, 1.0, 1.0],
    ]


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    return ledger


def test_the_page_is_self_contained_and_escapes_text(tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header().model_copy(update={"git_commit": "<b>commit</b>"}))
    ledger.append(make_record())
    ledger.append(make_record("bad", status="failed", outcome=None, reason="<script>alert(1)</script>"))
    page = write_report(ledger, tmp_path / "out").page.read_text()
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>commit</b>" not in page
    assert "&lt;b&gt;commit&lt;/b&gt;" in page
    assert 'src="http' not in page
    assert "For another task this accuracy is not a prediction" in page


def test_every_panel_and_section_is_on_the_page(real_ledger, tmp_path):
    page = write_report(real_ledger, tmp_path).page.read_text()
    places = [page.find(f'id="panel-{panel.name}"') for panel in PANELS]
    left_out = {panel.name for panel, place in zip(PANELS, places, strict=True) if place < 0}
    # No trial failed, one process trained all of them, there is no proxy, and the search tried too little twice to compare ranks
    # or to share.
    never = {"failures", "workers", "transfer"}
    assert never <= left_out <= never | {"ranks", "sharing"}
    places = [place for place in places if place >= 0]
    in_order = sorted(PANELS, key=lambda panel: [section.name for section in SECTIONS].index(panel.section))
    assert [panel.name for panel in in_order] == [panel.name for panel in PANELS]  # the list is in the order of the page
    assert places == sorted(places)


def test_a_panel_without_data_says_so_or_is_left_out(ledger, tmp_path):
    ledger.append(make_record())
    page = write_report(ledger, tmp_path / "out").page.read_text()
    assert "Times cannot be compared" in page
    for name in ("importance", "failures", "ranks", "sharing", "hypervolume", "workers", "parallel"):
        assert f'id="panel-{name}"' not in page
    assert 'id="section-sweep"' not in page  # no diagnostics


@pytest.mark.parametrize("device", ["GPU", "device"])
def test_budgets_in_time_are_compared_whichever_device_they_name(tmp_path, device):
    header = make_header("hours")
    budgets = [f"{hours} {device}-hours" for hours in (1, 2, 4)]
    content = header.space.model_dump(mode="json") | {"currency": "device_seconds", "budgets": budgets}
    ledger = Ledger(tmp_path / "hours")
    ledger.create(header.model_copy(update={"space": SearchSpace.model_validate({**content, "resources": {"gpus": 1}})}))
    for number, budget in enumerate(budgets):
        for kind, best in (("staged", 0.8), ("baseline", 0.5)):
            for seed in range(4):
                test = best + 0.04 * number + 0.001 * seed
                name = f"{number}-{kind}"
                repeat = {} if seed == 0 else {"repeat_of": name}
                record = make_record(f"{name}{seed or ''}", kind=kind, validation=test, test=test, seed=seed, **repeat)
                seconds = dict.fromkeys(("planned_seconds", "charged_seconds"), 3600.0 * 2**number)
                costs = {"currency": "device_seconds", "full_seconds": 4 * 3600.0, **seconds}
                changes = {
                    "trial": record.trial.model_copy(update={"budget": Budget.parse(budget)}),
                    "outcome": record.outcome.model_copy(update=costs),
                }
                ledger.append(record.model_copy(update=changes))
    page = write_report(ledger, tmp_path / "out").page.read_text()
    assert "ahead of baseline" in page
    assert ">not compared<" not in page
    trials = trials_frame(ledger.records(), ledger.header())
    for asked in ("2 GPU-hours", "120 device-minutes"):
        assert best_schedule(trials, ledger.header(), Budget.parse(asked)).provenance.trial == "1-staged"


def test_the_baseline_has_one_name(real_ledger, tmp_path):
    page = write_report(real_ledger, tmp_path).page.read_text().partition("<script")[0]
    assert "baseline" in page
    for old in ("full-model", "finding out", "on no frontier", "rate, batch", "confirm"):
        assert old not in page


def test_a_training_that_both_kinds_share_is_charged_once(ledger, tmp_path):
    ledger.append(make_record("a", budget="50%", finished=60.0))
    shared = make_record("b", kind="baseline", budget="50%", shared_with="a", started=60.0, finished=60.0)
    outcome = shared.outcome.model_copy(update={"executed_flops": 0, "executed_seconds": 0.0})
    ledger.append(shared.model_copy(update={"outcome": outcome}))
    sweep = LoadedSweep.read(ledger)
    search_cost = next(tile for tile in tiles(sweep) if tile.name == "search cost")
    assert search_cost.value == "0.5 full trainings"
    assert search_cost.remark == "2 trials (1 trained once for both kinds); all planned training was executed"
    spending = spending_data(sweep.trials)
    assert spending[["runs", "spent", "planned"]].to_numpy().tolist() == [[1, 0.5, 0.5], [1, 0.5, 0.5]]
    assert spending.baseline.iloc[-1] == spending.staged.iloc[-1] > 0  # the accuracy counts for both kinds
    assert workers_data(sweep.trials).id.tolist() == ["a"]  # no bar without length
    assert "2 workers" not in facts(sweep.header, sweep.trials)["training"]


def test_mixed_versions_are_shown(ledger):
    old, new = {"torch": "2.14.0", "timm": "1.0.31"}, {"torch": "2.15.0", "timm": "1.0.31"}
    for number, versions in enumerate((old, new, new, {})):
        ledger.append(make_record(f"trial-{number}", versions=versions))
    trials = LoadedSweep.read(ledger).trials
    shown = facts(ledger.header(), trials)["mixed versions"]
    assert shown == "2 trials with torch 2.15.0, timm 1.0.31; 1 trials with torch 2.14.0, timm 1.0.31"
    assert "mixed versions" not in facts(ledger.header(), trials[trials.id != "trial-0"])


def test_files_beside_the_page(ledger, tmp_path):
    ledger.append(make_record("a", budget="6.25%", validation=0.9, test=0.8))
    ledger.append(make_record("b", budget="6.25%", kind="baseline", validation=0.7, test=0.6))
    written = write_report(ledger, tmp_path / "out")
    table = pd.read_csv(written.table)
    assert table[["id", "kind", "cost", "test_mean", "on_frontier"]].to_numpy().tolist() == [
        ["a", "staged", 0.0625, 0.8, True],
        ["b", "baseline", 0.0625, 0.6, False],
    ]
    assert list(written.schedules) == ["6.25%"]
    saved = Schedule.load(tmp_path / "out" / "schedules" / "6.25pct.json")
    assert (saved.provenance.trial, saved.provenance.test) == ("a", 0.8)


def compared(tmp_path, *second_metrics):
    """The cells of the common table of sweeps with these second metrics, the titles first."""
    sweeps = []
    for number, also in enumerate(second_metrics):
        ledger = Ledger(tmp_path / f"sweep-{number}")
        ledger.create(make_header(f"sweep-{number}"))
        record = make_record(f"s{number}")
        ledger.append(record.model_copy(update={"outcome": record.outcome.model_copy(update={"also": also})}))
        sweeps.append(ledger)
    html = write_comparison(sweeps, tmp_path / "out").read_text().partition("Every budget in numbers")[2]
    lines = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    return [[re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line, re.DOTALL)] for line in lines][:3]


def test_sweeps_with_other_second_metrics_are_compared_in_columns_of_their_own(tmp_path):
    f1, auc = (SecondMetric(metric=BUILT_IN[name], validation=0.7, test=value) for name, value in (("f1", 0.71), ("auc", 0.64)))
    for name, sweeps, columns in (
        ("with-first", (f1, None), {"test F1": ("71.0%", "")}),
        ("without-first", (None, f1), {"test F1": ("", "71.0%")}),
        ("both", (f1, auc), {"test F1": ("71.0%", ""), "test AUC": ("", "64.0%")}),
    ):
        titles, *cells = compared(tmp_path / name, *sweeps)
        for row in cells:
            assert len(row) == len(titles)
            assert row[titles.index("seconds")] == "1.0"
        for title, values in columns.items():
            assert tuple(row[titles.index(title)] for row in cells) == values


def test_a_lost_trial_is_no_device_and_no_worker(ledger):
    ledger.append(make_record("a", worker="n1:1", device="NVIDIA H100"))
    lost = {"status": "failed", "reason": "lost", "failure": "lost", "outcome": None}
    ledger.append(make_record("b", **lost, worker="", device="unknown"))
    sweep = LoadedSweep.read(ledger)
    assert facts(sweep.header, sweep.all_trials)["training"].endswith("device-minutes on NVIDIA H100, 1 worker")


def test_long_times_are_plain_numbers(ledger):
    for number, seconds in enumerate((50.0, 5000.0, 180_000.0)):
        record = make_record(f"b{number}", kind="baseline", budget="100%")
        outcome = record.outcome.model_copy(update={"train_seconds": seconds})
        trials = trials_frame([record.model_copy(update={"outcome": outcome})])
        text = ("50 seconds", "83.3 minutes", "50 hours")[number]
        assert full_training_time(trials).startswith(f"{text} on ")


def test_another_price_than_that_of_budgets_in_money_is_refused(ledger):
    ledger.append(make_record("a"))
    header = ledger.header()
    space = header.space.model_copy(update={"budgets": (Budget.parse("$10"),), "price": 2.0, "currency": "device_seconds"})
    ledger.create(header.model_copy(update={"space": space}))
    with pytest.raises(InvalidInput, match=r"price: 4\.0: the budgets of the sweep are money, at 2 for a device-hour"):
        LoadedSweep.read(ledger, price=4.0)


def test_nothing_finished_is_an_error(ledger, tmp_path):
    ledger.append(make_record("bad", status="failed", outcome=None, reason="x"))
    with pytest.raises(InvalidInput, match=r"no finished trial yet \(1 failed\)"):
        write_report(ledger, tmp_path / "out")

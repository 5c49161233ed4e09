import pandas as pd
import pytest

from explorer import InvalidInput, Rates, Schedule
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, StageOutcome
from explorer.report.frontier_panel import frontier_data
from explorer.report.page import write_report
from explorer.report.timeline_panel import timeline_data
from tests.ledger.test_ledger import make_header, make_record


def sweep(*points):
    """Records from (kind, budget, test accuracy)."""
    return trials_frame(
        [make_record(f"{kind}-{budget}", kind=kind, budget=budget, validation=test, test=test) for kind, budget, test in points]
    )


def test_the_headline_when_staging_matches_full_training_for_less():
    data = frontier_data(
        sweep(("staged", "25%", 0.93), ("baseline", "25%", 0.6), ("staged", "100%", 0.95), ("baseline", "100%", 0.92))
    )
    assert data.headline == (
        "Staging matches full training (92.0% test accuracy) at 25% or less of its cost (one seed each, no interval)."
    )
    assert data.curves.on_frontier.tolist() == [True, False, True, False]


def test_the_headline_when_staging_wins_but_does_not_match():
    data = frontier_data(
        sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6), ("staged", "100%", 0.9), ("baseline", "100%", 0.92))
    )
    assert data.headline.startswith("Staging helps most at 25% of full training: 80.0% against 60.0%")
    assert "but does not match full training (92.0%) below its cost; it wins at 1 of 2 budgets" in data.headline


def test_the_headline_when_staging_loses():
    data = frontier_data(sweep(("staged", "25%", 0.5), ("baseline", "25%", 0.6)))
    assert data.headline.startswith("At no measured budget does staging help")


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
    ledger.create(make_header("<b>sweep</b>"))
    return ledger


def test_the_page_is_self_contained_and_escapes_text(ledger, tmp_path):
    ledger.append(make_record())
    ledger.append(make_record("bad", status="failed", outcome=None, reason="<script>alert(1)</script>"))
    written = write_report(ledger, tmp_path / "out")
    page = written.page.read_text()
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>sweep</b>" not in page
    assert 'src="http' not in page
    assert "On another task this accuracy is no prediction" in page


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
    assert (saved.provenance.trial, saved.provenance.test_accuracy) == ("a", 0.8)


def test_nothing_finished_is_an_error(ledger, tmp_path):
    ledger.append(make_record("bad", status="failed", outcome=None, reason="x"))
    with pytest.raises(InvalidInput, match=r"no finished trial yet \(1 failed\)"):
        write_report(ledger, tmp_path / "out")

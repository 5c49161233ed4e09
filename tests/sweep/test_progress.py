"""What the terminal shows of a sweep."""

from explorer.sweep.progress import SweepProgress
from tests.conftest import quiet
from tests.ledger.test_ledger import make_header, make_record


def test_the_last_table_says_which_numbers_it_shows():
    """The staged trial that was repeated is shown by its fresh seeds, 80 and 84 %, not by the 99 % that it was chosen for."""
    records = [
        make_record("25pct-staged-000", validation=0.99, test=0.98),
        make_record("25pct-staged-000-seed1", validation=0.80, test=0.70, seed=1, repeat_of="25pct-staged-000", finished=2.0),
        make_record("25pct-staged-000-seed2", validation=0.84, test=0.74, seed=2, repeat_of="25pct-staged-000", finished=3.0),
        make_record("25pct-staged-001", outcome=None, status="failed", reason="diverged"),
        make_record("25pct-baseline-000", kind="baseline", validation=0.75, test=0.72),
    ]
    console = quiet()
    progress = SweepProgress(make_header().space, 5, 1, records, console)
    console.print(progress.last_table())
    *text, header, row = console.file.getvalue().splitlines()
    assert " ".join(text).startswith(
        "accuracy of the best trial of each kind, chosen on validation images: the mean over fresh"
    )
    assert "staged validation" in header
    assert row.split() == ["25%", "82.00%", "72.00%", "2", "fresh", "75.00%", "72.00%", "1", "5", "1"]
    console.print(progress.table())
    assert "highest validation accuracy of a single run so far" in console.file.getvalue()


def test_the_last_table_of_a_sweep_without_a_result_is_empty():
    console = quiet()
    failed = make_record("25pct-staged-001", outcome=None, status="failed", reason="diverged")
    console.print(SweepProgress(make_header().space, 4, 1, [failed], console).last_table())
    assert console.file.getvalue().splitlines()[-1].split() == ["25%", *"------", "1", "1"]

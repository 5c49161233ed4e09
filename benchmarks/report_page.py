"""A report of a thousand trials: the time to write and to draw it, over that of a hundred trials in the same run.

Ratios are comparable between machines; a page whose drawing time grows faster than its number of trials is a regression. The
trials are synthetic (tests/report/synthetic.py), nothing is trained, and the page is drawn in headless Chromium. Run it from
the root of the repository.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explorer.ledger import Ledger
from explorer.report.page import write_report
from tests.report.synthetic import fill

FEW_TRIALS, MANY_TRIALS = 100, 1000
LOADS = 5
"""Times that each page is opened; the medians are printed."""


@dataclass(frozen=True)
class Measurement:
    """The report of one ledger."""

    write_seconds: float
    megabytes: float
    ready_seconds: float
    """From opening the page until frontier and schedule are drawn."""
    drawn_seconds: float
    """From opening the page until all panels are drawn."""


def measure(trials: int, folder: Path, browser: Browser) -> Measurement:
    """Write the report of a synthetic ledger and open it."""
    ledger = Ledger(folder / f"{trials}")
    fill(ledger, trials)
    before = time.perf_counter()
    page_file = write_report(ledger, folder / f"report-{trials}").page
    write_seconds = time.perf_counter() - before
    ready, drawn = [], []
    for _ in range(LOADS):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(page_file.as_uri())
        page.wait_for_selector("body[data-drawn=yes]", timeout=600_000)
        marks = dict(page.evaluate("performance.getEntriesByType('mark').map(mark => [mark.name, mark.startTime / 1000])"))
        ready.append(marks["ready"])
        drawn.append(marks["drawn"])
        page.context.close()
    return Measurement(write_seconds, page_file.stat().st_size / 1e6, statistics.median(ready), statistics.median(drawn))


def main() -> None:
    """Measure both sizes and print the larger one with its ratios."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        measure(FEW_TRIALS, Path(folder, "warmup"), browser)  # imports, caches of fonts and of code
        few, many = (measure(trials, Path(folder), browser) for trials in (FEW_TRIALS, MANY_TRIALS))
        browser.close()
    print(
        f"{MANY_TRIALS} trials: written in {many.write_seconds:.1f} s, {many.megabytes:.1f} MB; frontier and schedule drawn "
        f"after {many.ready_seconds:.1f} s, all panels after {many.drawn_seconds:.1f} s (medians of {LOADS} loads)\n"
        f"{MANY_TRIALS} over {FEW_TRIALS} trials: writing {many.write_seconds / few.write_seconds:.2f}, "
        f"frontier and schedule {many.ready_seconds / few.ready_seconds:.2f}, "
        f"all panels {many.drawn_seconds / few.drawn_seconds:.2f}"
    )


if __name__ == "__main__":
    main()

"""Measure a report of 1,000 trials: the time to write it, its size, and the time to draw it in headless Chromium.

The trials are synthetic (tests/report/synthetic.py), and nothing is trained. Run it from the root of the repository.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explorer.ledger import Ledger
from explorer.report.page import write_report
from tests.report.synthetic import fill

TRIALS = 1000
LOADS = 5


def main() -> None:
    """Measure and print the results."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        ledger = Ledger(Path(folder, "large"))
        fill(ledger, TRIALS)
        before = time.perf_counter()
        page_file = write_report(ledger, Path(folder, "report")).page
        writing = time.perf_counter() - before
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ready, drawn = [], []
        for _ in range(LOADS):
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(page_file.as_uri())
            page.wait_for_selector("body[data-drawn=yes]", timeout=60_000)
            marks = page.evaluate("performance.getEntriesByType('mark').map(mark => [mark.name, mark.startTime / 1000])")
            ready.append(dict(marks)["ready"])
            drawn.append(dict(marks)["drawn"])
            page.context.close()
        browser.close()
        size = page_file.stat().st_size / 1e6
    print(
        f"{TRIALS} trials: written in {writing:.1f} s, {size:.1f} MB; frontier and schedule drawn after "
        f"{statistics.median(ready):.1f} s, every panel after {statistics.median(drawn):.1f} s (medians of {LOADS} loads)"
    )


if __name__ == "__main__":
    main()

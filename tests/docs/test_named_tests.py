"""The page that names the tests behind its sentences names tests that exist."""

import re
from pathlib import Path

PAGE = Path("docs/method/what-a-schedule-does.md")


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    defined = {
        name for file in Path("tests").rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert len(named) > 20
    assert named <= defined, sorted(named - defined)

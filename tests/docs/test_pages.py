"""Code of README and docs, run page by page, in order."""

import re
import sys

import pytest

from explorer import cli
from explorer.production.result import RunResult
from explorer.search import step_times
from explorer.training.calibration import SCATTER_VARIABLE
from tests.conftest import TINY_SPACE
from tests.docs.blocks import PAGES, ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of trainers are not ours to mend

EXECUTED = {"docs/tutorial.md": {"sweep", "report", "best", "plan", "train"}, "docs/howto/proxy.md": {"best", "plan", "train"}}
"""Commands that are run too, where the folder has all they need. The sweep of the tutorial is complete: Ray is not started."""
WITH_PYTHON = [page for page in PAGES if page in EXECUTED or any(b.language == "python" and b.run for b in blocks(page))]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_a_page_runs_as_it_is_written(page, folder, namespace, monkeypatch, capsys):
    for block in blocks(page):
        if block.language == "python" and block.run:
            exec(block.code, namespace)
        if block.language == "sh" and block.run:
            for words in block.commands:
                if words[0] == "explorer" and words[1] in EXECUTED.get(page, ()):
                    monkeypatch.setattr(sys, "argv", words)
                    with pytest.raises(SystemExit) as stop:
                        cli.main()
                    assert not stop.value.code, (words, capsys.readouterr())


def test_the_plan_that_the_tutorial_prints_is_that_of_the_kept_report(monkeypatch, capsys):
    (shown,) = [b.text for b in blocks("docs/tutorial.md") if b.language == "text" and "planned" in b.text]
    schedule = str(ROOT / "reports" / "digits" / "schedules" / "20pct.json")
    space = str(ROOT / "reports" / "digits" / "space.yaml")
    monkeypatch.setattr(sys, "argv", ["explorer", "plan", "--schedule", schedule, "--task", space, "--budget", "20%"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()] == [line.split() for line in shown.splitlines()]


def test_what_the_page_says_decides_in_an_hour_runs(tmp_path, monkeypatch, capsys):
    space = TINY_SPACE.replace("batch_size: [16, 32]", "batch_size: [32]")
    space = re.sub(r"rates: .*", "rates: {heads: [0.5, 1], mlp: [0.5, 1], tokens: [0.5, 1]}\n  tied: true", space)
    (tmp_path / "space.yaml").write_text(space)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SCATTER_VARIABLE, "100")
    monkeypatch.setattr(step_times, "SECONDS", 0.2)
    (block,) = [each for each in blocks("docs/worth-it.md") if each.language == "sh"]
    assert [words[1] for words in block.commands] == ["calibrate", "train", "train", "sweep"]
    for words in block.commands:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert not stop.value.code, (words, printed)
        if words[1] == "train":
            assert "test " in printed.out
    results = [RunResult.load(tmp_path / "runs" / f"full-{share}pct") for share in (5, 10)]
    assert results[0].steps < results[1].steps


def test_files_are_included_in_the_form_that_the_site_understands():
    for page in PAGES:
        lines = (ROOT / page).read_text().splitlines()
        assert {line for line in lines if re.match(r"-+ *8 *<", line)} <= {"--8<--"}, page


def test_pages_that_claim_to_run_are_found():
    assert {"README.md", "docs/tutorial.md", "docs/howto/own-loop.md", "docs/howto/proxy.md"} <= set(WITH_PYTHON)
    assert (ROOT / "docs" / "tutorial.md").exists()

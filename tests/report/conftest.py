"""Ledgers for the report's tests: a small real one, and a large synthetic one."""

import shutil

import pytest

from explorer import SearchSpace
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, SweepHeader
from explorer.search.search import Search
from explorer.sweep.trial import run_trial
from explorer.training.task import Task
from tests.conftest import TINY_SPACE, made_once, with_search
from tests.report.synthetic import fill


@pytest.fixture(scope="session")
def real_ledger(tmp_path_factory):
    """A real sweep whose trials ran one after another, without Ray."""

    def sweep(folder):
        (folder / "tiny.yaml").write_text(TINY_SPACE.replace("epochs: 2", "epochs: 1"))
        space = SearchSpace.load(folder / "tiny.yaml")
        space = with_search(space, trials=8, baseline_trials=2, repeat=1, repeat_seeds=2)
        ledger = Ledger(folder / "tiny")
        header = SweepHeader(name="tiny", space=space, created=1.0, versions={"torch": "2"}, hardware="2 CPU cores")
        ledger.create(header.model_copy(update={"inventory": Task(space.task).data.inventory}))
        search = Search(space)
        while len(ledger.records()) < search.planned:
            trial = search.next()
            search.finished(run_trial(trial, space, ledger))

    return Ledger(made_once(tmp_path_factory, "real-sweep", sweep) / "tiny")


@pytest.fixture(scope="session")
def large_ledger(tmp_path_factory):
    """A thousand synthetic trials at five budgets, in real files."""
    ledger = Ledger(tmp_path_factory.mktemp("large") / "large")
    fill(ledger, 1000)
    return ledger


@pytest.fixture
def copied(real_ledger, tmp_path):
    """The real sweep, copied to a folder that a test may write to."""
    shutil.copytree(real_ledger.location, tmp_path / "tiny")
    return Ledger(tmp_path / "tiny")


@pytest.fixture(scope="session")
def real_trials(real_ledger):
    """The real sweep as a table."""
    return trials_frame(real_ledger.records(), real_ledger.header())

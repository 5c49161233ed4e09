"""Real sweeps on real Ray."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import ray
import torch

from explorer import InvalidInput, SearchSpace, Sweep, compile_plan
from explorer.frontier import best_by_budget, trials_frame
from explorer.ledger import Ledger
from explorer.search.search import Search
from explorer.spec.budget import Budget
from explorer.spec.search_settings import RateLevels
from explorer.sweep.trial import run_trial
from explorer.training.loop import train
from explorer.training.task import Task
from tests.conftest import RAY_SWEEP_MARKS, RAY_SWEEP_SECONDS, quiet, with_search

pytestmark = RAY_SWEEP_MARKS


def test_a_sweep_runs_reports_progress_resumes_and_extends(local_ray, space_file, tmp_path):
    space_file.write_text(space_file.read_text().replace("epochs: 2,", "epochs: 2, compile: auto,"))
    space = with_search(SearchSpace.load(space_file), repeat=1, repeat_seeds=1)
    console = quiet()
    sweep = Sweep(space, tmp_path / "sweeps", console=console).run()
    records = sweep.ledger.records()
    assert len(records) == 10
    assert all(record.status == "completed" for record in records)
    for record in records:
        assert record.outcome.executed_flops == (0 if record.shared_with else record.outcome.planned_flops)
        share = Budget.parse(record.trial.budget).amount
        full_step = record.outcome.stages[-1].step_flops
        assert 0 <= share * record.outcome.full_flops - record.outcome.planned_flops <= full_step
    assert {(str(r.trial.budget), r.trial.kind) for r in records} == {
        (b, k) for b in ("25%", "50%") for k in ("staged", "baseline")
    }
    printed = console.file.getvalue()
    assert "10/10" in printed
    assert "min left" in printed
    assert "staged validation" in printed
    assert "the model is not compiled: training takes" in printed
    assert sweep.ledger.compilation() is False

    # The same again: nothing to do, nothing lost.
    again = quiet()
    Sweep(space, tmp_path / "sweeps", console=again).run()
    assert "all 10 trials are in the ledger" in again.file.getvalue()

    # More trials: only they are run.
    more = quiet()
    Sweep(space, tmp_path / "sweeps", trials=3, parallel_trials=1, console=more).run()
    assert "the model is not compiled" not in more.file.getvalue()  # it was chosen when the sweep started
    extended = sweep.ledger.records()
    added = sorted((record for record in extended if record not in records and not record.shared_with), key=lambda r: r.started)
    assert all(one.finished <= other.started for one, other in pairwise(added))
    assert extended[:10] == records
    assert {r.trial.id for r in extended[10:]} >= {"25pct-staged-002", "50pct-staged-002"}

    # Another space under the same name is refused with the field named.
    other = with_search(space, grid=20)
    with pytest.raises(InvalidInput, match=r"search\.grid: 20: the sweep at .* has 10"):
        Sweep(other, tmp_path / "sweeps", console=quiet()).run()

    # The schedule it hands over repeats its accuracy in a plain run, without Ray.
    schedule = sweep.best("50%")
    task = Task(space.task.measured_as(schedule.provenance))
    torch.set_num_threads(1)
    result = train(task, compile_plan(schedule, task, Budget(0.5), task.step_cost), seed=schedule.provenance.seed)
    assert result.validation == schedule.provenance.validation
    assert result.test == schedule.provenance.test
    assert len(best_by_budget(trials_frame(extended))) == 4


@pytest.mark.nightly
def test_a_trial_that_diverges_fails_alone(local_ray, space_file, tmp_path):
    content = SearchSpace.load(space_file).model_dump()
    content["recipe"] |= {"optimizer": "sgd", "learning_rate": 1e-3}
    content["search"] |= {"learning_rate": (1e-3, 1e12), "trials": 6}
    space = SearchSpace.model_validate({**content, "budgets": content["budgets"][:1]})
    sweep = Sweep(space, tmp_path / "sweeps", console=quiet()).run()
    records = sweep.ledger.records()
    assert len(records) == 7
    failed = [r for r in records if r.status == "failed"]
    assert failed
    assert all("diverged: the loss is not finite by step" in r.reason for r in failed)
    assert len(failed) < len(records)


def test_more_than_any_node_has_is_refused(local_ray, space_file, tmp_path):
    space = SearchSpace.load(space_file)
    for name, amount in (("gpus", 1), ("cpus", 999)):
        greedy = SearchSpace.model_validate({**space.model_dump(), "resources": {name: amount}})
        with pytest.raises(
            InvalidInput, match=rf"resources\.{name}: {amount}(\.0)?: a trial needs more than any node has: at most \d+"
        ):
            Sweep(greedy, tmp_path / "sweeps", console=quiet()).run()


def test_a_trial_is_a_plain_function(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    trial = Search(space).next()
    ledger = Ledger(tmp_path / "plain")
    record = run_trial(trial, space, ledger)
    assert ledger.records() == [record]
    assert record.status == "completed"


@pytest.mark.nightly
def test_a_script_joins_a_running_cluster(local_ray, space_file, tmp_path):
    command = [sys.executable, "-m", "explorer", "sweep", str(space_file), "--storage", str(tmp_path), "--address", "auto"]
    space_file.write_text(space_file.read_text().replace("[25%, 50%]", "[25%]").replace("trials: 2", "trials: 1"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=RAY_SWEEP_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Ledger(tmp_path / "tiny").records()) == 2
    assert ray.is_initialized()


@pytest.mark.nightly
def test_trials_of_a_sweep_share_their_prefixes_and_end_as_if_they_did_not(space_file, tmp_path, local_ray):
    rates = RateLevels(heads=(0.5, 1.0), mlp=(0.5, 1.0), tokens=(0.5, 1.0))
    settings = {"stages": 2, "grid": 10, "rates": rates, "tied": True, "learning_rate": (2e-3, 2e-3), "batch_size": (32,)}
    space = with_search(SearchSpace.load(space_file), trials=8, baseline_trials=1, **settings)
    space = SearchSpace.model_validate({**space.model_dump(), "budgets": ["50%"]})
    sweep = Sweep(space, tmp_path, console=quiet()).run()
    outcomes = [(record.trial, record.outcome) for record in sweep.ledger.records()]
    staged = [(trial, outcome) for trial, outcome in outcomes if trial.kind == "staged"]
    assert len(staged) == 8
    assert sum(o.executed_flops for _, o in staged) < 0.9 * sum(o.planned_flops for _, o in staged)
    trained = [pair for pair in staged if pair[1].executed_flops]
    trial, outcome = min(trained, key=lambda pair: pair[1].executed_flops)
    task = Task(space.task.with_settings(trial.learning_rate, trial.batch_size))
    unshared = train(task, compile_plan(trial.schedule, task, Budget(0.5), task.step_cost), seed=trial.seed)
    assert (unshared.validation, unshared.test) == (outcome.validation, outcome.test)
    assert not Path(sweep.location, "stages").exists()  # removed as the sweep ended

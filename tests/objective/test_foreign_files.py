"""Ledgers, schedules and model folders of others, and of earlier releases: names in them are data and are never imported."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from explorer import InvalidInput
from explorer.cli import app
from explorer.ledger import Ledger, Outcome
from explorer.plan import compile_plan
from explorer.production.measured import MeasuredMetric
from explorer.production.model_folder import CARD, MODEL, ModelFolder
from explorer.production.repeated_evaluation import data_for, repeat_evaluation
from explorer.production.result import RunResult
from explorer.production.run import Run, train_to_folder
from explorer.spec.budget import Budget
from explorer.spec.data import DataSpec
from explorer.spec.metric import MetricSpec
from explorer.spec.objective import ObjectiveSpec
from explorer.spec.schedule import Schedule
from explorer.spec.task_file import TaskFile
from explorer.training.task import Task
from tests.conftest import quiet
from tests.ledger.test_ledger import make_header, make_record
from tests.objective.test_losses import SOURCES, task_spec

EVIL = "evil_module_of_somebody:metric"


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """A module on the path that leaves a file when it is imported."""
    trace = tmp_path / "imported"
    (tmp_path / "evil_module_of_somebody.py").write_text(
        f"open({str(trace)!r}, 'w').close()\ndef metric(outputs, targets):\n    return 0.5\nmetric.direction = 'maximize'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield trace
    sys.modules.pop("evil_module_of_somebody", None)


@pytest.fixture
def sent_ledger(tmp_path) -> Ledger:
    """A finished sweep that names code in loss, metric and second metric, and whose metric says what it is."""
    ledger = Ledger(tmp_path / "sweeps" / "sent")
    metric = MetricSpec(name=EVIL, label="metric", direction="minimize", unit="years")
    header = make_header("sent")
    objective = ObjectiveSpec(loss=EVIL, metric=EVIL, also=EVIL, also_options={"x": 1})
    task = header.space.task.model_copy(update={"objective": objective})
    space = header.space.model_copy(update={"task": task})
    ledger.create(header.model_copy(update={"space": space, "metric": metric}))
    for number, (kind, value) in enumerate((("staged", 3.5), ("staged", 2.5), ("baseline", 4.0))):
        record = make_record(f"25pct-{kind}-{number:03d}", kind=kind, budget="25%")
        outcome = record.outcome.model_copy(update={"metric": metric, "validation": value, "test": value + 0.5})
        ledger.append(record.model_copy(update={"outcome": outcome}))
    return ledger


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_ledger_of_somebody_opens_without_importing_what_it_names(sent_ledger, evil_module, tmp_path):
    storage = tmp_path / "sweeps"
    best = run("best", "sent", "--budget", "25%", "--storage", storage, "--out", tmp_path / "best.json")
    assert best.exit_code == 0, best.output
    assert "validation 2.5000 years" in " ".join(best.output.split())  # the smaller one
    schedule = Schedule.load(tmp_path / "best.json")
    assert schedule.provenance.validation == 2.5
    assert schedule.provenance.task.objective.metric == EVIL
    report = run("report", "sent", "--storage", storage, "--out", tmp_path / "report")
    assert report.exit_code == 0, report.output
    assert run("status", "sent", "--storage", storage).exit_code == 0
    listed = run("schedules", "--storage", storage)
    assert "3.0000 years" in listed.output
    planned = run("plan", "--schedule", tmp_path / "best.json", "--task", digits_task(tmp_path), "--budget", "25%")
    assert planned.exit_code == 0, planned.output
    assert not evil_module.exists()


def digits_task(folder: Path) -> Path:
    """The user's own task, with the default objective."""
    spec = task_spec("digits")
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(TaskFile(task=spec).model_dump(mode="json")))
    return path


def test_a_task_of_the_users_own_is_what_names_code(evil_module):
    objective = {"loss": "huber", "metric": EVIL}
    assert Task(task_spec(**objective)).objective.metric.name == EVIL
    assert evil_module.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a production run of a regression."""
    spec = task_spec(loss="huber", metric="mae", unit="lm", also="r2", recipe={"epochs": 2})
    task, out = Task(spec), tmp_path_factory.mktemp("run")
    plan = compile_plan(Schedule.full_model(), task, Budget(1.0), task.step_cost)
    train_to_folder(Run(task=spec, plan=plan, seed=0, threads=1, device="cpu", out=out), quiet())
    return out


def data_of() -> DataSpec:
    return task_spec().data


def evaluated(folder: Path, objective: ObjectiveSpec | None = None):
    opened = ModelFolder(folder)
    return repeat_evaluation(opened, data_for(opened, data_of()), objective)


def test_a_production_run_has_its_metric_in_result_card_and_evaluation(trained):
    result = RunResult.load(trained)
    assert (result.metric.name, result.metric.unit, result.also.metric.name) == ("mae", "lm", "r2")
    card = (trained / MODEL / CARD).read_text()
    assert f"| test | 80 | {result.test:.4f} lm |" in card
    assert "Of the mean absolute error, lower values are better." in card
    assert "accuracy" not in card
    assert MeasuredMetric.in_card(trained / MODEL / CARD).value == result.test
    again = evaluated(trained / MODEL)
    assert again.lines[0].startswith(f"test mean absolute error {result.test:.6f}: 80 images, on the CPU")
    assert again.lines[-1] == "agrees exactly with the model card"
    by_task = evaluated(trained / MODEL, ObjectiveSpec(loss="huber", metric="r2"))
    assert by_task.measured.value == pytest.approx(result.also.test)
    assert by_task.lines[-1] == "not comparable with the model card, which states mae"


def test_a_model_folder_of_somebody_does_not_import_the_metric_of_its_card(trained, evil_module, tmp_path):
    import shutil

    folder = shutil.copytree(trained / MODEL, tmp_path / "received")
    card = folder / CARD
    card.write_text(card.read_text().replace("type: mae", f"type: {EVIL}"))
    with pytest.raises(InvalidInput, match=f"'{EVIL}': is a metric outside of this package") as error:
        evaluated(folder)
    assert "give --task" in error.value.allowed
    assert not evil_module.exists()
    named = evaluated(folder, ObjectiveSpec(loss="huber", metric=EVIL))  # by the user's own task
    assert named.measured.value == 0.5
    assert evil_module.exists()


def test_outcomes_results_and_schedules_of_earlier_releases_are_read():
    content = make_record().outcome.model_dump(mode="json")
    assert "metric" not in content
    assert "also" not in content
    earlier = {f"{name}_accuracy" if name in ("validation", "test") else name: value for name, value in content.items()}
    assert Outcome.model_validate(earlier) == make_record().outcome
    path = Path("tests/unchanged/schedules")
    kept = json.loads(sorted(path.glob("*.json"))[0].read_text())
    assert "validation_accuracy" in kept["provenance"]
    provenance = Schedule.load(sorted(path.glob("*.json"))[0]).provenance
    assert provenance.validation == kept["provenance"]["validation_accuracy"]
    assert provenance.expected_test == tuple(kept["provenance"]["expected_test_accuracy"])
    assert provenance.metric.name == "accuracy"


def test_a_header_with_another_metric_of_ones_own_is_refused_when_its_sweep_resumes(tmp_path, monkeypatch):
    from explorer.sweep.header import new_header, open_sweep
    from tests.objective import sources
    from tests.objective.sweeps import space_of

    space = space_of("Brightness", {"loss": "huber", "metric": f"{SOURCES}:worst_error"})
    inventory, ledger = Task(space.task).data.inventory, Ledger(tmp_path / "s")
    open_sweep(ledger, space, inventory, lambda: new_header("s", space, inventory))
    assert ledger.header().metric.label == "worst error"
    open_sweep(ledger, space, inventory, pytest.fail)
    monkeypatch.setattr(sources.worst_error, "direction", "maximize")
    with pytest.raises(
        InvalidInput, match=r"objective.metric: direction: 'maximize': the sweep at .* was started with 'minimize'"
    ):
        open_sweep(ledger, space, inventory, pytest.fail)

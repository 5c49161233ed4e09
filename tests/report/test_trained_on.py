"""What a page and a dry run say of the task, and what a reader must know of the sweep."""

from pathlib import Path

import pytest
import yaml

from explorer import SearchSpace
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, SweepHeader
from explorer.report.notices import notices
from explorer.report.page import write_report
from explorer.report.panels.facts import facts, space_file
from explorer.report.panels.task import evaluation_share, full_training_time
from explorer.report.trained_on import data_settings, subject, trained_on
from explorer.search.forecast import forecast
from explorer.search.machines import this_machine
from explorer.search.search import Search
from explorer.spec.data import DataSpec
from tests.ledger.test_ledger import make_header, make_inventory, make_record

SPACES = sorted(Path("search_spaces").glob("*.yaml"))


def header(**data) -> SweepHeader:
    made = make_header()
    task = made.space.task.model_copy(update={"data": DataSpec(**{"name": "digits", **data})})
    space = made.space.model_copy(update={"task": task})
    return made.model_copy(update={"space": space, "inventory": make_inventory(), "model_parameters": 5_717_416})


def test_the_task_by_its_parts():
    made = header(name="folder", root="~/pets", image_size=64)
    said = trained_on(made)
    assert said["data"] == "folder, ~/pets"  # as the user named it
    assert said["model"].startswith("vit, 5.72 million parameters")
    assert said["images"] == "1,000 training; 50 validation; 100 test"
    assert said["classes"] == "2: cat, dog"
    assert said["image size"] == "64 x 64 pixels"
    assert said["augmentation"] == "none"
    assert trained_on(made.model_copy(update={"augmentation": "flips"}))["augmentation"] == "flips"
    assert subject(made) == "vit on folder, ~/pets: 1,000 training images of 2 classes, 64 x 64 pixels"
    old = made.model_copy(update={"inventory": None})  # of an earlier release
    assert {"images", "classes"}.isdisjoint(trained_on(old))
    assert subject(old) == "vit on folder, ~/pets: 64 x 64 pixels"


def test_time_of_full_training_and_share_of_evaluation_by_hand():
    trials = trials_frame([make_record("a", kind="baseline", budget="50%"), make_record("b", budget="50%", finished=2.0)])
    # The baseline took 1 s for half of the cost; evaluation took .1 s beside each of two trainings of 1 s.
    assert full_training_time(trials).startswith("2 seconds on ")
    assert full_training_time(trials).endswith("(from baselines at 50%)")
    assert evaluation_share(trials) == pytest.approx(0.2 / 2.2)


def test_nothing_of_other_data_sources_is_shown():
    assert data_settings(DataSpec(name="digits")) == {"name": "digits", "image_size": 8}
    assert "fractals" in data_settings(DataSpec(name="fractals", fractals={"classes": 5}))
    assert data_settings(DataSpec(name="folder", root="x", image_size=64)) == {
        "name": "folder",
        "root": "x",
        "image_size": 64,
        "train_split": "train",
        "validation_split": None,
        "test_split": "validation",
    }
    made = header()
    for text in (space_file(made), *facts(made, trials_frame([make_record()])).values()):
        assert "fractals" not in text


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_search_space_file_of_a_page_is_the_same_space(path):
    space = SearchSpace.load(path)
    written = yaml.safe_load(space_file(make_header().model_copy(update={"space": space})))
    assert SearchSpace.model_validate(written) == space
    exhaustive = space.with_search(plan="exhaustive").as_planned()
    assert exhaustive.planned_trials == Search(exhaustive).planned


def test_notices_of_missing_and_failed_trials_mixed_versions_and_overlaps(tmp_path):
    made = header()
    made = made.model_copy(update={"inventory": made.inventory.model_copy(update={"overlaps": {"train and test": 3}})})
    records = [
        make_record("a", versions={"torch": "2.14", "timm": "1"}),
        make_record("b", versions={"torch": "2.15", "timm": "1"}, finished=2.0),
        make_record("bad", status="failed", outcome=None, reason="out of memory", finished=3.0),
    ]
    planned = made.space.planned_trials
    attempt = make_record("b", status="failed", outcome=None, reason="lost", started=0.0, finished=117.0)
    said = notices(made, trials_frame(records, made), [records[2], attempt])
    assert said == [
        f"Not complete: 3 of {planned} planned trials have ended. If the sweep does not run, the same command resumes it.",
        "1 of 3 trials failed; the reasons are listed below.",
        "Failed attempts (2) took workers 2.0 minutes, which are not part of the search cost.",
        "The trials ran with different versions of torch.",
        "3 images are in both train and test.",
    ]
    ledger = Ledger(tmp_path / "s")
    ledger.create(made)
    for record in records:
        ledger.append(record)
    ledger.set_aside(attempt)
    page = write_report(ledger, tmp_path / "out").page.read_text()
    assert all(notice in page for notice in said)
    assert "out of memory" in page


def test_the_forecast_counts_what_happens(real_ledger):
    space, records = real_ledger.header().space, real_ledger.records()
    expected = forecast(space, this_machine(space))
    assert expected.trials == len(records) == space.planned_trials
    assert notices(real_ledger.header(), trials_frame(records)) == []
    for row in expected.budgets:
        at_budget = [record for record in records if str(record.trial.budget) == row.budget]
        kinds = [record.trial.kind for record in at_budget if record.trial.phase == "search"]
        assert (row.staged, row.baseline) == (kinds.count("staged"), kinds.count("baseline"))
        assert row.repeats == len(at_budget) - len(kinds)
    cost = sum(record.outcome.planned_flops / record.outcome.full_flops for record in records)
    assert expected.planned == pytest.approx(cost, rel=0.03)  # each plan ends less than a step short of its budget
    batch_size = space.task.recipe.batch_size
    full_models = [record for record in records if record.trial.kind == "baseline" and record.trial.batch_size == batch_size]
    assert full_models
    steps = {row.budget: row.full_steps for row in expected.budgets}
    assert all(record.outcome.steps == steps[str(record.trial.budget)] for record in full_models)

"""A sweep of another metric, from the search space to the report: the best schedule is the one that its metric says."""

import math

import pytest
from typer.testing import CliRunner

from explorer.cli import app
from explorer.frontier import best_by_budget, candidates, trials_frame
from explorer.frontier.choice import best_schedule
from explorer.frontier.prediction import obstacle
from explorer.ledger import Ledger
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import write_report
from explorer.report.panels.budgets import budgets_table
from explorer.report.tiles import tiles
from explorer.search.reuse import OtherTrainings
from explorer.search.rung import objective_values
from explorer.spec.budget import Budget
from explorer.spec.metric import BUILT_IN
from explorer.spec.schedule import Schedule
from tests.objective.sweeps import space_of, swept

MAE = {"loss": "huber", "metric": "mae", "unit": "lm", "also": "r2"}


@pytest.fixture(scope="module")
def regression(tmp_path_factory) -> Ledger:
    return swept(space_of("Brightness", MAE), tmp_path_factory.mktemp("sweeps") / "other")


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_search_repeats_the_trials_with_the_smallest_error(regression):
    records = regression.records()
    assert all(record.outcome for record in records), [record.reason for record in records]
    for budget in ("50%", "100%"):
        for kind in ("staged", "baseline"):
            of_rung = [r for r in records if (str(r.trial.budget), r.trial.kind) == (budget, kind)]
            searched = [r for r in of_rung if r.trial.phase == "search"]
            best = min(searched, key=lambda record: record.outcome.validation)
            assert {r.trial.repeat_of for r in of_rung if r.trial.phase == "repeat"} == {best.trial.id}


def test_more_training_ends_in_a_smaller_error_and_the_second_metric_agrees(regression):
    outcomes = [record.outcome for record in regression.records()]
    assert {outcome.metric.name for outcome in outcomes} == {"mae"}
    assert {outcome.metric.unit for outcome in outcomes} == {"lm"}
    best, worst = (choose(outcomes, key=lambda outcome: outcome.test) for choose in (min, max))
    assert best.test < 5 < worst.test + 2  # guessing the mean of values from -10 to 10 gives 5
    assert best.also.test > worst.also.test
    assert best.also.metric == BUILT_IN["r2"]


def test_the_best_schedule_is_that_with_the_smaller_mean_error(regression, tmp_path):
    trials = trials_frame(regression.records(), regression.header())
    for budget in ("50%", "100%"):
        at_budget = candidates(trials)
        at_budget = at_budget[(at_budget.budget == budget) & at_budget.repeated]
        errors = dict(zip(at_budget.id, -at_budget.validation_mean, strict=True))
        schedule = best_schedule(trials, regression.header(), Budget.parse(budget))
        provenance = schedule.provenance
        assert provenance.trial == min(errors, key=errors.get)
        assert provenance.mean_validation == pytest.approx(min(errors.values()))
        low, high = provenance.expected_test
        assert 0 <= low <= provenance.mean_test <= high
        assert provenance.metric.label == "mean absolute error"
        again = Schedule.load(schedule.save(tmp_path / "best.json"))
        assert again.provenance == provenance


def test_the_command_best_prints_values_with_their_unit_and_says_that_nothing_is_predicted(regression, tmp_path):
    storage = str(regression.location).rpartition("/")[0]
    printed = run("best", "other", "--budget", "50%", "--storage", storage, "--out", tmp_path / "best.json")
    winners = best_by_budget(trials_frame(regression.records(), regression.header()))
    row = winners[(winners.budget == "50%") & (winners.kind == "staged")].iloc[0]
    assert f"best staged: validation {-row.validation_mean:.4f} lm, test {-row.test_mean:.4f} lm (mean of 2 seeds" in printed
    assert f"{-row.test_high:.4f} lm to {-row.test_low:.4f} lm" in printed
    assert "compared by mean absolute error, of which lower values are better" in printed
    assert "predicted for accuracy alone" in printed
    assert f"test R2 {row.also_test:.4f}" in printed
    refused = CliRunner().invoke(app, ["best", "other", "--budget", "70%", "--storage", storage])
    assert refused.exit_code != 0
    assert "the laws of error against cost are for accuracy" in str(refused.exception)


def test_the_report_is_about_the_metric(regression, tmp_path):
    report = write_report(regression, tmp_path)
    page = report.page.read_text()
    assert "accuracy" not in report.headline
    sweep = LoadedSweep.read(regression)
    winners = sweep.data.winners
    smallest = -winners.test_mean.max()
    (tile,) = [tile for tile in tiles(sweep) if tile.name == "best test mean absolute error"]
    assert tile.value == f"{smallest:.3f} lm"
    assert "<h1>other: mean absolute error against training cost</h1>" in page
    assert "nothing is predicted" in page.lower()
    assert "laws of error against cost are for accuracy, and the metric is mean absolute error" in page
    assert "mean absolute error is no fraction of the images" in page
    rows = report.table.read_text().splitlines()
    columns = rows[0].split(",")
    written = [dict(zip(columns, row.split(","), strict=False)) for row in rows[1:]]
    for row in written:
        assert float(row["test_low"]) <= float(row["test_mean"]) <= float(row["test_high"])
        assert (row["metric"], row["also"]) == ("mae", "r2")
    table = budgets_table(sweep.data)
    titles = [column.title for column in table.columns]
    assert "test R2" in titles
    assert all(len(row) == len(titles) for row in table.rows)
    assert all(row[titles.index("test")].endswith(" lm") for row in table.rows)


def test_the_figure_has_the_values_of_the_metric_with_bars_on_the_right_side(regression):
    from explorer.report.panels.frontier import TraceStyle, frontier_figure

    sweep = LoadedSweep.read(regression)
    figure = frontier_figure([(sweep.data, TraceStyle())], sweep.units)
    assert figure.layout.yaxis.title.text == "test mean absolute error, lower is better"
    curve = next(trace for trace in figure.data if trace.name == "staged schedules")
    row = sweep.data.curves[sweep.data.curves.kind == "staged"].iloc[0]
    assert curve.y[0] == pytest.approx(-row.test_mean)
    assert curve.y[0] > 0
    assert curve.error_y.array[0] == pytest.approx(-row.test_low + row.test_mean)  # above the mean is the larger error
    assert curve.error_y.arrayminus[0] == pytest.approx(row.test_high - row.test_mean)


def test_nothing_is_predicted_and_intervals_are_those_of_the_seeds(regression):
    trials = trials_frame(regression.records(), regression.header())
    assert trials.test_images.isna().all()
    winners = best_by_budget(trials)
    assert "the metric is mean absolute error" in obstacle(winners[winners.kind == "staged"])
    assert (winners.test_high <= 0).all()  # an error is not below 0


def test_results_of_another_metric_are_not_reused(regression):
    header = regression.header()
    versions = header.versions

    def found(space) -> int:
        mine = Ledger(str(regression.location) + "-mine")
        return len(OtherTrainings(mine, space, header.inventory, versions, lambda: "cpu", [regression]))

    # A data source of the user's is foreign code, which is never reused: the digits stand for it.
    assert found(header.space) == 0
    from explorer.spec.task_identity import described_task

    other = space_of("Brightness", {**MAE, "metric": "rmse"})
    assert described_task(other.task, header.inventory) != described_task(header.space.task, header.inventory)


def test_records_of_two_metrics_are_not_compared(regression):
    one, *others = regression.records()
    changed = one.model_copy(update={"outcome": one.outcome.model_copy(update={"metric": BUILT_IN["r2"]})})
    with pytest.raises(ValueError, match=r"results of different metrics: R2 .maximize. and mean absolute error .minimize"):
        trials_frame([changed, *others], regression.header())


def test_a_metric_that_is_nan_in_the_end_is_a_failed_trial_with_its_reason(tmp_path):
    objective = {"loss": "huber", "metric": "tests.objective.sources:late_nan"}
    space = space_of("Brightness", objective, trials=1, repeat=0)
    space = space.model_copy(update={"budgets": space.budgets[:1]})
    records = swept(space, tmp_path / "other").records()
    assert {record.status for record in records} == {"failed"}
    assert all("late nan is nan on the validation images" in record.reason for record in records)


IMBALANCED = {"metric": "balanced_accuracy", "also": "accuracy", "class_weights": "balanced"}


def test_the_imbalanced_case_is_ranked_by_the_metric_and_not_by_top_1(tmp_path):
    """95 % of the images are of one class: a model that always says so has a top-1 accuracy of 95 %."""
    space = space_of("Imbalanced", IMBALANCED, trials=4, repeat=0, first=[])
    space = space.model_copy(update={"budgets": space.budgets[:1]})
    ledger = swept(space, tmp_path / "imbalanced")
    staged = [record.outcome for record in ledger.records() if record.trial.kind == "staged"]
    best = max(staged, key=lambda outcome: outcome.validation)
    trials = trials_frame(ledger.records(), ledger.header())
    assert -math.inf < best_by_budget(trials).set_index("kind").validation_mean["staged"] == best.validation
    top_1 = max(staged, key=lambda outcome: outcome.also.validation)
    assert best.validation >= top_1.validation
    assert best.also.validation <= top_1.also.validation


def test_a_study_is_told_the_balanced_accuracy_where_top_1_has_another_order(regression):
    always_common, useful = (0.5, 0.95), (0.8, 0.7)
    outcome = regression.records()[0].outcome
    told = []
    for balanced, top_1 in (always_common, useful):
        also = outcome.also.model_copy(update={"metric": BUILT_IN["accuracy"], "validation": top_1})
        changes = {"metric": BUILT_IN["balanced_accuracy"], "validation": balanced, "test": balanced, "also": also}
        told.append(objective_values(regression.header().space, outcome.model_copy(update=changes)))
    assert told == [[0.5], [0.8]]

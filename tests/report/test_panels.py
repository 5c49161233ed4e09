"""What the panels show, as numbers; nothing is drawn here."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml

from explorer import Budget, InvalidInput, SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.ledger import Ledger
from explorer.plan import compile_plan
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import write_report
from explorer.report.panels.chooser import chooser_data
from explorer.report.panels.facts import space_file
from explorer.report.panels.importance import importance_data
from explorer.report.panels.learning import learning_data
from explorer.report.panels.parallel import parallel_data, parallel_figure
from explorer.report.panels.spending import spending_data
from explorer.report.panels.ternary import surface_data, ternary_data
from explorer.report.panels.workers import workers_data
from explorer.report.units import amounts_at, cost_units
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.metric import MetricSpec
from explorer.spec.optimizer_choice import OptimizerChoice
from explorer.spec.provenance import PredictedAccuracy
from explorer.spec.schedule import Schedule
from explorer.training.task import Task
from tests.ledger.test_ledger import make_header, make_inventory, make_record
from tests.report.synthetic import fill


def test_units_are_columns_and_money_needs_a_price():
    budgets = pd.DataFrame({"budget": ["50%", "25%"], "budget_amount": [0.5, 0.25], "budget_unit": "fraction"})
    table = pd.DataFrame({"cost": [0.5], "planned_flops": [7e9], "train_seconds": [7200.0]})
    amounts = {unit.key: unit.amounts(table)[0] for unit in cost_units(budgets, price=2.5)}
    assert amounts == {"fraction": 0.5, "flops": 7e9, "seconds": 7200, "money": 5.0}
    assert cost_units(budgets)[0].axis["ticktext"] == ["25%", "50%"]
    assert [unit.key for unit in cost_units(budgets)] == ["fraction", "flops", "seconds"]
    with pytest.raises(InvalidInput, match="price: -1: must be a finite number above 0"):
        cost_units(budgets, price=-1)


def test_seconds_between_measured_budgets():
    curve = pd.DataFrame({"cost": [0.25, 1.0], "train_seconds": [10.0, 40.0]})
    assert amounts_at(curve, "train_seconds", [0.25, 0.5, 1.0]) == pytest.approx([10, 20, 40])
    assert amounts_at(curve, "train_seconds", [0.1, 2.0]) == pytest.approx([4, 80])  # proportional outside of what was measured


def test_importance_finds_the_setting_that_matters(large_ledger):
    trials = trials_frame(large_ledger.records())
    trials = trials[trials.budget == "20%"].copy()
    trials["validation_score"] = 0.9 + 0.02 * np.log10(trials.learning_rate)
    data = importance_data(trials)
    assert data.importance.sum() == pytest.approx(1)
    top = data.loc[data.importance.idxmax()]
    assert (top.setting, top.budget) == ("learning_rate", "20%")
    assert top.importance > 0.8
    assert importance_data(trials.head(5)).empty  # too few to say


@pytest.mark.parametrize(
    "changes",
    [
        [{"lr_schedule": kind} for kind in ("cosine", "linear")],
        [{"staging": {"growth": growth}} for growth in ("copy", "zero")],
        [{"optimizer": OptimizerChoice(name=name, weight_decay=0.05)} for name in ("adamw", "lion")],
    ],
)
def test_settings_that_are_words_are_choices(tmp_path, changes):
    """pandas 3 has a type of its own for them."""
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    for number in range(10):
        record = make_record(f"s{number}", validation=0.5 + 0.01 * number, finished=number + 1)
        settings = {"parameters": {"x": number}, "learning_rate": 1e-3 * (1 + number), **changes[number % 2]}
        ledger.append(record.model_copy(update={"trial": record.trial.model_copy(update=settings)}))
    trials = LoadedSweep.read(ledger).trials
    dimensions = parallel_figure(parallel_data(trials), {}).data[0].dimensions
    assert [set(each["values"]) for each in dimensions if len(each["ticktext"] or ()) == 2] == [{0, 1}]
    assert not importance_data(trials).empty
    assert write_report(ledger, tmp_path / "out").page.exists()


def test_an_error_rate_has_intervals_and_no_prediction(tmp_path):
    """A fraction of the images of which a lower one is better: scores are negative. 20 % of 1,000 images: +- 2.5 points."""
    rate = MetricSpec(name="m:e", label="error rate", direction="minimize", unit="%", low=0, high=1, is_fraction_of_images=True)
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header().model_copy(update={"inventory": make_inventory(1000)}))
    for budget, error in (("10%", 0.3), ("25%", 0.2), ("50%", 0.12)):
        for seed in range(3):
            changes = {"repeat_of": f"{budget}-0"} if seed else {}
            record = make_record(f"{budget}-{seed}", budget=budget, seed=seed, **changes)
            measured = {"metric": rate, "validation": error, "test": error}
            ledger.append(record.model_copy(update={"outcome": record.outcome.model_copy(update=measured)}))
    data = LoadedSweep.read(ledger).data
    row = data.curves[data.curves.budget == "25%"].iloc[0]
    assert rate.interval(row.test_low, row.test_high) == pytest.approx((0.175, 0.225), abs=1e-3)
    assert not data.predicted
    assert write_report(ledger, tmp_path / "out").page.exists()


def test_the_space_file_has_what_was_set_to_nothing():
    """`test_split: null` sets a tenth of the images aside; without it, the split is `validation`."""
    header = make_header()
    content = header.space.model_dump(mode="json")
    content["data"] = {"name": "folder", "root": "x", "image_size": 64, "test_split": None}
    content["objective"] = {"loss_options": {"weight": None}}
    content["recipe"]["clip_grad"] = None
    space = SearchSpace.model_validate(content)
    file = yaml.safe_load(space_file(header.model_copy(update={"space": space})))
    assert SearchSpace.model_validate(file) == space
    assert "test_split" in file["data"]
    assert "validation_split" not in file["data"]  # whose default it is


@pytest.mark.parametrize(("hours", "text"), [(1.0, "GPU-hours"), (0.1, "GPU-seconds")])
def test_times_between_the_budgets_have_two_digits(tmp_path, hours, text):
    ledger = Ledger(tmp_path / "s")
    header = make_header()
    budgets = [Budget(3600 * hours * factor, "device-seconds", "GPU") for factor in (1, 4)]
    resources = header.space.resources.model_copy(update={"gpus": 1})
    changes = {"budgets": tuple(budgets), "currency": "device_seconds", "resources": resources}
    ledger.create(header.model_copy(update={"space": header.space.model_copy(update=changes)}))
    for number, budget in enumerate(budgets):
        record = make_record(f"s{number}", validation=0.5 + 0.1 * number, test=0.5 + 0.1 * number)
        seconds = {"planned_seconds": budget.amount, "charged_seconds": budget.amount, "full_seconds": budgets[1].amount}
        outcome = record.outcome.model_copy(update={"currency": "device_seconds", **seconds, "train_seconds": budget.amount})
        trial = record.trial.model_copy(update={"budget": budget})
        ledger.append(record.model_copy(update={"trial": trial, "outcome": outcome}))
    positions = chooser_data(LoadedSweep.read(ledger)).payload.positions
    labels = [position.label for position in positions if not position.measured]
    assert len(labels) > 10
    for label in labels:
        amount, unit = label.split()
        assert unit == text
        assert float(amount) == float(f"{float(amount):.2g}")


def test_parallel_coordinates_end_with_the_accuracy(real_trials):
    data = parallel_data(real_trials)
    assert data.columns[0] == "budget_amount"
    assert data.columns[-1] == "validation"
    assert len(data) == ((real_trials.kind == "staged") & (real_trials.phase == "search")).sum()
    assert data.filter(like="share").sum(axis=1).to_numpy() == pytest.approx(1)


def test_the_surface_of_a_triangle_is_a_weighted_mean_near_trials(large_ledger):
    table = ternary_data(trials_frame(large_ledger.records()))
    assert table.filter(like="share").sum(axis=1).to_numpy() == pytest.approx(1)
    two = pd.DataFrame({"share 1": [0.2, 0.3], "share 2": [0.2, 0.1], "full share": [0.6, 0.6], "validation": [0.8, 0.9]})
    surface = surface_data(two)
    assert surface.filter(like="share").sum(axis=1).to_numpy() == pytest.approx(1)
    assert surface.validation.between(0.8, 0.9).all()
    middle = surface[(surface["share 1"] - 0.25).abs() + (surface["share 2"] - 0.15).abs() < 0.04]
    assert middle.validation.to_numpy() == pytest.approx(0.85, abs=0.03)
    assert surface["share 1"].max() < 0.6  # nothing far from a trial
    assert ternary_data(trials_frame([make_record()])) is None


def test_spending_by_hand():
    shared = make_record("b", budget="50%", test=0.9, finished=2.0)
    shared = shared.model_copy(update={"outcome": shared.outcome.model_copy(update={"executed_flops": 20_000})})
    records = [
        make_record("a", budget="25%", test=0.8),
        shared,
        make_record("c", kind="baseline", budget="50%", test=0.6, finished=3.0),
    ]
    data = spending_data(trials_frame(records))
    assert data.runs.tolist() == [1, 2, 3]
    assert data.planned.tolist() == pytest.approx([0.25, 0.75, 1.25])
    assert data.spent.tolist() == pytest.approx([0.25, 0.45, 0.95])
    assert data.staged.tolist() == pytest.approx([0.6, 0.65, 0.65])  # .75 * .8; .25 * .8 + .5 * .9
    assert data.baseline.tolist() == pytest.approx([0, 0, 0.3])


def test_long_sweeps_are_sampled_at_three_hundred_runs(large_ledger):
    data = spending_data(trials_frame(large_ledger.records()))
    assert len(data) == 300
    assert data.runs.iloc[-1] == 1000


def test_workers_by_hand():
    records = [
        make_record("a", started=60.0, finished=180.0, worker="x:1"),
        make_record("b", kind="baseline", started=0.0, finished=60.0, worker="y:2"),
        make_record("c", status="failed", outcome=None, reason="<b>", started=200.0, finished=210.0, worker="x:1"),
    ]
    data = workers_data(trials_frame(records))
    assert data[["worker", "id", "what", "start", "minutes"]].to_numpy().tolist() == [
        ["worker 1", "b", "baseline", 0, 1],
        ["worker 2", "a", "staged", 1, 2],
        ["worker 2", "c", "failed", pytest.approx(200 / 60), pytest.approx(10 / 60)],
    ]
    assert data.text.iloc[2] == "c on x:1: &lt;b&gt;"


def test_learning_curves_are_the_segments_losses(real_trials):
    data = learning_data(real_trials, best_by_budget(real_trials))
    run = real_trials[real_trials.status == "completed"].iloc[0]
    segments = data[data.id == run.id]
    assert segments.loss.tolist() == list(run.losses)
    assert 8 <= len(run.losses) <= 10  # the grid's slots, except those that are shorter than a step
    assert segments.time.iloc[-1] == 1
    assert segments.time.is_monotonic_increasing
    assert set(data[data.best].id) == set(best_by_budget(real_trials).id)


def test_learning_curves_are_over_the_budget_time_of_each_segment(real_ledger, real_trials):
    """Slots of the grid that hold no step have no segment: the others must not move to the left."""
    spec = real_ledger.header().space.task
    data = learning_data(real_trials, best_by_budget(real_trials))
    empty_slots = 0
    for record in real_ledger.records():
        trial = record.trial
        task = Task(spec.with_settings(trial.learning_rate, trial.batch_size, trial.staging))
        plan = compile_plan(trial.schedule, task, trial.budget, task.step_cost)
        assert data[data.id == trial.id].time.tolist() == pytest.approx([segment.end_time for segment in plan.segments])
        empty_slots += trial.schedule.grid - len(plan.segments)
    assert empty_slots > 0


def test_learning_curves_by_hand():
    record = make_record()
    outcome = record.outcome.model_copy(update={"losses": (3.0, 2.0, 1.0), "segment_ends": (0.2, 0.7, 1.0)})
    trials = trials_frame([record.model_copy(update={"outcome": outcome})])
    data = learning_data(trials, best_by_budget(trials))
    assert data[["time", "loss"]].to_numpy().tolist() == [[0.2, 3], [0.7, 2], [1, 1]]


def test_the_chooser_offers_budgets_between_the_measured_ones(real_ledger, real_trials):
    chooser = chooser_data(LoadedSweep.read(real_ledger)).payload
    positions = chooser.positions
    assert [position.label for position in positions if position.measured] == ["25%", "50%"]
    assert (positions[0].label, positions[-1].label) == ("25%", "100%")  # predicted up to full training
    costs = [position.cost for position in positions]
    assert costs == sorted(costs)
    assert len(positions) > 15
    near = {position.label: position.near for position in positions}
    assert (near["30%"], near["45%"], near["80%"]) == ("50%", "50%", "50%")  # the next more expensive one, or the last
    texts = {position.label: position for position in positions}
    for label in ("30%", "80%"):
        assert texts[label].basis.startswith(
            "Predicted from 2 trained budgets, by laws of error against cost; not trained here."
        )
        assert texts[label].result["staged"].interval.startswith("predicted, 95 % interval ")
        assert PredictedAccuracy.model_validate(texts[label].prediction).budget == Budget.parse(label)
    assert texts["50%"].prediction is None
    for position in positions:
        for mean, low, high in position.expected.values():
            assert low <= mean <= high
    assert positions[chooser.start].measured
    for name, entry in chooser.schedules.items():
        assert Schedule.from_dict(entry.file).provenance.trial == name
        row = real_trials[real_trials.id == name].iloc[0]
        epochs = sum(stage.epochs for stage in entry.stages) * row.cost
        images = 1152  # of 1,797 digits: what is left of test and validation
        assert epochs == pytest.approx(row.steps * row.batch_size / images, rel=0.03)


def test_a_warmup_of_full_training_takes_another_share_of_each_budget(tmp_path):
    ledger = Ledger(tmp_path / "s")
    fill(ledger, 20, LearningRateSchedule(kind="wsd", warmup=0.02, warmup_of="full_training"))
    schedules = chooser_data(LoadedSweep.read(ledger)).payload.schedules.values()
    factors = {entry.budget: entry.factors for entry in schedules}
    assert factors["5%"][20] == pytest.approx(0.5)  # of 40 % of the budget
    assert factors["40%"][1:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # of 5 % of the budget
    assert [factors[budget][90] for budget in ("5%", "40%", "100%")] == pytest.approx([0.5] * 3)


def test_one_budget_is_a_curve_of_one_point(tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    for record in (make_record("a", budget="25%"), make_record("b", kind="baseline", budget="25%")):
        ledger.append(record)
    sweep = LoadedSweep.read(ledger)
    (position,) = chooser_data(sweep).payload.positions
    assert position.label == "25%"
    assert sweep.data.match is None
    assert position.expected["staged"][1:] == (None, None)
    assert position.result["staged"].interval == "no interval"
    assert math.isnan(sweep.data.curves.test_low[0])


def test_budgets_in_flops_stay_in_flops(tmp_path):
    ledger = Ledger(tmp_path / "s")
    header = make_header()
    budgets = (Budget.parse("25e3 FLOPs"), Budget.parse("5e4 FLOPs"))
    ledger.create(header.model_copy(update={"space": header.space.model_copy(update={"budgets": budgets})}))
    for budget, cost in zip(budgets, ("25%", "50%"), strict=True):
        for kind in ("staged", "baseline"):
            record = make_record(f"{kind}-{budget.slug}", kind=kind, budget=cost)
            ledger.append(record.model_copy(update={"trial": record.trial.model_copy(update={"budget": budget})}))
    sweep = LoadedSweep.read(ledger)
    positions = chooser_data(sweep).payload.positions
    assert (positions[0].label, positions[-1].label) == ("25000 FLOPs", "100000 FLOPs")
    assert all(position.label.endswith(" FLOPs") for position in positions)
    assert positions[0].argument == "'25000 FLOPs'"
    assert sweep.units[0].axis["ticktext"] is None  # no budget is a fraction
    assert list(write_report(ledger, tmp_path / "out").schedules) == ["25000 FLOPs", "50000 FLOPs"]
    assert (tmp_path / "out" / "schedules" / "25000flops.json").exists()

"""A sweep that counts device-seconds: its cost, its plans, and its table of step times. The table is data, not a clock."""

import pytest

from explorer import Budget, InvalidInput, Rates, SearchSpace, Sweep, compile_plan
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import Ledger, Trial
from explorer.search.checks import check_space
from explorer.search.dispatcher import shared_record
from explorer.search.forecast import synthetic_record
from explorer.search.step_times import check_covers, measured_first, steps_of, steps_to_verify, verified_table
from explorer.search.trial_plan import compile_trial
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.step_times import StepTime, StepTimeTable
from explorer.sweep.header import new_header
from explorer.sweep.trial import run_trial
from explorer.training.calibration import Calibration, Variant, setting_of
from explorer.training.step_time_model import MeasuredStep, fitted_model, predicted_seconds
from explorer.training.task import Task

HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)
FULL_SECONDS = 2 * 1149 / 32 * 0.010
"""Two epochs of 1,149 images in batches of 32, at 10 ms for each step."""


@pytest.fixture
def space(space_file):
    content = SearchSpace.load(space_file).model_dump(mode="json")
    return SearchSpace.model_validate({**content, "currency": "device_seconds"})


@pytest.fixture
def table(space):
    steps = (
        StepTime(rates=Rates(), seconds=0.010),
        StepTime(rates=HALF, seconds=0.004),
        StepTime(rates=Rates(), seconds=0.007, batch_size=16),
        StepTime(rates=HALF, seconds=0.003, batch_size=16),
    )
    return StepTimeTable(setting=setting_of(Task(space.task), "cpu"), steps=steps)


def staged_trial(budget="25%", batch_size=32) -> Trial:
    stages = (Stage(rates=HALF, duration_ratio=0.4), Stage(rates=Rates(), duration_ratio=0.6))
    return Trial(
        id=f"{Budget.parse(budget).slug}-staged-000",
        phase="search",
        kind="staged",
        budget=budget,
        schedule=Schedule(stages=stages, grid=10),
        learning_rate=2e-3,
        batch_size=batch_size,
        seed=0,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"currency": "flops", "budgets": ["2 GPU-hours"]}, r"budgets: 2 GPU-hours is no budget of a sweep that counts FLOPs"),
        ({"budgets": ["3e9 FLOPs"]}, r"budgets: 3000000000 FLOPs is no budget .* for such budgets, set currency: flops"),
        ({"budgets": ["25%", "40 seconds"]}, r"budgets\.1: '40 seconds'"),
        ({"budgets": ["25%", "40 CPU-seconds"]}, r"must all have the same unit: 25% and 40 CPU-seconds"),
        ({"budgets": ["$40"]}, r"price: missing; the budget \$40 needs the price of a device-hour"),
        ({"currency": "flops", "price": 2.5}, r"price: 2\.5 is of a device-hour, and FLOPs have no price"),
        ({"budgets": ["2 GPU-hours"]}, r"budgets: 2 GPU-hours: trials would run on a CPU"),
        (
            {"search": {"spend": "2 GPU-hours"}},
            r"search\.spend: 2 GPU-hours: trials would run on a CPU",
        ),
        ({"currency": "euros"}, r"currency"),
        ({"resources": {"accelerator": "H100"}}, r"accelerator: H100 is a kind of GPU, and gpus is 0"),
    ],
)
def test_mixed_currencies_are_refused(space, changes, message):
    from explorer.errors import validated

    content = space.model_dump(mode="json")
    changes = {name: {**content["search"], **value} if name == "search" else value for name, value in changes.items()}
    with pytest.raises(InvalidInput, match=message):
        validated(SearchSpace, {**content, **changes}, "f")


def test_shares_are_of_the_seconds_of_full_training(space, table):
    _, plan = compile_trial(staged_trial(), space, table)
    assert plan.full_seconds == pytest.approx(FULL_SECONDS)
    assert 0 <= 0.25 * FULL_SECONDS - plan.seconds < 0.010
    # Four tenths of .1795 s at 4 ms, and the rest at 10 ms.
    assert [stage.steps for stage in plan.stages()] == [17, 11]
    assert plan.cost == pytest.approx(plan.seconds / FULL_SECONDS, rel=1e-6)
    assert plan.cost_after(17) == pytest.approx(17 * 0.004 / FULL_SECONDS, rel=1e-6)
    assert plan.cost_after(plan.steps, "flops") == pytest.approx(plan.flops / plan.full_flops)
    # Another batch size has the same budget: 7 ms for each of its steps.
    _, smaller = compile_trial(staged_trial(batch_size=16), space, table)
    assert smaller.budget_cost == plan.budget_cost
    assert 0 <= 0.25 * FULL_SECONDS - smaller.seconds < 0.007


def test_time_and_money_are_the_same_budget(space, table):
    content = space.model_dump(mode="json")
    digests = []
    for changes in ({"budgets": ["0.1 CPU-seconds"]}, {"budgets": ["$0.1"], "price": 3600.0}):
        other = SearchSpace.model_validate({**content, **changes})
        digests.append(compile_trial(staged_trial(changes["budgets"][0]), other, table)[1].digest())
    assert digests[0] == digests[1]


def test_steps_without_times_are_refused_before_a_trial(space, table):
    with pytest.raises(InvalidInput, match="needs measured step times for rates"):
        check_space(space, table)  # has levels of .25, which the table lacks
    check_space(space)


def test_a_table_without_all_steps_or_a_model_is_refused_before_it_is_kept(space, table, tmp_path):
    whole = [StepTime(rates=each.rates, batch_size=each.batch_size, seconds=0.01) for each in steps_of(space)]
    check_covers(space, table.model_copy(update={"steps": tuple(whole)}))
    some = table.model_copy(update={"steps": tuple(whole[1:])})
    count = f"lacks 1 of the {len(whole)} steps that trials may have, such as {whole[0].rates} at batch {whole[0].batch_size}"
    with pytest.raises(InvalidInput, match=rf"calibration: '{len(whole) - 1} steps': {count}"):
        Sweep(space, tmp_path, step_times=some)
    assert not list(tmp_path.glob("*/step_times.json"))


def test_rows_that_are_added_change_no_plan(space, table, tmp_path):
    trial = staged_trial()
    coefficients = dict.fromkeys(("step", "blocks", "images", "residual_values", "attention_flops", "mlp_flops"), 0.0)
    coefficients |= {"other_flops": 0.0, "parameters": 0.0, "step": 0.005}
    model = {"coefficients": coefficients, "held_out_median": 0.01, "held_out_largest": 0.02}
    table = StepTimeTable.model_validate({**dict(table), "steps": [s for s in table.steps if s.rates.full], "model": model})
    _, plan = compile_trial(trial, space, table)
    assert plan.stages()[0].seconds == pytest.approx(0.005 * plan.stages()[0].steps)
    record = synthetic_record(trial, plan, 0.5)
    assert steps_to_verify(space, table, [record]) == [Variant(HALF, 32)]
    ledger = Ledger(tmp_path / "sweep")
    ledger.keep_step_times(table)
    more = verified_table(table, [StepTime(rates=HALF, seconds=0.004)])
    ledger.keep_step_times(Calibration.of_table(more))
    assert ledger.step_times() == more
    assert compile_trial(trial, space, more)[1].digest() == plan.digest()
    assert steps_to_verify(space, more, [record]) == []
    changed = more.model_copy(update={"steps": more.steps[:1]})
    with pytest.raises(InvalidInput, match="has a table already"):
        ledger.keep_step_times(changed)


def test_costs_of_records_and_frames_are_in_seconds(space, table, tmp_path):
    trial, ledger = staged_trial(), Ledger(tmp_path / "sweep")
    record = run_trial(trial, space, ledger, table=table)
    outcome = record.outcome
    assert outcome.currency == "device_seconds"
    assert outcome.planned_seconds == pytest.approx(17 * 0.004 + 11 * 0.010)
    assert outcome.executed_cost == outcome.planned_cost == pytest.approx(outcome.planned_seconds / FULL_SECONDS, rel=1e-6)
    assert sum(outcome.stage_costs()) == pytest.approx(outcome.planned_cost)
    shared = shared_record(trial.model_copy(update={"id": "25pct-baseline-000", "kind": "baseline"}), record)
    assert shared.outcome.executed_cost == 0  # what is reused is charged in neither currency
    assert shared.outcome.executed_flops == 0
    # A second run of the same trial starts from the stage store.
    again = run_trial(trial.model_copy(update={"id": "25pct-staged-001"}), space, ledger, table=table)
    assert again.outcome.executed_cost < outcome.executed_cost
    header = new_header("s", space, Task(space.task).data.inventory)
    trials = trials_frame([record], header)
    assert trials.cost.iloc[0] == outcome.planned_cost
    best = best_schedule(trials, header, Budget(0.25), table)
    assert best.provenance.currency == "device_seconds"
    # The schedule's file has what plans the same steps again.
    kept = Calibration.of_table(best.provenance.step_times)
    task = Task(space.task)
    plan = compile_plan(
        best, task, Budget(0.25), kept.step_cost(task, "cpu"), currency="device_seconds", full_seconds=kept.full_seconds(task)
    )
    assert plan.digest() == record.plan
    elsewhere = table.model_copy(update={"setting": table.setting.model_copy(update={"device": "NVIDIA H100"})})
    refused = run_trial(trial.model_copy(update={"id": "25pct-staged-002"}), space, ledger, table=elsewhere)
    assert refused.failure == "place"
    assert "this host has cpu, and the sweep's step times are of NVIDIA H100" in refused.reason


def test_what_is_measured_first(space):
    every = steps_of(space)
    assert len(every) == 27 * 2  # three levels on three axes, two batch sizes
    first = measured_first(space, limit=30)
    assert len(first) == 30
    assert {each.batch_size for each in first if each.rates.full} == {16, 32}
    assert Variant(Rates(heads=0.25, mlp=0.25, tokens=0.25), 16) in first
    assert measured_first(space, limit=60) == every


def test_the_model_recovers_times_that_are_such_a_sum(tiny_task):
    rates = [Rates(mlp=mlp, tokens=tokens) for mlp in (0.25, 0.5, 1) for tokens in (0.25, 0.5, 1)]
    sizes = [tiny_task.step_size(each) for each in rates]

    def seconds(size):  # 3 ms for each step, 2 ms for all blocks, and 10 GFLOPs/s in MLPs
        return 0.003 + 0.002 * size.depth + 32 * size.mlp_flops / 1e10

    model = fitted_model([MeasuredStep(size, 32, seconds(size)) for size in sizes])
    assert model.held_out_largest < 0.01
    assert predicted_seconds(model, sizes[3], 32) == pytest.approx(seconds(sizes[3]), rel=1e-3)
    total = tiny_task.step_cost(Rates()).flops // 32
    full = sizes[-1]
    assert full.attention_flops + full.mlp_flops + full.other_flops == total
    assert fitted_model([MeasuredStep(sizes[0], 32, 1.0)] * 7) is None


def test_step_times_that_scatter_are_refused(tiny_task):
    with pytest.raises(InvalidInput, match=r"quartiles of the full model's are .* ms, .*% of the median apart; at most 0% is"):
        Calibration.measure(tiny_task, [Rates()], "cpu", seconds=0.02, max_scatter=0.0)

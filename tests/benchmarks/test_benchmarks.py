"""The benchmarks as programs: what they import, what they compare, what they compute from kept results."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from explorer import Budget, Schedule, SearchSpace, compile_plan
from explorer.data import digits
from explorer.frontier.curve import Match
from explorer.training.task import Task
from tests.test_imports import run_without

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
METHODS = sorted(path for path in (BENCHMARKS / "methods").glob("*.yaml") if path.stem != "full")
for folder in (BENCHMARKS, BENCHMARKS / "methods", BENCHMARKS / "ablations", BENCHMARKS / "search"):
    sys.path.append(str(folder))

import compare  # noqa: E402 (scripts, found by the lines above)
import curves  # noqa: E402
import quick  # noqa: E402
import side_by_side  # noqa: E402


def module(path: str):
    """A script as a module, whatever others of its name are loaded."""
    import importlib.util

    found = importlib.util.spec_from_file_location(path.replace("/", "_"), BENCHMARKS / f"{path}.py")
    loaded = importlib.util.module_from_spec(found)
    sys.modules[found.name] = loaded
    found.loader.exec_module(loaded)
    return loaded


@pytest.mark.nightly
def test_the_gpu_part_needs_no_ray():
    absent = ["ray", "optuna", "plotly", "pandas", "scipy", "sklearn", "rich", "typer"]
    done = run_without(
        absent,
        "sys.path.insert(0, 'benchmarks'); import elastic_speed, small_stages, compiled_stages, input_rates, staged_input; "
        "import resume_agreement, fractals_gpu, quick",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("script", "options", "last"),
    [
        ("staged_input", "--images 64 --epochs 0.5 --rounds 1 --sizes 40 80", "files over memory"),
        ("resume_agreement", "--width 32 --epochs 0.5", "equal runs 0.0e+00, resumed 0.0e+00"),
    ],
)
def test_scripts_for_a_gpu_run_on_a_cpu_with_torch_and_timm_alone(script, options, last):
    absent = ["ray", "optuna", "plotly", "pandas", "scipy", "sklearn", "typer"]
    done = run_without(
        absent,
        f"sys.path.insert(0, 'benchmarks'); sys.argv = {[script, *options.split()]}; import {script}; {script}.main()",
    )
    assert last in done.stdout.splitlines()[-1], done.stderr


def test_methods_differ_in_what_they_stage_and_in_nothing_else():
    contents = []
    for file in METHODS:
        space = SearchSpace.load(file).model_dump(mode="json")
        for name in ("name", "staging"):
            space.pop(name)
        for name in ("rates", "tied"):
            space["search"].pop(name)
        contents.append(space)
    assert len(contents) == 7
    assert all(content == contents[0] for content in contents)


def test_the_full_model_has_the_same_task_and_at_least_as_much_to_choose_from():
    full, staged = (SearchSpace.load(BENCHMARKS / "methods" / f"{name}.yaml") for name in ("full", "all"))
    assert full.task == staged.task
    assert full.budgets == staged.budgets
    ours, theirs = staged.search, full.search
    assert all(more >= fewer for more, fewer in zip(theirs.baseline_trials, ours.trials, strict=True))
    assert set(theirs.batch_size) > set(ours.batch_size)
    assert {f"{rate:.3g}" for rate in theirs.learning_rates()} > {f"{rate:.3g}" for rate in ours.learning_rates()}
    assert theirs.repeat_seeds == ours.repeat_seeds >= 5


@pytest.mark.parametrize(
    ("kept", "now", "noise", "expected"),
    [
        (0.5, 0.54, 0.1, False),
        (0.5, 0.56, 0.1, True),
        (0.5, 0.5, 0.0, False),
        (math.inf, math.inf, 0.1, False),
        (math.inf, 1.0, 0.1, True),
    ],
)
def test_a_figure_differs_when_it_moved_by_more_than_noise(kept, now, noise, expected):
    assert quick.differs(kept, now, noise) is expected


def test_every_kept_figure_is_of_a_benchmark_that_runs():
    kept = json.loads((BENCHMARKS / "figures.json").read_text())
    assert set(kept) <= {*quick.QUICK, *quick.GPU}
    for command in (*quick.QUICK, *quick.GPU):
        assert (BENCHMARKS / command.split()[0]).exists()


def invented(cost_at: dict[str, list[float]]) -> pd.DataFrame:
    """A table as `compare.points` gives, two seeds that agree: no uncertainty."""
    rows = [
        {"method": method, "budget": budget, "cost": cost, "seconds": 2 * cost if method != "full" else cost}
        | {"test_mean": value, "test_low": value, "test_high": value, "test_error": 0.0, "seeds": 2}
        for method, values in cost_at.items()
        for budget, cost, value in zip(("25%", "50%", "100%"), (0.25, 0.5, 1.0), values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_cost_to_match_by_hand():
    table = invented({"full": [0.2, 0.4, 0.8], "depth": [0.4, 0.8, 0.9]})
    assert side_by_side.match(table, "depth", "cost").cost == pytest.approx(0.5, rel=1e-3)
    assert side_by_side.match(table, "depth", "seconds").cost == pytest.approx(1.0, rel=1e-3)
    assert side_by_side.match(table, "full", "cost") == Match(*[pytest.approx(1.0)] * 3)
    assert "| depth growth | 40.0 (40.0 to 40.0) | 80.0" in side_by_side.accuracies(table, compare.NAMES)


def test_averages_of_curves_by_hand():
    """Curves that rise by 20 points per doubling are straight lines over the logarithm of the cost."""
    table = invented({"full": [0.2, 0.4, 0.6], "depth": [0.3, 0.5, 0.7]})
    full, depth = (side_by_side.curve(table, method, "cost") for method in ("full", "depth"))
    assert curves.average(full, (0.25, 1.0)) == curves.Average(*[pytest.approx(0.4)] * 3)
    assert curves.average(full, (0.5, 1.0)).mean == pytest.approx(0.5)
    assert curves.difference(depth, full, (0.25, 1.0)) == curves.Average(*[pytest.approx(0.1)] * 3)
    # In seconds, depth has the accuracies of the full model at twice the cost, less the 10 points above: .3 against .4 at .5.
    costs = curves.common_range(side_by_side.curve(table, method, "seconds") for method in ("full", "depth"))
    assert costs == (0.5, 1.0)
    lines = side_by_side.headlines(table, compare.NAMES, "seconds").splitlines()
    assert lines[0].endswith("| mean, 0.50 to 1.00 |")
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["50.0 (50.0 to 50.0) |", "40.0 (40.0 to 40.0) |"]


def test_the_average_does_not_depend_on_where_the_first_budget_of_a_curve_lies():
    seeds = {"test_error": 0.01, "seeds": 5}
    early = pd.DataFrame({"cost": [0.125, 0.25, 0.5, 1.0], "test_mean": [0.2, 0.4, 0.6, 0.8], **seeds})
    late = pd.DataFrame({"cost": [0.18, 0.36, 0.72, 1.0], **seeds})
    late["test_mean"] = 0.8 + 0.2 * np.log2(late.cost)
    first, second = (curves.curve(rows, "cost") for rows in (early, late))
    found = curves.difference(first, second, curves.common_range([first, second]))
    assert found.mean == pytest.approx(0, abs=1e-3)
    assert found.low < -0.005 < 0.005 < found.high
    assert found.high < 0.03


def test_intervals_over_seeds_are_as_wide_as_the_test_images_allow():
    runs = pd.DataFrame(
        {"method": ["a", "a", "b", "b"], "cost": 1.0, "seed": [1, 2, 1, 2], "test_accuracy": [0.318] * 2 + [0.2, 0.6]}
    )
    runs = runs.assign(learning_rate=1e-3, batch_size=16, schedule="full")
    agreed, apart = curves.over_seeds(runs, ["method"], ["cost"], 360).itertuples()
    assert agreed.test_high - agreed.test_mean == pytest.approx(0.048, abs=5e-4)  # docs/method/statistics.md
    assert apart.test_error == pytest.approx(0.2)  # half of the difference: larger than that of the images


def test_the_numbers_of_test_images_are_those_of_the_data():
    assert curves.TEST_IMAGES["digits"] == digits.TEST_IMAGES
    for path in [*METHODS, BENCHMARKS / "less_than_one" / "fractals.yaml"]:
        fractals = SearchSpace.load(path).task.data.fractals
        assert curves.TEST_IMAGES["fractals"] == fractals.classes * fractals.held_out == 1_200


def test_a_method_without_the_largest_budget_has_no_average_and_says_how_far_it_came():
    table = invented({"full": [0.2, 0.4, 0.8], "depth": [0.4, 0.7, 0.9]})
    table = table[(table.method == "full") | (table.budget != "100%")]
    assert "| depth growth | not by 0.50 |" in (lines := side_by_side.headlines(table, compare.NAMES, "cost"))
    assert lines.splitlines()[-1].endswith("| not measured |")
    assert "| depth growth | not by 1.00 |" in side_by_side.headlines(table, compare.NAMES, "seconds")


def test_differences_are_paired_by_seed():
    ablations = module("ablations/run")
    rows = [("reference", s, 0.5 + s / 10) for s in range(4)] + [("cosine", s, 0.51 + s / 10) for s in range(4)]
    rows += [("wsd", s, 0.5 + s / 10 + sign) for s, sign in enumerate((0.1, -0.1, 0.1, -0.1))]
    table = ablations.differences(pd.DataFrame(rows, columns=["variant", "seed", "test_accuracy"])).set_index("variant")
    assert table.difference["cosine"] == pytest.approx(0.01)
    assert table.verdict["cosine"] == "better"
    assert table.verdict["wsd"] == "too close to call"


def test_the_rate_in_epochs_falls_with_images_and_ends_at_zero():
    ablations = module("ablations/run")
    task = Task(SearchSpace.load(ablations.SPACES["fractals"]).task)
    compiled = compile_plan(ablations.VARIANTS["reference"].schedule, task, Budget(0.25), task.step_cost)
    changed = ablations.in_epochs(compiled)
    assert changed.segments[-1].end_time == 1
    assert changed.flops == compiled.flops
    first = compiled.segments[0]
    assert changed.segments[0].end_time == pytest.approx(first.steps / compiled.steps)
    assert changed.segments[0].end_time > first.end_time  # early steps are cheap


def test_what_searches_reach_and_for_how_much_by_hand():
    replay = module("search/replay")
    rows = [
        *[
            ("ours", "", seed, spent, volume)
            for seed, ends in ((0, 3.0), (1, 5.0))
            for spent, volume in ((1.0, 2.0), (ends, 3.0))
        ],
        *[(name, "optuna 5", seed, 4.0, 2.0 + seed) for name in replay.TARGETS for seed in (0, 1)],
    ]
    results = pd.DataFrame(rows, columns=replay.COLUMNS)
    # Both targets end at 2 and 3, 2.5 on average: seed 0 of ours reaches it at 3 of 4 full trainings, seed 1 at 5.
    assert replay.costs_to_reach(results, "ours", 2.5) == [3, 5]
    assert replay.costs_to_reach(results, replay.TARGETS[0], 2.5) == [math.inf, 4]
    lines = replay.table(results).splitlines()
    assert lines[2] == "| ours | 2 | 4.00 | 3.000 ± 0.000 |  | 1.00 (0.75 to 1.25) | 1.00 (0.75 to 1.25) |"
    # Half of the interval: 12.706, for one degree of freedom, times a standard error of .5.
    assert lines[3].startswith(f"| {replay.TARGETS[0]} | 2 | 4.00 | 2.500 ± 6.353 | 1.00 (0.75 to 1.25) | inf (1.00 to inf) |")


@pytest.mark.nightly
def test_kept_replays_print_without_the_packages_of_other_searches():
    done = run_without(
        ["syne_tune", "neps", "carbs"],
        "import runpy, sys; sys.argv = ['replay.py', '--table']; runpy.run_path('benchmarks/search/replay.py', run_name='__main__')",
    )
    assert done.returncode == 0, done.stderr
    for name in ("ours", "OptunaSearch per budget", "Syne Tune, ASHA with CQR", "NePS, PriorBand"):
        assert f"| {name} | " in done.stdout
    assert "syne-tune 0.16.0" in done.stdout


def test_other_searches_pay_for_every_training_and_again_for_a_repeated_one():
    rivals = module("search/rivals")
    table = module("search/recorded").Table()
    replay = rivals.Replay(table, seed=0, limit=0.29)
    replay.train(replay.guess, replay.budgets[0])
    replay.train(replay.guess, replay.budgets[0])
    assert replay.progress.spent == pytest.approx(0.1, abs=0.01)
    assert not replay.is_over
    replay.train(replay.guess, replay.budgets[2])
    assert replay.progress.spent == pytest.approx(0.3, abs=0.01)
    assert replay.is_over
    progress = rivals.RIVALS["OptunaSearch per budget"].progress(table, seed=0, limit=0.74)
    assert len(progress.volumes) == 4  # one at each budget: .05, .1, .2 and .4
    assert progress.spent == pytest.approx(0.75, abs=0.02)
    random = rivals.RIVALS["random search"].progress(table, seed=0, limit=0.5)
    assert 0.5 <= random.spent < 0.5 + 0.4
    pruned = rivals.RIVALS["Optuna, TPE and Hyperband"].progress(table, seed=0, limit=0.5)
    assert pruned.volumes[0][0] == pytest.approx(0.05, abs=0.01)  # every trial begins at the cheapest budget
    assert 0.5 <= pruned.spent < 0.5 + 0.4


def test_replayed_sweeps_end_within_their_limit_and_within_a_tenth_below_it():
    spend = module("search/spend")
    table = spend.Table()
    sweep = spend.ReplayedSweep(table, 0.6, seed=0)
    assert spend.keeps_limit(sweep, sweep.run(), 0.6)
    sweep = spend.ReplayedSweep(table, 1.5, seed=1)  # workers are lost, and the driver is killed once
    sweep.run(places=4, failing=0.1, stop_after=12)
    assert sweep.unfinished
    assert not sweep.run(places=4, failing=0.1).unaffordable_repeats
    assert sweep.spent <= 1.5
    sweep.set_limit(3)
    search = sweep.run(places=4)
    # What failed attempts executed is not known to the search: it is charged for more than that.
    assert sweep.spent <= search.spending.spent <= 3
    assert search.spending.spent >= 0.9 * 3
    assert not search.unaffordable_repeats


@pytest.mark.slow
@pytest.mark.nightly
def test_the_gpu_reference_runs_on_a_cpu():
    done = subprocess.run(
        [sys.executable, "benchmarks/fractals_gpu.py", "--device", "cpu", "--tiny", "--epochs", "2", "--seeds", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| staged |") == 3


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_compiled_stages_hold():
    """Three sizes that are compiled for real: one graph each, reused by a fourth trial."""
    command = [sys.executable, "benchmarks/compiled_stages.py", "--trials", "4", "--sizes", "3", "--stages", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert "recompilations 2, distinct sizes after the first 2, last over third" in done.stdout, done.stderr


def test_the_variants_of_the_papers_tables_spend_the_same_budget():
    paper = module("ablations/paper")
    task = Task(SearchSpace.load(paper.SPACES["digits"]).task)
    for table in ("durations", "axes"):
        plans = {n: compile_plan(v.schedule, task, Budget(0.1), task.step_cost) for n, v in paper.TABLES[table].items()}
        assert len(plans) == {"durations": 5, "axes": 7}[table]
        assert all(0.098 < plan.cost <= 0.1 for plan in plans.values())
        lengths = [row.epochs for row in plans["alpha 0" if table == "durations" else "heads"].stages()]
        expected = [1, 1, 1] if table == "durations" else [1, 2, 3]
        assert [length / lengths[0] for length in lengths] == pytest.approx(expected, rel=0.1)


def test_what_carries_over_from_proxies_by_hand(tmp_path):
    transfer = module("transfer/run")
    tables = sys.modules["tables"]
    rows = []
    for number, (on_proxy, on_target) in enumerate(zip((0.1, 0.2, 0.4, 0.3, 0.5), (0.50, 0.52, 0.54, 0.56, 0.55), strict=True)):
        for seed in (200, 201):
            rows.append(("fractals", "images 1/4", number, seed, 0.0625, on_proxy, 0.0, "x"))
            rows.append(("fractals", "target", number, seed, 0.25, on_target, on_target + (seed - 200) / 10, "x"))
    results = pd.DataFrame(rows, columns=transfer.COLUMNS)
    found = tables.carried(results, "fractals", "images 1/4", "fractals")
    # Ranks 1 2 4 3 5 against 1 2 3 5 4: squared differences 0 0 1 4 1, and 1 - 6 * 6 / 120 = .7 for both seeds.
    assert found.correlations == pytest.approx([0.7, 0.7])
    assert found.cost == pytest.approx(0.25)
    # The fifth is best on the proxy and .01 behind the fourth, which is among the best three.
    assert found.regrets == pytest.approx([0.01, 0.01])
    assert found.regrets_of_best == pytest.approx([0, 0])
    assert not found.is_trusted  # five schedules
    itself = tables.carried(results, "fractals", "target", "fractals")
    assert itself.correlations == pytest.approx([1, 1])  # each seed against the other one
    assert tables.carried(results, "fractals", "target", "fashion") is None
    results[results.seed == 200].to_csv(tmp_path / "results.csv", index=False)
    text = tables.tables(tmp_path / "results.csv", list(transfer.PROXIES))
    assert "| images 1/4 | 1/4 | 0.70 (" in text
    assert "one seed) | 1.0 | 0.0 | 1 |" in text


def test_the_proxies_of_the_transfer_study_cost_what_their_names_say():
    transfer = module("transfer/run")
    assert len(transfer.schedules()) == 24
    task = transfer.task_of("fractals")
    full = compile_plan(Schedule.full_model(), task, Budget(1.0), task.step_cost).full_flops
    for name, expected in {"images 1/16": 16, "epochs 1/64": 64, "images and epochs 1/4, half the width": 61}.items():
        proxy = transfer.task_of("fractals", transfer.PROXIES[name])
        plan = compile_plan(Schedule.full_model(), proxy, Budget(1.0), proxy.step_cost)
        assert full / plan.full_flops == pytest.approx(expected, rel=0.03)
    assert proxy.spec.recipe.learning_rate == 2 * task.spec.recipe.learning_rate


def test_predictions_are_counted_by_reach():
    prediction = module("prediction")
    assert set(prediction.recorded_curves().sweep) >= {"digits", "digits, in seconds", "methods: sweep", "by FLOPs"}
    drawn = prediction.drawn_curves(2)
    # Two sweeps of two kinds at 5, 10, 20 and 40 %: from two budgets 20 and 40 % are predicted, from three 40 %.
    found = list(prediction.cases(drawn))
    assert [(case.trained, round(case.reach)) for case in found] == [(2, 2), (2, 4), (3, 2)] * 4
    assert len(list(prediction.cases(drawn, between=True))) == 8
    made = {"sweep": "s", "kind": "staged", "trained": 3, "trained_to": 0.2, "cost": 1.0}
    hit = prediction.Case(**made, measured=0.8, predicted=0.81, low=0.7, high=0.9)
    miss = prediction.Case(**made, measured=0.8, predicted=0.85, low=0.82, high=0.86)
    assert prediction.summary([hit, miss]) == "3.0 ± 6.0, 1 of 2"  # errors of 1 and 5 points, half widths of 10 and 2
    assert prediction.at_reach([hit], "5x") == [hit]
    assert prediction.at_reach([hit], "2x") == []
    assert prediction.coverage([hit, miss]) == 0.5


def test_a_curve_with_one_trunk_costs_the_longest_trunk_and_the_cooldowns():
    """At 5 to 100 %, 80 % and cooldowns of 1, 2, 4, 8 and 20 %; from 20 % on, 80 % and 4, 8 and 20 %.

    With slots of a twentieth of each budget, full training starts at 30 %, not at 32 %. With shares, the early stage is common:
    3.5 of 10 %, where the slots of 5 % and 10 % meet, and 7, 15 and 30 %.
    """
    one_trunk = module("one_trunk")
    space = SearchSpace.load(one_trunk.SPACE)
    costs = {}
    for curve in one_trunk.CURVES:
        plans = [plan for _, _, plan in one_trunk.trainings(curve, space)]
        costs[curve.schedule, curve.lr_schedule] = sum(one_trunk.trained_costs(plans))
    assert costs["full model", "linear"] == pytest.approx(1.75, abs=0.005)
    assert costs["full model", "wsd"] == pytest.approx(1.75, abs=0.005)
    assert costs["full model", "one trunk"] == pytest.approx(1.17, abs=0.005)
    assert costs["staged", "wsd"] == pytest.approx(1.75, abs=0.005)
    assert costs["staged", "one trunk"] == pytest.approx(1.75 - 0.035 - 0.07 - 0.14 - 0.3, abs=0.005)
    assert costs["staged, as at 5 %", "one trunk"] == pytest.approx(1.15, abs=0.005)
    assert costs["staged, as at 20 %", "one trunk"] == pytest.approx(1.12, abs=0.005)


def test_sweeps_of_one_full_training_are_compared_with_the_exhaustive_one():
    limited = module("less_than_one/run")
    for task in limited.TASKS:
        for variant in limited.VARIANTS:
            space = limited.space_of(task, variant, 2)
            assert space.search.seed == 20
            assert (space.as_planned().search.spend is None) == (variant == limited.EXHAUSTIVE)
    results = pd.read_csv(limited.RESULTS)
    assert results[results.sweep == "one training"].cost.max() <= 1  # proxies included
    rows = results[(results.task == "digits") & results.sweep.isin(["one training", limited.EXHAUSTIVE])]
    means = rows.groupby(["sweep", "seed"]).test_accuracy.mean()
    behind = 100 * (means[limited.EXHAUSTIVE].mean() - means["one training"].mean())
    lines = limited.table(results)
    assert f"digits, one training: at most 0.99 full trainings, {behind:.1f} points behind" in lines
    single = limited.table(rows[(rows.sweep != limited.EXHAUSTIVE) | (rows.seed == 0)])
    assert single.endswith("no interval of the difference: it needs two sweeps of each kind")
    assert lines.endswith("fashion, one training: at most 0.98 full trainings; no exhaustive sweep to compare with")
    assert "nan" not in lines
    both = [pd.Series([0.93, 0.95, 0.91]), pd.Series([0.94, 0.90, 0.92, 0.95])]
    welch = 100 * np.array(stats.ttest_ind(*both, equal_var=False).confidence_interval(0.95))
    assert limited.interval_of_difference(*both, 10**9).endswith("difference {:.1f} to {:.1f} points behind".format(*welch))
    # Sweeps that agree: both errors are those of 360 images at 90 %, here of two means over two sweeps.
    agreed = [pd.Series([0.9, 0.9])] * 2
    floor = 1.96 * (0.8956 * 0.1044 / 364) ** 0.5 / stats.t.ppf(0.975, 1)
    half = 100 * stats.t.ppf(0.975, 2) * floor * 2**0.5
    assert limited.interval_of_difference(*agreed, 360).endswith(f"difference {-half:.1f} to {half:.1f} points behind")


def test_what_a_sweep_costs_is_compared_with_what_its_schedule_saves():
    own_cost = module("less_than_one/own_cost")
    found = Match(0.6, 0.4, math.inf)
    assert own_cost.spread(found, own_cost.GOAL) == "0.35 (0.15 to above 0.75)"
    assert own_cost.paid_after(0.98, found) == "3 (at most 7)"  # .98 / .35 = 2.8 and .98 / .15 = 6.5
    assert own_cost.paid_after(0.98, found._replace(low=0.23)) == "not decided"
    beyond = Match(*[math.inf] * 3)
    assert (own_cost.spread(beyond), own_cost.paid_after(0.98, beyond)) == ("above 1", "2 (at most 2)")
    columns = {"task": "digits", "sweep": "one training", "schedule": "", "learning_rate": 1e-3, "batch_size": 8}
    runs = pd.DataFrame({"seed": [0, 0, 1, 1, 2, 2], "test_accuracy": [0.5, 0.6, 0.4, 0.5, 0.6, 0.7], "cost": 0.9, **columns})
    of_sweeps = own_cost.recommended(runs, 10**9)
    low, high = stats.t.interval(0.95, 2, 0.55, 0.1 / 3**0.5)  # sweeps with .55, .45 and .65
    assert (of_sweeps.test_mean, of_sweeps.test_low, of_sweeps.test_high) == pytest.approx((0.55, low, high))


def test_what_is_recorded_for_each_task(tmp_path):
    record = module("search/record")
    for task, settings, proxies in (("digits", 8, 0), ("fashion", 4, 2)):
        parts = record.parts(task)
        assert [part.proxy for part in parts] == [None] * settings + list(range(1, proxies + 1))
        space = SearchSpace.load(record.FOLDER / f"{task}.yaml")
        assert len(record.schedules(space)) == 55
        kept = record.FOLDER / f"{task}_table.csv"
        assert record.missing(task, kept) == []
        rows = pd.read_csv(kept)
        rows[rows.learning_rate != 0.004].to_csv(tmp_path / kept.name, index=False)  # what an interrupted recording lacks
        assert record.missing(task, tmp_path / kept.name) == [part for part in parts if round(part.learning_rate, 6) == 0.004]
    assert set(record.parts("fashion")[-1][2:]) == {0.002, 32}  # those of the recipe, as in a search on a proxy


def test_a_dry_run_is_compared_with_kept_sweeps_by_their_smallest_and_largest():
    dry_run = module("dry_run")
    assert (dry_run.span([68, 68]), dry_run.span([0.99, 0.961], ".2f")) == ("68", "0.96 to 0.99")


@pytest.mark.nightly
def test_intervals_cover_what_is_drawn_from_a_normal_distribution():
    intervals = module("intervals")
    drawn = np.random.default_rng(0).normal(0.8, 0.01, (400, 6))
    shares = np.mean([intervals.coverage(group, 3, 10**9) for group in drawn], axis=0)
    assert shares == pytest.approx([0.95] * 3, abs=0.01)  # 1.96 standard errors instead of Student's t would cover 0.8


def test_intervals_of_seeds_that_agree_promise_too_much():
    intervals = module("intervals")
    # Three seeds that agree promise an interval of nothing: two of the 20 choices of three do, and none of the others
    # is within the floor of 100 test images, .09 to either side.
    apart = intervals.coverage(np.array([0.7] * 3 + [0.9] * 3), 3, 100)
    assert apart[1:] == pytest.approx([0.9, 0.9])
    assert apart[0] == pytest.approx(0.9)


def interruptions(option: str) -> str:
    command = [sys.executable, "benchmarks/interruptions/run.py", option]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.nightly
def test_kept_interruptions_lost_nothing_and_are_the_table_of_the_page():
    kept = pd.read_csv(BENCHMARKS / "interruptions" / "results.csv")
    assert len(kept) == 10 * kept.trainer.nunique() == 50
    assert kept.equal.all()
    assert (kept.files == kept.full).all()
    page = (BENCHMARKS / "README.md").read_text()
    printed = [line for line in interruptions("--table").splitlines() if line.startswith("|")]
    assert len(printed) == 12
    assert all(line in page for line in printed)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_trainings_that_are_killed_twice_end_in_the_same_bits():
    assert "| killed twice | equal, 3 again" in interruptions("--quick")


@pytest.mark.nightly
def test_the_pause_of_growth_is_measured_on_each_process():
    command = [
        sys.executable,
        "benchmarks/growth_pause.py",
        "--repeats",
        "1",
        "--batch",
        "2",
        "--model",
        "vit_tiny_patch16_224",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][-2:]
    assert [row[0] for row in rows] == ["heads and MLP from .5 to 1", "depth from .5 to 1"]
    seconds = [float(part.split(" (")[0]) for row in rows for cell in row[1:3] for part in cell.split(", ")]
    assert len(seconds) == 8  # of two processes: pause and full step, in either row
    assert min(seconds) > 0

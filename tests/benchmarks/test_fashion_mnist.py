"""The benchmark of methods on Fashion-MNIST, with the real files where Debian's package is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import timm.optim.muon
import torch
from scipy import stats

from explorer import Budget
from explorer.ledger.correct_images import CorrectImages
from explorer.training.task import Task

FOLDER = Path(__file__).parents[2] / "benchmarks" / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_files = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder that prepare.py fills."""
    folder = tmp_path_factory.mktemp("fashion")
    command = [sys.executable, str(FOLDER / "prepare.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"export EXPLORER_FASHION_MNIST={folder}\n"
    return folder


def module(name, monkeypatch):
    """A script as a module, whatever other scripts of its name are loaded."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    found = importlib.util.spec_from_file_location(f"fashion_mnist_{name}", FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, found.name, loaded)
    found.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def script(monkeypatch, tmp_path):
    """run.py as a module, with results in a folder of the test."""
    loaded = module("run", monkeypatch)
    for name in ("TUNING", "CHOSEN", "RESULTS", "CORRECT"):
        path = tmp_path / getattr(loaded, name).name
        path.write_text(",".join(loaded.COLUMNS[getattr(loaded, name)]) + "\n")
        monkeypatch.setattr(loaded, name, path)
    return loaded


@needs_files
def test_the_data_set_is_divided_as_published_with_a_tenth_of_the_training_images_held_out(prepared, script, monkeypatch):
    monkeypatch.setenv("EXPLORER_FASHION_MNIST", str(prepared))
    from curves import TEST_IMAGES  # in a folder that `script` adds

    data = Task(script.space_of("full", "adamw").task).data
    assert {split: len(labels) for split, labels in data.labels.items()} == {
        "train": 54_000,
        "validation": 6_000,
        "test": TEST_IMAGES["fashion"],
    }
    assert {split: set(labels.bincount().tolist()) for split, labels in data.labels.items()} == {
        "train": {5_400},
        "validation": {600},
        "test": {1_000},
    }
    assert data.class_names[0] == "T-shirt/top"


@needs_files
@pytest.mark.nightly
def test_every_method_is_planned_and_two_are_chosen_and_trained(prepared, script, monkeypatch):
    """On the real images, for a fiftieth of an epoch."""
    monkeypatch.setenv("EXPLORER_FASHION_MNIST", str(prepared))
    whole = script.space_of

    def short(method, optimizer):
        content = whole(method, optimizer).model_dump(mode="json")
        content["recipe"] |= {"epochs": 0.02}
        content["budgets"] = ["50%", "100%"]
        content["search"] |= {"trials": [2, 1], "baseline_trials": [2, 1], "learning_rate_grid": 2}
        return type(whole(method, optimizer)).model_validate(content)

    monkeypatch.setattr(script, "space_of", short)
    for optimizer in script.OPTIMIZERS:
        for method, each in script.METHODS.items():
            if each.schedule is not None:
                space = short(method, optimizer)
                _, plan = script.planned(space, each.schedule, Budget(1.0), 1e-3, 64)
                assert 0.8 < plan.cost <= 1.001
    for method, optimizer in (("full", "muon"), ("sweep", "adamw"), ("progressive", "adamw")):
        for up_to in ("50%", "100%", "100%"):  # the last time, nothing is searched again
            script.choose(method, optimizer, str(script.RESULTS.parent), up_to)
        next(script.train_fresh(method, optimizer))
    chosen = pd.read_csv(script.CHOSEN)
    assert list(chosen.budget) == ["50%", "100%"] * 3
    # Two pairs at one half, and the better of them at 1; a plan may end a step of .06 below its budget.
    tuned = chosen[chosen.method != "sweep"]
    assert list(tuned.search_cost) == pytest.approx([1.0, 1.0] * 2, abs=0.13)
    assert len(pd.read_csv(script.TUNING)) == 2 * 3  # none of them twice, although the first budget was asked for three times
    results = pd.read_csv(script.RESULTS)
    assert list(results.seed) == [700] * 3
    assert results.cost.tolist() == pytest.approx([0.5] * 3, abs=0.065)

    # A ledger with more budgets than are asked for.
    chosen[chosen.method != "sweep"].to_csv(script.CHOSEN, index=False)
    script.choose("sweep", "adamw", str(script.RESULTS.parent), "50%")
    pd.testing.assert_frame_equal(pd.read_csv(script.CHOSEN)[4:].reset_index(drop=True), chosen[2:3].reset_index(drop=True))

    # What is missing of correct.csv is trained again, and must be the same.
    correct = pd.read_csv(script.CORRECT)
    shares = [CorrectImages(images=row.images, packed=row.packed).flags().mean() for row in correct.itertuples()]
    assert shares == pytest.approx(results.test_accuracy.tolist(), abs=1e-6)
    for path, names in ((script.RESULTS, ["test_accuracy"]), (script.CORRECT, [])):
        table = pd.read_csv(path)
        table.loc[table.method == "full", names] = 0.5
        table[(table.method != "full") | bool(names)].to_csv(path, index=False)
    with pytest.raises(SystemExit, match=r"full 50% 700: .*, but results.csv has 0.5"):
        next(script.train_fresh("full", "muon"))


def test_muon_orthogonalizes_in_float32(monkeypatch):
    monkeypatch.setattr(timm.optim.muon, "zeropower_via_newtonschulz", timm.optim.muon.zeropower_via_newtonschulz)  # restored
    gradient = torch.randn(64, 192, generator=torch.Generator().manual_seed(0))
    updated = {}
    for name in ("bfloat16", "float32"):
        weights = torch.nn.Parameter(torch.zeros(64, 192))
        weights.grad = gradient.clone()
        timm.optim.Muon([weights], lr=1.0, weight_decay=0.0).step()
        updated[name] = weights.detach()
        module("methods", monkeypatch).muon_in_float32()
    values = {name: len(matrix.unique()) for name, matrix in updated.items()}  # few have eight significant bits
    assert values["bfloat16"] < 4_000 < 8_000 < values["float32"], values
    torch.testing.assert_close(updated["float32"], updated["bfloat16"], atol=0.02, rtol=0.1)


def test_kept_results_are_of_the_chosen_schedules_and_within_their_budgets():
    """By counted FLOPs; the sweep by seconds planned its budgets by the kept step times."""
    results, chosen = (pd.read_csv(FOLDER / name) for name in ("results.csv", "chosen.csv"))
    assert not results.duplicated(["method", "optimizer", "budget", "seed"]).any()
    settings = ["method", "optimizer", "budget", "learning_rate", "batch_size"]
    assert set(results[settings].itertuples(index=False)) <= set(chosen[settings].itertuples(index=False))
    shares = results.budget.str.rstrip("%").astype(float) / 100
    counted = results.method != "seconds"
    assert (results.cost <= shares)[counted].all()
    assert (shares - results.cost < 1 / 4_218)[counted].all()  # a step of the full model with the larger batches
    correct = pd.read_csv(FOLDER / "correct.csv").merge(results, how="left")
    shares = [CorrectImages(images=row.images, packed=row.packed).flags().mean() for row in correct.itertuples()]
    assert shares == pytest.approx(correct.test_accuracy.tolist(), abs=1e-6)
    best = results[results.budget == "100%"].groupby(["method", "optimizer"]).test_accuracy.mean()
    assert best["full", "adamw"] == pytest.approx(0.884, abs=0.001)


def test_every_stage_of_the_kept_results_has_a_step_time(monkeypatch):
    script = module("step_times", monkeypatch)
    measured = pd.read_csv(FOLDER / "step_times.csv")[script.COLUMNS]
    assert script.used(pd.read_csv(FOLDER / "results.csv")) == list(measured.itertuples(index=False, name=None))


def test_missing_step_times_are_stored_in_the_units_of_the_others(monkeypatch):
    """All but one stage takes twice its stored time on the day; one was disturbed, and does not change the median."""
    script = module("step_times", monkeypatch)
    known = [("full", "adamw", "1 1 1 1", batch) for batch in (16, 32, 64)]
    new = ("depth", "adamw", "1 1 1 0.5", 64)
    on_this_day = dict(zip(known, (20.0, 400.0, 60.0), strict=True)) | {new: 30.0}
    monkeypatch.setattr(script, "measured", lambda stages: {stage: on_this_day[stage] for stage in stages})
    stored = dict(zip(known, (10.0, 20.0, 30.0), strict=True)) | {("gone", "adamw", "1 1 1 1", 64): 5.0}
    assert script.with_missing([*known, new], stored) == {**dict(zip(known, (10.0, 20.0, 30.0), strict=True)), new: 15.0}


def test_the_gains_of_staging_and_of_the_optimizer_are_compared_by_seed(monkeypatch):
    script = module("compare", monkeypatch)
    accuracies = {  # of two seeds, at a budget
        ("full", "adamw"): (0.50, 0.50),
        ("full", "muon"): (0.52, 0.52),  # 2 points
        ("depth", "adamw"): (0.60, 0.60),  # 10 points
        ("depth", "muon"): (0.61, 0.63),  # 1 and 3 points more than with AdamW, 9 and 11 more than the full model
        ("tokens", "adamw"): (0.60, 0.60),  # not with Muon
    }
    rows = [(*key, "25%", 700 + n, value) for key, values in accuracies.items() for n, value in enumerate(values)]
    runs = pd.DataFrame(rows, columns=["method", "optimizer", "budget", "seed", "test_accuracy"])
    half = stats.t.ppf(0.975, 1)  # the standard error of two values that differ by 2 points is 1
    low, high = f"{2 - half:+.1f}", f"{2 + half:+.1f}"
    (line,) = script.gains(runs).splitlines()[2:]
    cells = ["depth growth", "25%", "+2.0 (+2.0 to +2.0)", f"+2.0 ({low} to {high})", "+10.0 (+10.0 to +10.0)"]
    cells += [f"+10.0 ({10 - half:+.1f} to {10 + half:+.1f})", f"+0.0 ({-half:+.1f} to {half:+.1f})"]
    assert line == f"| {' | '.join(cells)} |"


def test_cost_to_match_full_training_with_the_same_optimizer_by_hand(monkeypatch):
    """With Muon full training takes twice the FLOPs and seconds; the sweep has its accuracy at half of them in both units."""
    script = module("compare", monkeypatch)
    points = {
        "full": {"50%": (0.5, 0.2), "100%": (1.0, 0.6)},  # higher than with Muon: not what it is compared with
        "full muon": {"50%": (1.0, 0.3), "100%": (2.0, 0.5)},
        "sweep muon": {"25%": (0.5, 0.4), "50%": (1.0, 0.5), "100%": (2.0, 0.7)},
        "depth muon": {"25%": (0.5, 0.3), "50%": (1.0, 0.4)},
    }
    rows = [
        {"method": method, "budget": budget, "cost": cost, "seconds": cost, "test_mean": mean, "test_error": 0.0, "seeds": 2}
        for method, values in points.items()
        for budget, (cost, mean) in values.items()
    ]
    lines = script.matches(pd.DataFrame(rows), "muon").splitlines()
    assert lines[0] == "| method | FLOPs to match full training with Muon | seconds to match it (2.00 here) |"
    cells = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines[2:]}
    assert cells["full model, Muon"] == ["1.00 (1.00 to 1.00)", "1.00 (1.00 to 1.00) |"]
    assert cells["our sweep, by FLOPs, Muon"] == ["0.50 (0.50 to 0.50)", "0.50 (0.50 to 0.50) |"]
    assert cells["depth growth, Muon"] == ["not by 0.50", "not by 0.50 |"]
    without = script.matches(pd.DataFrame(row for row in rows if row["method"] != "full muon"), "muon")
    assert len(without.splitlines()) == 2

"""The file for optuna-dashboard, opened with Optuna: parameters as people know them."""

import math

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from explorer import Rates, Schedule, SearchSpace, Stage
from explorer.search.dashboard import Dashboard
from explorer.search.optuna_logs import quiet_optuna
from tests.ledger.test_ledger import make_record

TIED = {"stages": 3, "tied": True, "staging": {"subset": ["leading", "random"]}, "minimize": "train_seconds"}


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_optuna():
        yield


def record(schedule, name="25pct-staged-004", **changes):
    made = make_record(name, validation=0.75, finished=20.0)
    settings = {"schedule": schedule, "learning_rate": 2e-3, "batch_size": 32, **changes}
    return made.model_copy(update={"trial": made.trial.model_copy(update=settings), "started": 10.0})


def opened(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return {name: optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)}


def two_stages(share: float, **rates) -> Schedule:
    stages = (Stage(rates=Rates(**rates), duration_ratio=share), Stage(rates=Rates(), duration_ratio=1 - share))
    return Schedule(stages=stages, grid=10)


def test_a_study_shows_rates_shares_and_settings_of_each_trial(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    dashboard = Dashboard(space, tmp_path / "optuna.log")
    dashboard.add(record(two_stages(0.3, heads=0.25, mlp=0.5)))
    studies = opened(tmp_path / "optuna.log")
    assert set(studies) == {f"tiny {budget}-{kind}" for budget in ("25pct", "50pct") for kind in ("staged", "baseline")}
    study = studies["tiny 25pct-staged"]
    assert study.metric_names == ["validation_accuracy"]
    (trial,) = study.trials
    rates = {"heads 1": 0.25, "heads 2": 0.25, "mlp 1": 0.5, "mlp 2": 0.5, "tokens 1": 1.0, "tokens 2": 1.0}
    shares = {"share 1": 0.0, "share 2": 0.3, "full share": 0.7}
    assert trial.params == {"learning_rate": 2e-3, "batch_size": 32, **shares, **rates}
    assert trial.values == [0.75]
    assert trial.user_attrs == {"trial_id": "25pct-staged-004", "seed": 0, "cost": 0.25, "test_accuracy": 0.88}
    assert (trial.datetime_complete - trial.datetime_start).total_seconds() == 10


def test_tied_axes_are_one_parameter_and_both_objectives_are_named(space_file, tmp_path):
    space = SearchSpace.load(space_file).with_search(**TIED)
    half = two_stages(0.5, heads=0.5, mlp=0.5, tokens=0.5)
    Dashboard(space, tmp_path / "optuna.log", [record(half, staging={"subset": "random"})])
    study = opened(tmp_path / "optuna.log")["tiny 25pct-staged"]
    assert study.metric_names == ["validation_accuracy", "train_seconds"]
    assert study.trials[0].params == {
        "learning_rate": 2e-3,
        "batch_size": 32,
        "staging.subset": "random",
        "share 1": 0.0,
        "rate 1": 0.5,
        "share 2": 0.5,
        "rate 2": 0.5,
        "full share": 0.5,
    }
    assert study.trials[0].values == [0.75, 1.0]


def test_failed_and_shared_trials_are_told_and_repeats_are_left_out(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    shared = make_record("25pct-baseline-000", kind="baseline", shared_with="25pct-staged-001")
    shared = shared.model_copy(update={"trial": shared.trial.model_copy(update={"learning_rate": 4e-3 * (1 + 1e-16)})})
    failed = make_record("25pct-baseline-001", kind="baseline", status="failed", reason="diverged", outcome=None)
    repeat = make_record("25pct-baseline-000-seed1", kind="baseline", repeat_of="25pct-baseline-000")
    (tmp_path / "optuna.log").write_text("an old file\n")
    Dashboard(space, tmp_path / "optuna.log", [shared, failed, repeat])
    trials = opened(tmp_path / "optuna.log")["tiny 25pct-baseline"].trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL"]
    assert trials[0].user_attrs["shared_with"] == "25pct-staged-001"
    assert set(trials[0].params) == {"learning_rate", "batch_size"}
    assert math.isclose(trials[0].params["learning_rate"], 4e-3)
    assert trials[1].user_attrs == {"trial_id": "25pct-baseline-001", "seed": 0, "reason": "diverged"}


def test_optuna_says_again_what_it_said_before():
    before = optuna.logging.get_verbosity()
    with quiet_optuna():
        assert optuna.logging.get_verbosity() >= optuna.logging.WARNING
    assert optuna.logging.get_verbosity() == before


def test_a_proxy_has_studies_of_its_own(space_file, tmp_path):
    space = SearchSpace.model_validate({**SearchSpace.load(space_file).model_dump(), "proxy": {"images": 0.5}})
    dashboard = Dashboard(space, tmp_path / "optuna.log")
    dashboard.add(record(two_stages(0.3, heads=0.25), "proxy1-25pct-staged-000", proxy=1))
    dashboard.add(record(two_stages(0.3, heads=0.25), from_proxy="promoted"))
    studies = opened(tmp_path / "optuna.log")
    assert {name for name in studies if "proxy" in name} == {"tiny proxy1-25pct-staged", "tiny proxy1-50pct-staged"}
    assert [trial.user_attrs["trial_id"] for trial in studies["tiny proxy1-25pct-staged"].trials] == ["proxy1-25pct-staged-000"]
    assert [trial.user_attrs.get("from_proxy") for trial in studies["tiny 25pct-staged"].trials] == ["promoted"]

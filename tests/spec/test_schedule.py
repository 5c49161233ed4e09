import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from explorer import Budget, InvalidInput, Rates, Schedule, Stage
from explorer.spec import Provenance, TaskSpec
from explorer.spec.rates import shown_axes


def stage(rate: float, ratio: float) -> Stage:
    return Stage(rates=Rates(heads=rate, mlp=rate, tokens=rate), duration_ratio=ratio)


@pytest.mark.parametrize("rate", [0, -0.5, 1.01, float("nan")])
def test_rates_outside_zero_to_one_are_refused(rate):
    with pytest.raises(ValueError, match="heads"):
        Rates(heads=rate)


def test_rates_that_fall_are_refused_with_the_stage_named():
    with pytest.raises(ValueError, match=r"stages\.3\.rates.*must not fall"):
        Schedule(stages=(stage(0.25, 0.2), Stage(rates=Rates(heads=0.5), duration_ratio=0.3), stage(1, 0.2), stage(0.5, 0.3)))


def test_a_rate_that_falls_on_one_axis_only_is_refused():
    rising = Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5)
    falling = Stage(rates=Rates(heads=1, mlp=0.25), duration_ratio=0.3)
    with pytest.raises(ValueError, match="must not fall"):
        Schedule(stages=(rising, falling, stage(1, 0.2)))


def test_ratios_must_sum_to_one():
    with pytest.raises(ValueError, match=r"sum to 0\.9 and must sum to 1"):
        Schedule(stages=(stage(0.5, 0.4), stage(1, 0.5)))


def test_the_last_stage_must_be_the_full_model_with_a_duration():
    with pytest.raises(ValueError, match="must be the full model"):
        Schedule(stages=(stage(0.25, 0.5), stage(0.5, 0.5)))
    with pytest.raises(ValueError, match="duration_ratio above 0"):
        Schedule(stages=(stage(0.25, 1.0), stage(1, 0.0)))


@pytest.mark.parametrize(
    ("ratios", "slots"),
    [
        ((0.3, 0.3, 0.4), (6, 6, 8)),
        ((0.333333, 0.333333, 0.333334), (7, 6, 7)),  # 6.67 each; the two largest remainders, then the first
        ((0.99, 0.01), (19, 1)),  # the full model gets at least one slot
        ((0.024, 0.026, 0.95), (0, 1, 19)),
    ],
)
def test_durations_are_rounded_to_slots_by_the_largest_remainder(ratios, slots):
    rates = [0.25, 0.5, 1][-len(ratios) :]
    schedule = Schedule(stages=tuple(stage(rate, ratio) for rate, ratio in zip(rates, ratios, strict=True)))
    assert schedule.slots() == slots


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 50), st.integers(6, 60))
def test_slots_always_sum_to_the_grid(weights, last, grid):
    weights = [*weights[: grid - 1], last]
    rates = [(i + 1) / len(weights) for i in range(len(weights))]
    if len(weights) > grid:
        return
    schedule = Schedule(
        stages=tuple(stage(rate, weight / sum(weights)) for rate, weight in zip(rates, weights, strict=True)), grid=grid
    )
    slots = schedule.slots()
    assert sum(slots) == grid
    assert slots[-1] >= 1
    assert min(slots) >= 0
    assert all(abs(count - s.duration_ratio * grid) < 1 + 1e-4 for count, s in zip(slots[:-1], schedule.stages, strict=False))


def measured(schedule: Schedule, task: TaskSpec | None) -> Schedule:
    provenance = Provenance(
        sweep="s",
        trial="t",
        budget=Budget.parse("25%"),
        model="vit",
        seed=3,
        learning_rate=1e-3,
        batch_size=16,
        validation=0.9,
        task=task,
        versions={"torch": "2.15.0"},
    )
    return schedule.model_copy(update={"provenance": provenance})


@pytest.mark.parametrize("name", ["schedule.json", "schedule.yaml"])
def test_files_round_trip_with_provenance(tmp_path, name, three_stages, tiny_spec):
    schedule = measured(three_stages, tiny_spec)
    loaded = Schedule.load(schedule.save(tmp_path / name))
    assert loaded == schedule
    assert loaded.provenance.budget == Budget(0.25)


@pytest.mark.parametrize("name", ["schedule.json", "schedule.yaml"])
def test_files_keep_what_was_set_to_nothing(tmp_path, name, three_stages, tiny_spec):
    """`explorer init` writes both: without them, a training with the same search space was told that it is another task."""
    content = tiny_spec.model_dump(mode="json")
    content["data"] = {"name": "folder", "root": "x", "image_size": 64, "test_split": None}
    content["recipe"]["augmentation"] = {"transform": {"hflip": 0.5, "color_jitter": None}}
    task = TaskSpec.model_validate(content)
    file = measured(three_stages, task).save(tmp_path / name)
    assert Schedule.load(file).provenance.task == task
    written = yaml.safe_load(file.read_text())["provenance"]
    assert written["task"]["data"]["test_split"] is None
    assert "validation_split" not in written["task"]["data"]  # whose default it is
    assert "mean_test" not in written


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("data", "workers", r"provenance\.task: data\.workers: 'workers': unknown key; did you mean 'num_workers'"),
        ("recipe", "curve", r"provenance\.task: recipe\.curve: 'curve': unknown key"),
    ],
)
def test_a_task_of_another_release_is_dropped_with_a_warning(tmp_path, three_stages, tiny_spec, section, key, message):
    data = measured(three_stages, tiny_spec).to_dict()
    data["provenance"]["task"][section][key] = 1
    path = tmp_path / "s.json"
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match=f"task of this schedule cannot be read and is ignored: .*{message}") as caught:
        loaded = Schedule.load(path)
    assert loaded == measured(three_stages, None)
    assert [("\n" in str(each.message), each.filename) for each in caught] == [(False, __file__)]


def test_an_error_in_the_provenance_itself_is_an_error(three_stages, tiny_spec):
    data = measured(three_stages, tiny_spec).to_dict()
    data["provenance"]["seed"] = "three"
    with pytest.raises(InvalidInput, match=r"provenance\.seed: 'three'"):
        Schedule.from_dict(data)


def test_the_file_says_what_it_is(tmp_path, three_stages):
    content = json.loads(three_stages.save(tmp_path / "s.json").read_text())
    assert (content["schema"], content["version"]) == ("vit-budget-explorer/schedule", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "not a schedule file"),
        ("name: digits", "not a schedule file"),
        ("{", "must be JSON or YAML"),
        ("schema: vit-budget-explorer/schedule\nversion: 1", "reads version 2"),
        ("schema: vit-budget-explorer/schedule\nversion: 2", "this key is required"),
    ],
)
def test_a_file_that_is_not_a_schedule_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        Schedule.load(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_names_the_nearest_valid_one(tmp_path, three_stages):
    data = three_stages.to_dict()
    data["stages"][1]["rates"]["head"] = data["stages"][1]["rates"].pop("heads")
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InvalidInput, match=r"stages\.1\.rates\.head.*did you mean 'heads'"):
        Schedule.load(path)


def test_yaml_cannot_construct_objects(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InvalidInput):
        Schedule.load(path)


def test_depth_is_shown_only_where_it_is_reduced():
    assert str(Rates(heads=0.5, mlp=0.5, tokens=0.5)) == "all 0.5"
    assert str(Rates(depth=0.5)) == "all 1 depth 0.5"
    assert shown_axes([Rates(heads=0.5)]) == ("heads", "mlp", "tokens")
    assert shown_axes([Rates(), Rates(depth=0.5)]) == ("heads", "mlp", "tokens", "depth")


def test_stages_without_the_new_fields_are_written_as_before(three_stages):
    """Keys and files of earlier releases."""
    stage = three_stages.model_dump()["stages"][0]
    assert list(stage) == ["rates", "duration_ratio"]
    assert list(three_stages.to_dict()) == ["schema", "version", "stages", "grid"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"rates": {}}], r"stages\.0: .*duration_ratio: this key is required \(or epochs\)"),
        ([{"rates": {}, "duration_ratio": 1, "epochs": 3}], r"stages\.0: .*only one of them says how long"),
        (
            [{"rates": {"mlp": 0.5}, "duration_ratio": 0.5}, {"rates": {}, "epochs": 3}],
            r"all of them must have a duration_ratio",
        ),
        ([{"rates": {"mlp": 0.5}, "epochs": 3}, {"rates": {}, "epochs": 0}], r"the full model, must have epochs above 0"),
        ([{"rates": {}, "epochs": -1}], r"stages\.0\.epochs: -1: Input should be greater than or equal to 0"),
        (
            [{"rates": {}, "epochs": 3, "batch_factor": 2}],
            r"the last stage has batch_factor 2, but must have the recipe's batch",
        ),
        ([{"rates": {}, "epochs": 3, "batch_factor": 0}], r"stages\.0\.batch_factor: 0: Input should be greater than 0"),
        (
            [{"rates": {}, "epochs": 3, "augmentation": {"mixup": 0.5}}],
            r"the last stage has augmentation mixup x0\.5, but must",
        ),
        (
            [{"rates": {}, "epochs": 3, "augmentation": {"mixup": 2}}],
            r"stages\.0\.augmentation\.mixup: 2: .*less than or equal to 1",
        ),
        (
            [{"rates": {}, "epochs": 3, "augmentation": {"mix": 1}}],
            r"stages\.0\.augmentation\.mix: 'mix': unknown key; did you",
        ),
    ],
)
def test_bad_stages_are_refused_in_one_line(stages, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        Schedule.from_dict({"schema": "vit-budget-explorer/schedule", "version": 2, "stages": stages})
    assert "\n" not in str(refused.value)


def test_a_staging_that_does_not_exist_is_refused():
    content = {"schema": "vit-budget-explorer/schedule", "version": 2, "stages": [{"rates": {}, "epochs": 3}]}
    with pytest.raises(InvalidInput, match="staging: token_polcy: 'token_polcy': unknown key; did you mean 'token_policy'"):
        Schedule.from_dict({**content, "staging": {"token_polcy": "resize"}})


def test_shares_of_stages_in_epochs_are_not_known():
    schedule = Schedule(stages=(Stage(rates=Rates(), epochs=3),))
    assert schedule.in_epochs
    with pytest.raises(InvalidInput, match=r"schedule: epochs: 3\.0: must be shares of the cost"):
        schedule.slots()

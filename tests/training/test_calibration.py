import json

import pytest
import torch

from explorer import Budget, InvalidInput, Rates, compile_plan
from explorer.spec.task import TaskSpec
from explorer.training.calibration import Calibration
from explorer.training.loop import train
from explorer.training.task import Task

HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)


@pytest.fixture
def measured(tiny_task, three_stages):
    return Calibration.measure(tiny_task, [stage.rates for stage in three_stages.stages], "cpu", seconds=0.5)


def test_a_calibration_is_saved_and_plans_in_seconds(measured, tiny_task, three_stages, tmp_path):
    loaded = Calibration.load(measured.save(tmp_path / "new" / "calibration.json"))
    assert loaded == measured
    assert [step.rates for step in loaded.steps] == [stage.rates for stage in three_stages.stages]
    cost = loaded.step_cost(tiny_task, "cpu")
    assert cost(Rates()).flops == tiny_task.step_cost(Rates()).flops
    assert cost(HALF).seconds > 0
    assert cost(Rates(heads=0.75)).seconds is None
    compiled = compile_plan(three_stages, tiny_task, Budget.parse("1 CPU-second"), cost)
    assert 0 <= 1 - compiled.seconds < cost(Rates()).seconds
    result = train(tiny_task, compiled, seed=0)
    assert result.steps == compiled.steps


def test_a_calibration_of_another_setting_is_refused(measured, tiny_task, tiny_spec):
    other = Task(tiny_spec.with_settings(1e-3, 16))
    with pytest.raises(InvalidInput, match=r"calibration: 'recipe\.batch_size': was measured with 32, and this is 16"):
        measured.step_cost(other, "cpu")
    torch.set_num_threads(2)
    with pytest.raises(InvalidInput, match="calibration: 'threads': was measured with 1, and this is 2"):
        measured.step_cost(tiny_task, "cpu")
    torch.set_num_threads(1)
    elsewhere = measured.model_copy(update={"setting": measured.setting.model_copy(update={"device": "NVIDIA H200"})})
    with pytest.raises(InvalidInput, match="calibration: 'device': was measured with 'NVIDIA H200', and this is 'cpu'"):
        elsewhere.step_cost(tiny_task, "cpu")


def test_a_calibration_of_another_number_of_processes_is_refused(measured, tiny_task):
    with pytest.raises(InvalidInput, match="calibration: 'processes': was measured with 1, and this is 2"):
        measured.step_cost(tiny_task, "cpu", processes=2)
    of_two = measured.model_copy(update={"setting": measured.setting.model_copy(update={"processes": 2})})
    with pytest.raises(InvalidInput, match="calibration: 'processes': was measured with 2, and this is 1"):
        of_two.step_cost(tiny_task, "cpu")
    # A step of two devices costs twice its seconds.
    cost, single = of_two.step_cost(tiny_task, "cpu", processes=2)(HALF), measured.step_cost(tiny_task, "cpu")(HALF)
    assert (cost.seconds, cost.input_seconds) == (2 * single.seconds, 2 * single.input_seconds)


def test_machines_of_a_cluster_check_the_device_themselves(measured, tiny_task):
    elsewhere = measured.model_copy(update={"setting": measured.setting.model_copy(update={"device": "NVIDIA H200"})})
    assert elsewhere.step_cost(tiny_task, "cpu", other_machine=True)(HALF).seconds > 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"recipe": {"accumulation": 2}}, r"'recipe\.accumulation': was measured with 1, and this is 2"),
        ({"recipe": {"ema_decay": 0.9}}, r"'recipe\.ema_decay': was measured with None, and this is 0.9"),
        ({"recipe": {"clip_grad": None}}, r"'recipe\.clip_grad'"),
        ({"recipe": {"augmentation": {"flip": True}}}, r"'recipe\.augmentation\.flip'"),
        ({"data": {"num_workers": 2}}, r"'data\.num_workers': was measured with 0, and this is 2"),
        ({"data": {"image_size": 10}}, r"'data\.image_size'"),
        ({"staging": {"token_policy": "resize"}}, r"'staging\.token_policy'"),
    ],
)
def test_everything_that_changes_the_time_of_a_step_must_be_the_same(measured, tiny_spec, changes, field):
    content = tiny_spec.model_dump()
    for part, values in changes.items():
        content[part] |= values
    with pytest.raises(InvalidInput, match=f"calibration: {field}"):
        measured.step_cost(Task(TaskSpec.model_validate(content)), "cpu")


def test_length_and_learning_rate_may_differ(measured, tiny_spec):
    recipe = tiny_spec.recipe.model_copy(update={"epochs": 9.0, "learning_rate": 1.0, "weight_decay": 0.3})
    assert measured.step_cost(Task(tiny_spec.model_copy(update={"recipe": recipe})), "cpu")(Rates()).seconds > 0


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1", "0"])
def test_impossible_seconds_are_refused(measured, tmp_path, seconds):
    path = measured.save(tmp_path / "c.json")
    path.write_text(path.read_text().replace(str(measured.steps[0].seconds), seconds))
    with pytest.raises(InvalidInput, match=r"steps\.0\.seconds"):
        Calibration.load(path)


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "other"}', '{"schema": "vit-budget-explorer/calibration"}', "[1]"])
def test_files_that_are_not_calibrations_are_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(InvalidInput):
        Calibration.load(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        Calibration.load(tmp_path / "missing.json")


def test_a_file_of_another_release_names_the_field(measured, tmp_path):
    path = measured.save(tmp_path / "c.json")
    content = json.loads(path.read_text())
    content["steps"][0]["seconds"] = "fast"
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=r"steps\.0\.seconds"):
        Calibration.load(path)

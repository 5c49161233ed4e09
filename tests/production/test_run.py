"""What a run writes into its folder, also when it is killed."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file

from explorer import InvalidInput, Schedule
from explorer.production import run_folder, run_status
from explorer.production.loggers import read_metrics
from explorer.production.model_folder import MODEL
from explorer.production.result import RESULT, RunResult
from explorer.production.run import WEIGHTS, Run, train_to_folder
from explorer.production.run_status import PROGRESS, BudgetBar, RunStatus
from explorer.spec.search_space import SearchSpace
from explorer.spec.task import TaskSpec
from explorer.training import saved_state
from explorer.training.calibration import setting_of
from explorer.training.progress import Progress, SegmentResult
from explorer.training.task import Task
from tests.conftest import quiet
from tests.docs.blocks import blocks
from tests.loggers.event_files import read_events
from tests.training.runs import planned


def run_of(task, plan, out) -> Run:
    return Run(task=task.spec, plan=plan, seed=0, threads=1, device="cpu", out=out)


def terminal() -> Console:
    """A terminal that writes to memory."""
    return Console(file=io.StringIO(), width=120, force_terminal=True, force_interactive=True)


def tensorboard(out):
    """What TensorBoard would show: (name, step) to value."""
    return {(name, step): value for name, step, value in read_events(out)}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_run_resumes_by_the_same_command_and_ends_in_the_same_bits(three_stages, space_file, tmp_path, explorer):
    task = Task(SearchSpace.load(space_file).task)
    plan = planned(task, three_stages)
    train_to_folder(run_of(task, plan, tmp_path / "straight"), quiet())
    schedule = three_stages.save(tmp_path / "schedule.json")
    command = ["train", "--schedule", str(schedule), "--task", str(space_file)]
    command += ["--budget", "50%", "--checkpoint-every", "0", "--out", str(tmp_path / "killed")]
    killed = subprocess.Popen([sys.executable, "-m", "explorer", *command])
    while len(read_metrics(tmp_path / "killed")) < 8:
        assert killed.poll() is None
        time.sleep(0.005)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / RESULT).exists()
    again = explorer(*command)
    assert again.returncode == 0, again.stderr
    weights = load_file(tmp_path / "killed" / WEIGHTS)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(tmp_path / "straight" / WEIGHTS).items())


def of_a_spreadsheet(path):
    """With a byte-order mark and semicolons."""
    path.write_text(path.read_text().replace(",", ";"), encoding="utf-8-sig")


def with_a_longer_row(path):
    path.write_text(path.read_text() + "1," * 30 + "\n")


def of_another_encoding(path):
    path.write_bytes("\N{DEGREE SIGN}\n".encode("latin-1"))


@pytest.fixture(scope="module")
def interrupted(tiny_spec, three_stages, tmp_path_factory):
    """The folder of a run that lost power after 7 of its 20 segments."""
    task, out = Task(tiny_spec), tmp_path_factory.mktemp("interrupted")
    save = saved_state.save_checkpoint

    def power_cut(path, content):
        save(path, content)
        if len(content["segments"]) == 7:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_state, "save_checkpoint", power_cut)
        with pytest.raises(KeyboardInterrupt):
            train_to_folder(run_of(task, planned(task, three_stages), out), quiet())
    return out


@pytest.mark.parametrize("change", [None, of_a_spreadsheet, with_a_longer_row, of_another_encoding])
def test_metrics_and_event_files_are_complete_after_an_interruption(interrupted, tiny_task, three_stages, tmp_path, change):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    compiled = planned(tiny_task, three_stages)
    run = run_of(tiny_task, compiled, tmp_path)
    if change:
        change(tmp_path / "metrics.csv")
    result = train_to_folder(run, quiet())

    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == len(compiled.segments) == 20
    assert [float(row["budget_time"]) for row in rows] == pytest.approx([(i + 1) / 20 for i in range(20)], abs=0.03)
    assert [int(float(row["step"])) for row in rows][-1] == compiled.steps == result.steps
    assert float(rows[-1]["cost"]) == pytest.approx(result.cost)
    assert [float(rows[0][axis]) for axis in ("heads", "mlp", "tokens", "depth")] == [0.25, 0.25, 0.25, 1.0]
    shown = tensorboard(tmp_path)
    for row in rows:
        assert shown["loss", int(float(row["step"]))] == pytest.approx(float(row["loss"]), rel=1e-6)
    assert shown["test_accuracy", compiled.steps] == pytest.approx(result.test)

    # A finished run that is started again logs everything again; nothing is lost.
    train_to_folder(run, quiet())
    assert tensorboard(tmp_path) == shown
    assert list(csv.DictReader((tmp_path / "metrics.csv").open())) == rows


def test_a_run_without_a_checkpoint_removes_the_metrics_of_an_earlier_one(tiny_task, three_stages, tmp_path):
    for budget in ("30%", "20%"):
        compiled = planned(tiny_task, three_stages, budget)
        train_to_folder(run_of(tiny_task, compiled, tmp_path), quiet())
        assert max(step for _, step in tensorboard(tmp_path)) == compiled.steps
        assert len(read_metrics(tmp_path)) == len(compiled.segments)
        for name in ("checkpoint.pt", "result.json"):
            (tmp_path / name).unlink()


def test_a_model_with_one_parameter_under_two_names_is_saved_for_plain_timm(tiny_spec, tmp_path):
    """CoaT's blocks of a stage share position encodings."""
    options = {"embed_dims": (16, 32, 32, 32), "serial_depths": (1, 1, 1, 1), "parallel_depth": 1, "num_heads": 8}
    change = {"model": {"name": "coat_tiny", "options": options}, "data": {"name": "digits", "image_size": 32}}
    task = Task(type(tiny_spec).model_validate({**tiny_spec.model_dump(), **change}))
    state = task.build_model().state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) < len(state)
    compiled = planned(task, Schedule.full_model(), "3%")
    result = train_to_folder(run_of(task, compiled, tmp_path), quiet())
    plain = timm.create_model(**result.timm_create_model, checkpoint_path=str(tmp_path / WEIGHTS))
    weights = load_file(tmp_path / WEIGHTS)
    assert weights.keys() == plain.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.state_dict().items())
    handed_over = timm.create_model(f"local-dir:{tmp_path / MODEL}", pretrained=True).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in handed_over.items())
    assert RunResult.load(tmp_path) == result


def test_weights_and_result_name_the_classes_and_the_pixels(image_folder, tmp_path, monkeypatch, capsys):
    """The recipe of the documentation loads them with plain timm and names the class of an image."""
    pixels = {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bilinear",
        "crop_pct": 0.8,
        "crop_mode": "center",
    }
    options = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    content = {
        "model": {"name": "vit_tiny_patch16_224", "options": options},
        "data": {"name": "folder", "root": str(image_folder), "image_size": 8, "preprocessing": pixels},
        "recipe": {"epochs": 12, "batch_size": 18, "learning_rate": 3e-3},
    }
    task = Task(TaskSpec.model_validate(content))
    compiled = planned(task, Schedule.full_model(), "100%")
    out = tmp_path / "runs" / "production"
    result = train_to_folder(run_of(task, compiled, out), quiet())
    assert result.test == 1  # bright and dark images
    expected = {"class_names": ["bright", "dark"], "image_size": 8, "channels": 3, "preprocessing": pixels}
    assert json.loads((out / RESULT).read_text())["model_input"] == expected
    with safe_open(out / WEIGHTS, "pt") as weights:
        metadata = weights.metadata()
    assert json.loads(metadata.pop("timm_create_model")) == result.timm_create_model
    assert metadata == {
        "format": "pt",
        "class_names": '["bright", "dark"]',
        "image_size": "8",
        "channels": "3",
        "mean": "[0.4, 0.5, 0.6]",
        "std": "[0.2, 0.3, 0.4]",
        "interpolation": "bilinear",
        "crop_pct": "0.8",
        "crop_mode": "center",
    }

    monkeypatch.chdir(tmp_path)
    (recipe,) = [b for b in blocks("docs/howto/production.md") if b.language == "python" and "class_names" in b.text]
    for name in ("dark", "bright"):
        shutil.copy(image_folder / "validation" / name / "000.png", "photo.jpg")
        namespace = {}
        exec(recipe.code, namespace)
        assert capsys.readouterr().out.split()[-1] == name
    evaluated = next(task.data.evaluation_batches("test", torch.device("cpu")))[0][0]
    image = Image.open(image_folder / "validation" / "bright" / "000.png").convert("RGB")
    assert torch.equal(namespace["transform"](image), evaluated)


def test_the_time_left_is_that_of_the_cost_left(tiny_task, three_stages, tmp_path):
    """A quarter of the cost took 50 s: 150 s are left."""
    compiled = planned(tiny_task, three_stages)
    done = SegmentResult(stage=1, steps=1, flops=compiled.flops // 4, mean_loss=1.25, seconds=50.0)
    status = RunStatus.of(Progress(compiled, unfinished=done))
    assert status.seconds_left == pytest.approx(150, rel=1e-6)
    assert (status.spent, status.cost) == pytest.approx((0.25, 0.25 * compiled.cost), rel=1e-6)
    status.save(tmp_path)
    assert RunStatus.read(tmp_path) == status

    console = terminal()
    with BudgetBar(console) as bar:
        bar.show(status)
    assert "25% of the budget, 0:02:30 left" in console.file.getvalue()
    console = quiet()
    with BudgetBar(console) as bar:
        for _ in range(3):
            bar.show(status)
    line = f"25% of the budget, stage 2, loss 1.250, 0:02:30 left, cost {status.cost:.3%} of full training\n"
    assert console.file.getvalue() == line


def test_a_run_prints_its_device_and_progress(tiny_task, three_stages, tmp_path, monkeypatch):
    monkeypatch.setattr(run_status, "PRINT_INTERVAL_SECONDS", 0.0)
    console = quiet()
    compiled = planned(tiny_task, three_stages)
    train_to_folder(run_of(tiny_task, compiled, tmp_path), console)
    first, *lines = console.file.getvalue().splitlines()
    assert first == "training on the CPU, 1 thread"
    assert len(lines) == len(compiled.segments)  # each has fewer steps than there are between loss checks
    assert re.fullmatch(
        r"100% of the budget, stage 3, loss \d\.\d{3}, 0:00:00 left, cost 4\d\.\d{3}% of full training", lines[-1]
    )
    assert not (tmp_path / PROGRESS).exists()


def test_two_trainings_do_not_write_into_one_folder(tiny_task, three_stages, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE_SECONDS", 0.2)
    run = run_of(tiny_task, planned(tiny_task, three_stages, "20%"), tmp_path / "run")
    code = "import sys, time; from explorer.production.run_folder import *; from pathlib import Path\n"
    code += "with only_run(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", code, str(run.out)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InvalidInput, match=rf"out: .*another training \(.*:{other.pid}\) writes into it"):
            train_to_folder(run, quiet())
        assert [path.name for path in run.out.iterdir()] == [run_folder.LOCK]
    finally:
        other.kill()
        other.wait()
    assert train_to_folder(run, quiet()).steps > 0  # the lock of a killed process is gone


def test_a_refused_run_shows_and_changes_nothing(tiny_task, three_stages, tmp_path):
    train_to_folder(run_of(tiny_task, planned(tiny_task, three_stages, "20%"), tmp_path), quiet())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    console = terminal()
    with pytest.raises(InvalidInput, match=r"'budget': differs from the run .*: it was '20%' and is now '10%'"):
        train_to_folder(run_of(tiny_task, planned(tiny_task, three_stages, "10%"), tmp_path), console)
    assert console.file.getvalue() == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_step_times_of_another_device_are_refused_where_the_run_trains(tiny_task, three_stages, tmp_path):
    setting = setting_of(tiny_task, "cpu").model_copy(update={"device": "NVIDIA H200"})
    run = replace(run_of(tiny_task, planned(tiny_task, three_stages), tmp_path / "run"), calibrated=setting)
    with pytest.raises(InvalidInput, match="calibration: 'device': was measured with 'NVIDIA H200', and this is 'cpu'"):
        train_to_folder(run, quiet())
    assert not (tmp_path / "run").exists()

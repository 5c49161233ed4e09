"""A folder that is not ours, or holds another run, is refused in one line, and nothing in it changes."""

import json
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch

from explorer import InvalidInput, StagedTraining
from explorer.production.run import Run, train_to_folder
from explorer.production.run_status import RunStatus
from tests.conftest import quiet
from tests.production.conftest import SETTINGS, WIDTHS, tiny_model
from tests.training.runs import planned


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tiny_task, three_stages, tmp_path):
    plan = planned(tiny_task, three_stages.model_copy(update={"grid": 4}), "5%")
    return Run(task=tiny_task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path / "run")


def put(name, content="{}"):
    """Write a file of somebody else's."""

    def into(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return into


def torch_file(content):
    return lambda folder: torch.save(content, folder / "checkpoint.pt")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (torch_file({"state_dict": {"a": torch.ones(2)}, "epoch": 3}), "was not written by this tool; choose another folder"),
        (torch_file({"version": 4, "model": {}}), "was not written by this tool; choose another folder"),
        (torch_file([1, 2]), "was not written by this tool; choose another folder"),
        (torch_file({"version": 4, "args": Namespace(lr=1)}), "as those of other programs do; choose another folder"),  # timm's
        (put("checkpoint.pt", "text"), "as those of other programs do; choose another folder"),
        (put("model/config.json"), "has a model that this command did not write; nothing is overwritten"),
        (put("weights.safetensors"), "has a weights.safetensors that this command did not write"),
        (put("result.json"), "has a result.json that this command did not write"),
        (put("events.out.tfevents.1.host"), "has a events.out.tfevents.1.host that this command did not write"),
        (put("checkpoints/last.ckpt"), "has a checkpoints that this command did not write"),
    ],
)
def test_files_of_other_programs_are_left_alone(run, prepare, reason):
    run.out.mkdir()
    prepare(run.out)
    before = contents(run.out)
    with pytest.raises(InvalidInput, match=reason) as refused:
        train_to_folder(run, quiet())
    assert "\n" not in str(refused.value)
    assert contents(run.out) == before


def test_a_file_in_place_of_the_folder_is_refused(run):
    run.out.write_text("notes")
    with pytest.raises(InvalidInput, match="is a file, and must be a folder"):
        train_to_folder(run, quiet())
    assert run.out.read_text() == "notes"


def test_other_files_beside_those_of_a_run_do_not_matter(run):
    run.out.mkdir()
    (run.out / "notes.txt").write_text("keep")
    (run.out / "task.yaml").write_text("keep")
    train_to_folder(run, quiet())
    assert {(run.out / name).read_text() for name in ("notes.txt", "task.yaml")} == {"keep"}


def test_results_of_another_run_are_never_replaced(run, tiny_task, three_stages):
    result = train_to_folder(run, quiet())
    other = Run(**{**vars(run), "seed": 1})
    before = contents(run.out)
    with pytest.raises(InvalidInput, match=r"'seed': differs from the run that wrote this checkpoint: it was 0 and is now 1"):
        train_to_folder(other, quiet())
    (run.out / "checkpoint.pt").unlink()  # as the line says; the results stay nevertheless
    for again in (run, other):
        with pytest.raises(InvalidInput, match=r"has the results of a finished run \(budget 5%, seed 0\), whose checkpoint"):
            train_to_folder(again, quiet())
    assert contents(run.out) == {path: data for path, data in before.items() if path.name != "checkpoint.pt"}
    (run.out / "result.json").unlink()
    assert train_to_folder(other, quiet()).seed != result.seed


def test_a_result_of_somebody_elses_beside_a_checkpoint_is_refused(run):
    train_to_folder(run, quiet())
    (run.out / "result.json").write_text(json.dumps({"accuracy": 1.0}))
    with pytest.raises(InvalidInput, match=r"result\.json.*'accuracy': unknown key"):
        train_to_folder(run, quiet())


def test_a_progress_file_of_somebody_elses_is_no_status(tmp_path):
    for content in ("[]", "{}", '{"epoch": 3}', "half", "1"):
        (tmp_path / "progress.json").write_text(content)
        assert RunStatus.read(tmp_path) is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        OrderedDict(weight=torch.ones(2)),
        {"state_dict": {}, "epoch": 3, "global_step": 5},
        {"begun": "3", "plan": "x", "orders": {}},
        {"begun": 3, "plan": 7, "orders": {}},
    ],
)
def test_a_state_that_is_not_a_schedules_is_refused_in_one_line(state):
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters())
    training = StagedTraining(model, optimizer, WIDTHS, **SETTINGS)
    for other in (state, optimizer.state_dict()):
        with pytest.raises(InvalidInput, match=r"^state") as refused:
            training.load_state_dict(other)
        assert "\n" not in str(refused.value)
    assert training.begun == 0


def test_the_command_refuses_with_exit_code_2(explorer, space_file, three_stages, tmp_path):
    schedule = three_stages.save(tmp_path / "schedule.json")
    out = tmp_path / "timm"
    out.mkdir()
    torch_file({"state_dict": {}, "arch": "vit_tiny_patch16_224"})(out)
    before = contents(out)
    done = explorer("train", "--schedule", schedule, "--task", space_file, "--budget", "5%", "--out", out)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"explorer: {out / 'checkpoint.pt'}: 'checkpoint': was not written by this tool")
    assert contents(out) == before

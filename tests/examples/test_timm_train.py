"""The launcher of timm's train.py, with a short script that makes the same calls, and with the real one if TIMM_TRAIN is set."""

import io
import json
import os
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import timm.data
import timm.optim
import timm.scheduler
import timm.utils
import torch

SCRIPT = Path(__file__).with_name("timm_script.py")
OPTIONS = (
    "--model vit_tiny_patch16_224 --input-size 3 16 16 --num-classes 2 -b 8 --opt adamw --lr 1e-3 --device cpu --no-prefetcher"
)
MODEL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
REPLACED = (
    (timm.data, "create_dataset"),
    (timm.optim, "create_optimizer_v2"),
    (timm.utils, "init_distributed_device"),
    (timm.scheduler, "create_scheduler_v2"),
    (timm.utils, "CheckpointSaver"),
)
pytestmark = pytest.mark.filterwarnings("ignore")  # timm's own warnings


def exit_code_of_launcher():
    """Run the launcher in this process with `sys.argv`."""
    try:
        runpy.run_path("examples/timm_train.py", run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def launched(output, schedule, images, experiment, *more, budget="50%", script=SCRIPT):
    """Run the launcher with a schedule in this process.

    Returns:
        Its exit code.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, name in REPLACED:
            patch.setattr(module, name, getattr(module, name))  # the launcher replaces it, and it is put back at the end
        file = schedule.save(output / "schedule.json")
        arguments = [*OPTIONS.split(), "--model-kwargs", *(f"{name}={value}" for name, value in MODEL.items())]
        folders = ["--data-dir", str(images), "--output", str(output), "--experiment", experiment]
        launcher = ["timm_train", "--schedule", str(file), "--budget", budget, "--lr-schedule", "linear", "--warmup", "0"]
        patch.setattr(sys, "argv", [*launcher, str(script), *arguments, *folders, *more])
        return exit_code_of_launcher()


@pytest.fixture
def launch(tmp_path, three_stages, image_folder, capsys):
    def run(experiment, *more, **options):
        return launched(tmp_path, three_stages, image_folder, experiment, *more, **options), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def straight(tmp_path_factory, three_stages, image_folder):
    """The folder of a run of four epochs without interruption, with what it printed in `printed`."""
    output, printed = tmp_path_factory.mktemp("output"), io.StringIO()
    with redirect_stdout(printed):
        assert launched(output, three_stages, image_folder, "straight", "--epochs", "4") == 0
    (output / "straight" / "printed").write_text(printed.getvalue())
    return output / "straight"


def weights(path):
    return torch.load(path, weights_only=False)["state_dict"]


def test_the_scripts_epochs_are_full_training_and_its_checkpoints_contain_the_full_model(straight):
    printed = (straight / "printed").read_text()
    # 60 images, of which 7 batches of 8 are used (drop_last), and 4 epochs: full training has 28 updates.
    seen = json.loads((straight / "seen.json").read_text())
    updates, epochs = int(printed.split()[1]), int(printed.split()[4])
    assert epochs == -(-updates // 7)
    assert len(seen) == epochs * 7
    widths = [width for width, _ in seen]
    assert widths == sorted(widths)
    assert set(widths) == {32, 64, 128}
    # The last stage gets .4 of half of that.
    assert widths[:updates].count(128) == pytest.approx(5.6, abs=1.5)
    rates = [rate for _, rate in seen]
    assert rates[0] == 1e-3
    assert rates[:updates] == sorted(rates[:updates], reverse=True)
    assert rates[updates - 1] < 3e-4
    assert set(rates[updates:]) <= {0.0}

    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **MODEL)
    model.load_state_dict(weights(straight / "checkpoint-0.pth.tar"))  # the first stage trains a smaller model


def test_it_resumes_from_a_checkpoint(launch, straight, tmp_path):
    seen = json.loads((straight / "seen.json").read_text())
    code, *_ = launch("resumed", "--epochs", "4", "--resume", str(straight / "checkpoint-1.pth.tar"))
    assert code == 0
    assert json.loads((tmp_path / "resumed" / "seen.json").read_text()) == seen[2 * 7 :]
    code, _, errors = launch("other", "--epochs", "5", "--resume", str(straight / "checkpoint-1.pth.tar"))
    assert code == 2
    assert errors.strip() == "timm_train: state: 'plan': belongs to another schedule, budget, model, batch size or full_steps"


def test_a_run_killed_twice_in_mid_epoch_makes_every_update(launch, straight, tmp_path):
    """train.py resumes with the next epoch: it then needs more epochs, and the learning rate still ends at zero."""
    seen = json.loads((straight / "seen.json").read_text())
    planned = next(number for number, (_, rate) in enumerate(seen) if rate == 0)  # the last epoch may be longer than the plan
    done, resume = [], []
    for number, stop_after in enumerate((3, 8, 0)):
        name = f"killed{number}"
        stop = ["--recovery-interval", "1", "--stop-after", str(stop_after)]
        code, *_ = launch(name, "--epochs", "4", *resume, *stop)
        done += json.loads((tmp_path / name / "seen.json").read_text())
        if stop_after:
            ended = f"timm_train: the script ended after {len(done)} of the {planned} updates of the schedule"
            assert code == f"{ended}; resume it with --resume"  # as text, with which Python exits with 1
            latest = max((tmp_path / name).glob("recovery-*.pth.tar"), key=lambda path: path.stat().st_mtime_ns)
            model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **MODEL)
            model.load_state_dict(weights(latest))
            resume = ["--resume", str(latest)]
    assert code == 0
    assert done[:planned] == seen[:planned]
    assert {rate for _, rate in done[planned:]} <= {0.0}


def test_the_best_checkpoint_is_one_of_the_last_stage(straight):
    """The script's metric falls with each epoch, so the first evaluation would be the best one."""
    best = torch.load(straight / "model_best.pth.tar", weights_only=False)
    seen = json.loads((straight / "seen.json").read_text())
    widths_at_epoch_ends = [width for width, _ in seen[6::7]]
    assert best["epoch"] == widths_at_epoch_ends.index(128) > 0


def test_accumulated_batches_are_one_update(launch, tmp_path):
    launch("halves", "--epochs", "4", "--grad-accum-steps", "2")
    seen = json.loads((tmp_path / "halves" / "seen.json").read_text())
    assert len(seen) % 4 == 0  # 7 batches are 4 updates
    assert seen[0][0] < seen[-1][0] == 128


def test_invalid_options_end_in_one_line(launch):
    code, _, errors = launch("ema", "--model-ema")
    assert code == 2
    assert errors.strip().splitlines()[-1].startswith("timm_train: --model-ema: True: must be left out")
    code, _, errors = launch("budget", budget="-5%")
    assert code == 2
    assert "budget" in errors
    code, _, errors = launch("nowhere", script="nowhere/train.py")
    assert code == 2
    assert errors.startswith("timm_train: script: 'nowhere/train.py': there is no such file")


def test_a_script_without_timms_scheduler_has_not_executed_the_schedule(launch, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("print('trained')")
    code, printed, errors = launch("other", script=script)
    assert (printed, code) == (
        "trained\n",
        "timm_train: the script ended without the scheduler of timm's create_scheduler_v2: no schedule was executed",
    )
    assert errors.startswith("timm_train: warning: not the train.py that this launcher was tried with: it does not call init_")


def test_it_resumes_from_whatever_is_there_or_begins_anew(launch, tmp_path):
    """`--resume auto`, which train.py has since timm 1.0.31."""
    automatic = ["--epochs", "4", "--resume", "auto"]
    code, _, errors = launch("run", *automatic, "--stop-after", "9")
    assert (code[:39], errors) == ("timm_train: the script ended after 9 of", "")
    code, printed, errors = launch("run", *automatic)
    assert (code, errors) == (0, "")
    assert printed.startswith("schedule: ")
    assert printed.split()[1] == str(int(printed.split()[3]) - 7)  # from the end of the first epoch
    code, printed, _ = launch("run", *automatic)
    assert code == 0
    assert printed.startswith("schedule: 0 of ")


@pytest.mark.skipif("TIMM_TRAIN" not in os.environ, reason="needs TIMM_TRAIN=/path/to/train.py, from timm's repository")
def test_the_real_script(launch, tmp_path):
    script = os.environ["TIMM_TRAIN"]
    assert launch("straight", "--epochs", "4", "-j", "0", script=script)[0] == 0
    checkpoint = tmp_path / "straight" / "checkpoint-0.pth.tar"
    timm.create_model("vit_tiny_patch16_224", num_classes=2, **MODEL).load_state_dict(weights(checkpoint))
    assert launch("resumed", "--epochs", "4", "-j", "0", "--resume", str(checkpoint), script=script)[0] == 0
    ends = [weights(tmp_path / name / "last.pth.tar") for name in ("straight", "resumed")]
    assert all(first.shape == second.shape for first, second in zip(*map(dict.values, ends), strict=True))

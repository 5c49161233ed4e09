"""The command line, as users run it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image

from explorer import Schedule, SearchSpace, cli
from explorer.ledger import Ledger
from explorer.report.watch import follow
from explorer.spec.step_times import StepTime
from explorer.training.calibration import Calibration, setting_of
from explorer.training.task import Task
from tests.conftest import wait_until
from tests.ledger.test_ledger import make_header, make_record


@dataclass
class Finished:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def explorer(capsys, monkeypatch):
    """Run the command line in this process: a new one would import torch for ten seconds."""

    def run(*arguments, cwd=None) -> Finished:
        monkeypatch.setattr(sys, "argv", ["explorer", *map(str, arguments)])
        if cwd:
            monkeypatch.chdir(cwd)
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Finished(code, *capsys.readouterr())

    return run


def assert_refused(done, *words):
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


TRAIN = ("train", "--schedule", "paper", "--task", "{space}", "--budget", "50%")


@pytest.fixture
def schedule_file(tmp_path, three_stages) -> Path:
    return three_stages.save(tmp_path / "schedule.yaml")


@pytest.fixture
def sweep(tmp_path) -> Ledger:
    ledger = Ledger(tmp_path / "sweeps" / "s")
    ledger.create(make_header())
    ledger.append(make_record("a", validation=0.9, test=0.88))
    ledger.append(make_record("base", kind="baseline", validation=0.7, test=0.71))
    return ledger


def test_weights_that_cannot_be_downloaded_stop_a_training_before_it_starts(explorer, space_file, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    content = yaml.safe_load(space_file.read_text())
    content["model"]["pretrained"] = True
    space_file.write_text(yaml.safe_dump(content))
    arguments = [each.format(space=space_file) for each in TRAIN]
    assert_refused(explorer(*arguments, "--out", tmp_path / "run"), "model.pretrained", "cannot be loaded")
    assert not (tmp_path / "run").exists()
    planned = explorer("plan", *arguments[1:])  # which needs no weights
    assert planned.returncode == 0, planned.stderr


def test_plan_prints_the_table(explorer, space_file, schedule_file, tmp_path):
    done = explorer("plan", "--schedule", schedule_file, "--task", space_file, "--budget", "50%")
    assert done.returncode == 0, done.stderr
    summary, header, *rows = "\n".join(done.stdout.splitlines()[:4]), *done.stdout.splitlines()[4:]
    assert summary.startswith("data: digits, 10 classes: 0, 1, 2, 3, 4 and 5 more\n  train      1,149 images, ")
    for column in ("stage", "heads", "mlp", "tokens", "share", "epochs", "steps", "GFLOPs/step", "cost", "learning rate"):
        assert column in header
    assert [row.split()[:4] for row in rows[:3]] == [
        ["1", "0.25", "0.25", "0.25"],
        ["2", "0.5", "0.5", "0.5"],
        ["3", "1", "1", "1"],
    ]
    assert "of full training; " in done.stdout
    assert " GMACs-epochs)" in done.stdout
    numbers = tmp_path / "numbers.yaml"
    stages = [
        {"rates": {"heads": 2, "mlp": [48], "tokens": 9}, "duration_ratio": 0.5},
        {"rates": {}, "duration_ratio": 0.5},
    ]
    numbers.write_text(yaml.safe_dump({"schema": "vit-budget-explorer/schedule", "version": 2, "stages": stages}))
    done = explorer("plan", "--schedule", numbers, "--task", space_file, "--budget", "0.005 GMACs-epochs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[5].split()[:4] == ["1", "2", "[48]", "9"]
    assert " of 0.005 GMACs-epochs, " in done.stdout


def test_budgets_of_time_and_money_need_a_calibration(explorer, space_file, schedule_file, tmp_path):
    plan = ("plan", "--schedule", schedule_file, "--task", space_file)
    assert_refused(explorer(*plan, "--budget", "2 CPU-seconds"), "budget", "2 CPU-seconds", "explorer calibrate")
    assert_refused(explorer(*plan, "--budget", "$3"), "budget", "$3", "--price")
    file = tmp_path / "measured.json"
    done = explorer("calibrate", "--task", space_file, "--schedule", schedule_file, "--out", file)
    assert done.returncode == 0, done.stderr
    assert "ms/step" in done.stdout
    for budget, unit in ((("2 CPU-seconds",), "CPU"), (("$3", "--price", "5400"), "device")):  # 5,400 an hour: 3 buy 2 seconds
        done = explorer(*plan, "--calibration", file, "--budget", *budget)
        assert done.returncode == 0, done.stderr
        assert f"of 2 {unit}-seconds" in done.stdout
        assert "ms/step" in done.stdout
    refused = explorer(*plan, "--calibration", file, "--budget", "2 GPU-seconds")
    assert_refused(refused, "budget", "2 GPU-seconds", "training would run on a CPU of this machine", "CPU-hours, a share")
    assert_refused(explorer(*plan, "--budget", "25%", "--calibration", schedule_file), "calibration", "cannot be read")


def test_full_training_is_that_of_the_recipe_whatever_batch_a_schedule_was_measured_with(explorer, space_file, sweep, tmp_path):
    best, file = tmp_path / "best.json", tmp_path / "measured.json"
    assert explorer("best", sweep.location, "--budget", "25%", "--out", best).returncode == 0
    own = SearchSpace.load(space_file).task.recipe.batch_size
    batch = Schedule.load(best).provenance.batch_size
    assert batch != own
    done = explorer("calibrate", "--task", space_file, "--schedule", best, "--out", file)
    assert done.returncode == 0, done.stderr
    measured = Calibration.load(file)
    assert measured.setting.task.recipe.batch_size == own
    assert {step.batch_size or own for step in measured.steps} == {own, batch}
    planned = explorer("plan", "--schedule", best, "--task", space_file, "--calibration", file, "--budget", "2 CPU-seconds")
    assert planned.returncode == 0, planned.stderr


def test_a_stage_that_is_rounded_to_nothing_is_named(explorer, space_file, tmp_path):
    stages = [{"rates": {"heads": 0.5}, "duration_ratio": 0.01}, {"rates": {}, "duration_ratio": 0.99}]
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump({"schema": "vit-budget-explorer/schedule", "version": 2, "stages": stages, "grid": 10}))
    done = explorer("plan", "--schedule", short, "--task", space_file, "--budget", "50%")
    said = "stage 1 of 2 is not trained: its share of 50%, 0.01, is rounded to 0 of 10 slots or holds no whole step"
    assert (done.returncode, said in " ".join(done.stderr.split())) == (0, True), done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_plan_is_made_for_the_gpu_of_its_calibration_and_a_training_is_not(explorer, space_file, schedule_file, tmp_path):
    task = write_space(tmp_path / "gpu.yaml", space_file, resources={"gpus": 1})
    schedule, own = Schedule.load(schedule_file), Task(SearchSpace.load(task).task)
    own = Task(own.spec.with_compilation(False))
    setting = setting_of(own, "cpu").model_copy(update={"device": "NVIDIA H100", "versions": {"torch": "0", "timm": "0"}})
    steps = [StepTime(rates=stage.rates, seconds=0.01) for stage in schedule.stages]
    file = Calibration(setting=setting, steps=tuple(steps)).save(tmp_path / "h100.json")
    options = ("--schedule", schedule_file, "--task", task, "--budget", "0.2 GPU-seconds")
    planned = explorer("plan", *options, "--calibration", file)
    assert planned.returncode == 0, planned.stderr
    assert "planned for NVIDIA H100, of which the calibration is" in planned.stdout
    assert "20 steps" in planned.stdout  # of 10 ms each
    for refused in (explorer("plan", *options), explorer("train", *options, "--calibration", file, "--out", tmp_path / "run")):
        words = ("CPU of this machine", "resources.gpus: 1, which cannot be used: ", "allowed are CPU-hours")
        assert_refused(refused, "budget", *words)


def test_best_prints_and_saves_the_schedule(explorer, sweep, tmp_path):
    done = explorer("best", sweep.location, "--budget", "25%", "--out", tmp_path / "best.json")
    assert done.returncode == 0, done.stderr
    assert "best staged: validation 90.00%, test 88.00% (one seed, no interval)" in done.stdout
    assert "best baseline: validation 70.00%, test 71.00% (one seed, no interval)" in done.stdout
    assert "against the baseline, on test data: not decided: one seed each gives no interval" in done.stdout
    assert Schedule.load(tmp_path / "best.json").provenance.trial == "a"


def test_best_says_how_long_its_trainings_took(explorer, sweep, tmp_path):
    best = ("best", sweep.location, "--budget", "25%", "--out", tmp_path / "best.json")
    without = "time: staged 1.0 device-seconds; baseline 1.0 device-seconds\n"
    assert without in explorer(*best).stdout  # full training was not trained
    full = make_record("full", kind="baseline", budget="100%", validation=0.8, test=0.8)
    sweep.append(full.model_copy(update={"outcome": full.outcome.model_copy(update={"train_seconds": 2.5})}))
    shares = "time: staged 1.0 device-seconds, 40.0% of full training; baseline 1.0 device-seconds, 40.0% of full training\n"
    assert shares in explorer(*best).stdout
    sweep.append(make_record("elsewhere", budget="100%", device="NVIDIA L4"))
    assert "time: not compared, since trials ran on NVIDIA L4, cpu\n" in explorer(*best).stdout


def test_best_of_a_sweep_in_seconds_says_what_was_planned_and_takes_money_with_a_price(explorer, tmp_path):
    """The share was that of planned seconds, beside measured ones; `--price` was asked for, and there was no such option."""
    ledger, header = Ledger(tmp_path / "secs"), make_header("secs")
    ledger.create(header.model_copy(update={"space": header.space.model_copy(update={"currency": "device_seconds"})}))
    for budget, planned, took in (("10%", 0.171, 0.38), ("100%", 1.71, 3.42)):
        record = make_record(f"staged-{budget}", budget=budget)
        seconds = {"planned_seconds": planned, "charged_seconds": planned, "full_seconds": 1.71, "train_seconds": took}
        outcome = record.outcome.model_copy(update={"currency": "device_seconds", **seconds})
        ledger.append(record.model_copy(update={"outcome": outcome}))
    best = ("best", ledger.location, "--out", tmp_path / "best.json", "--budget")
    line = "time: staged planned 0.17 device-seconds, 10.0% of full training, took 0.38 device-seconds\n"
    assert line in explorer(*best, "10%").stdout
    assert_refused(explorer(*best, "$0.000171"), "budget", "needs the price of a device-hour: --price")
    done = explorer(*best, "$0.000171", "--price", 3.6)  # a dollar is 1,000 s
    assert line in done.stdout
    assert "0.171 device-seconds is 10%, which was trained\n" in done.stdout


def test_best_predicts_a_budget_that_was_not_trained_and_says_so(explorer, sweep, tmp_path):
    for budget, staged, baseline in (("10%", 0.8, 0.6), ("50%", 0.93, 0.86)):
        sweep.append(make_record(f"staged-{budget}", budget=budget, validation=staged, test=staged))
        sweep.append(make_record(f"baseline-{budget}", kind="baseline", budget=budget, validation=baseline, test=baseline))
    best = ("best", sweep.location, "--out", tmp_path / "best.json", "--budget")
    done = explorer(*best, "40%")
    assert done.returncode == 0, done.stderr
    assert "40% was not trained: the schedule is that of 50%, the accuracies are predicted" in done.stdout
    assert re.search(r"best staged: test 9\d\.\d\d% \(predicted, 95 % interval .* to .*%\)", done.stdout)
    assert "best baseline: test " in done.stdout
    assert "not distinguishable" not in done.stdout  # nothing is decided by predictions
    prediction = Schedule.load(tmp_path / "best.json").provenance.prediction
    assert (str(prediction.budget), prediction.trained_budgets) == ("40%", 3)
    for budget in ("600%", "9%", "2 GPU-hours"):
        refused = explorer(*best, budget)
        assert_refused(refused, "budget", budget)
        assert refused.stdout == ""


def test_sweeps_are_found_by_name(explorer, sweep, tmp_path):
    done = explorer("best", "s", "--budget", "25%", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s-25pct.json").exists()


def test_train_saves_weights_and_resumes(explorer, space_file, schedule_file, tmp_path):
    import timm

    arguments = ("train", "--schedule", schedule_file, "--task", space_file, "--budget", "50%", "--out", tmp_path / "run")
    first = explorer(*arguments)
    assert first.returncode == 0, first.stderr
    result = yaml.safe_load((tmp_path / "run" / "result.json").read_text())
    assert result["planned_flops"] == result["realised_flops"]
    model = timm.create_model(**result["timm_create_model"], checkpoint_path=str(tmp_path / "run" / "weights.safetensors"))
    assert sum(p.numel() for p in model.parameters()) > 1000
    again = explorer(*arguments)
    assert again.returncode == 0, again.stderr
    assert yaml.safe_load((tmp_path / "run" / "result.json").read_text())["test"] == result["test"]


def interrupt(number, when):
    """Send a signal to this process, as soon as something is so."""

    def send():
        wait_until(when)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly), (signal.SIGTERM, 143)]
)
def test_an_interrupted_training_says_where_it_resumes(
    explorer, heeds_ctrl_c, space_file, schedule_file, tmp_path, number, code
):
    long = write_space(tmp_path / "long.yaml", space_file, recipe__epochs=60)
    arguments = ("train", "--schedule", schedule_file, "--task", long, "--budget", "50%", "--out", tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    before = signal.getsignal(signal.SIGTERM)
    thread = interrupt(number, checkpoint.exists)
    done = explorer(*arguments)
    thread.join()
    assert done.returncode == code
    line = re.fullmatch(
        r"explorer: interrupted at (\d+)% of the budget; the same command resumes at (\d+)% from (.*)\n", done.stderr
    )
    assert line, done.stderr
    assert 1 <= int(line[1]) < 100
    assert line[2] == line[1]  # nothing that was trained is lost
    assert line[3] == str(checkpoint)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_ledger_whose_records_are_all_damaged_is_not_called_unfinished_without_a_word(explorer, sweep, tmp_path):
    for path in Path(sweep.location, "ledger").iterdir():
        path.write_text(path.read_text()[:-40])
    for command in (("best", sweep.location, "--budget", "25%"), ("report", sweep.location, "--out", tmp_path / "out")):
        done = explorer(*command)
        assert done.returncode == 2
        warning, refused = done.stderr.splitlines()
        assert "2 files of" in warning
        assert "were passed over (2 damaged or half-written)" in warning
        assert "has no finished trial" in refused


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_watched_report_ends_with_a_page_that_does_not_reload(explorer, heeds_ctrl_c, tmp_path, monkeypatch, number, code):
    ledger = Ledger(tmp_path / "sweeps" / "s")
    ledger.create(make_header())
    ledger.append(make_record("25pct-staged-000"))
    ledger.append(make_record("25pct-baseline-000", kind="baseline"))
    Path(ledger.location, "ledger", "25pct-staged-000 (1).json").write_text("")
    page = tmp_path / "out" / "index.html"
    waiting = threading.Event()  # the first page is written, and its lines are printed
    clock = SimpleNamespace(strftime=time.strftime, sleep=lambda seconds: (waiting.set(), time.sleep(seconds)))
    monkeypatch.setattr("explorer.report.watch.time", clock)
    thread = interrupt(number, waiting.is_set)
    done = explorer("report", ledger.location, "--out", tmp_path / "out", "--watch")
    thread.join()
    assert done.returncode == code, done.stderr
    assert "1 files of" in done.stderr
    assert "were passed over (1 damaged or half-written), the first is ledger/25pct-staged-000 (1).json" in done.stderr
    assert done.stdout.count(str(page)) == 2  # the page, and the last one
    assert page.with_name("updated.js").read_text() == 'window.explorerUpdated = "";\n'  # open pages stop to look for more


def test_a_watched_report_that_is_interrupted_while_it_is_written_is_written_again(tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    intervals = []

    def write(seconds):
        intervals.append(seconds)
        if len(intervals) == 1:
            raise KeyboardInterrupt
        return "written"

    said = []
    follow([ledger], write, 1, said.append)
    assert intervals == [1, None]  # the last page does not look for newer ones
    assert said == ["written"]


def write_space(path: Path, space_file: Path, **changes) -> Path:
    content = yaml.safe_load(space_file.read_text())
    for key, value in changes.items():
        section, _, field = key.partition("__")
        if field:
            content[section][field] = value
        else:
            content[section] = value
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__name": "vit_tinny"}, ["model.name", "vit_tinny"]),
        ({"recipe__epoch": 3}, ["recipe.epoch", "did you mean 'epochs'"]),
        ({"budgets": ["0.01%"]}, ["budget", "0.01%", "at least one step of the full model"]),
        ({"data": {"name": "folder", "root": "/no/such", "image_size": 8}}, ["data.root", "/no/such", "no such folder"]),
        ({"proxy": {"images": 0.001}}, ["proxy.0: images: 0.001", "leaves no image of the class '0'"]),
        ({"proxy": {"model": {"embed_dim": 64}}}, ["proxy.0", "of the full training of the target: must be cheaper"]),
    ],
)
def test_bad_spaces_end_in_one_line_and_exit_code_2(explorer, space_file, tmp_path, changes, words):
    bad = write_space(tmp_path / "bad.yaml", space_file, **changes)
    assert_refused(explorer("sweep", bad, "--storage", tmp_path / "sweeps"), *words)
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["stages"][0]["rates"].update(heads=1.5), ["stages.0.rates.heads", "1.5", "must be a fraction in (0, 1]"]),
        (lambda d: d["stages"][0]["rates"].update(heads=0.75), ["must not fall"]),
        (lambda d: d["stages"][0].update(duration_ratio=0.5), ["sum to 1.2", "must sum to 1"]),
        (lambda d: d["stages"][2]["rates"].update(mlp=0.9), ["must be the full model"]),
        (lambda d: d.pop("schema"), ["not a schedule file"]),
    ],
)
def test_bad_schedules_end_in_one_line_and_exit_code_2(explorer, space_file, schedule_file, change, words):
    content = yaml.safe_load(schedule_file.read_text())
    change(content)
    schedule_file.write_text(yaml.safe_dump(content))
    assert_refused(explorer("plan", "--schedule", schedule_file, "--task", space_file, "--budget", "50%"), *words)


def test_bad_budgets_end_in_one_line_and_exit_code_2(explorer, space_file, schedule_file, sweep):
    assert_refused(explorer("plan", "--schedule", schedule_file, "--task", space_file, "--budget", "25"), "budget", "25")
    reason = "a prediction needs at least 2 trained budgets, and there is 1; the sweep trained 25%"
    assert_refused(explorer("best", sweep.location, "--budget", "30%"), "budget", "30%", "not trained", reason)


def test_reports_of_nothing_are_refused(explorer, tmp_path):
    assert_refused(explorer("report", tmp_path / "nothing"), "no sweep there")
    empty = Ledger(tmp_path / "empty")
    empty.create(make_header())
    assert_refused(explorer("report", empty.location, "--out", tmp_path / "out"), "no finished trial")


def test_a_ledger_of_another_version_is_refused(explorer, sweep):
    path = Path(sweep.location, "ledger", "a.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"version": 99}))
    assert_refused(explorer("report", sweep.location), "version", "99")


def test_the_installed_command_refuses_in_one_line(tmp_path):
    command = [str(Path(sys.executable).with_name("explorer")), "best", str(tmp_path), "--budget", "25%"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)
    assert_refused(done, "no sweep there")


def test_wrong_options_end_with_exit_code_2(explorer):
    assert explorer("best").returncode == 2
    assert explorer("nonsense").returncode == 2


def test_a_dry_run_says_what_a_sweep_will_cost_and_leaves_nothing_behind(explorer, space_file, tmp_path):
    done = explorer("sweep", space_file, "--storage", tmp_path / "sweeps", "--trials", 8, "--dry-run", "--parallel-trials", 1)
    assert done.returncode == 0, done.stderr
    assert "14 trials" in done.stdout
    assert " on this machine (" in done.stdout.splitlines()[-1]
    assert " with 1 side by side (1 CPU each)" in done.stdout.splitlines()[-1]
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("report", "{sweep}", "--price", "inf"), ("price", "inf", "must be a finite number above 0")),
        (("report", "{sweep}", "--price", "nan"), ("price", "nan", "must be a finite number above 0")),
        (("plan", "--schedule", "paper", "--task", "{space}", "--budget", "$3", "--price", "inf"), ("price", "inf")),
        (("init", "--data", "digits", "--gpus", "inf"), ("gpus", "inf", "must be a whole number")),
        ((*TRAIN, "--evaluate-every", "1e-9%"), ("evaluate_every", "1e-9%", "from 0.1% to below 100%")),
    ],
)
def test_numbers_that_are_none_are_refused(explorer, sweep, space_file, tmp_path, arguments, words):
    places = {"sweep": sweep.location, "space": space_file}
    assert_refused(explorer(*(each.format(**places) for each in arguments), cwd=tmp_path), *words)


def test_a_seed_that_torch_cannot_take_is_refused(explorer, space_file):
    done = explorer(*(each.format(space=space_file) for each in TRAIN), "--seed", 2**70)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--seed" in done.stderr


def test_a_largest_scatter_that_is_no_number_is_refused(explorer, space_file, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_MAX_SCATTER", "little")
    done = explorer("calibrate", "--task", space_file, "--out", tmp_path / "measured.json")
    assert_refused(done, "EXPLORER_MAX_SCATTER", "little", "must be a number above 0")


def test_results_that_cannot_be_written_are_refused_before_they_are_measured(explorer, space_file, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr("explorer.training.calibration.Calibration.measure_variants", lambda *_, **__: measured.append(1))
    monkeypatch.setattr("explorer.data.check.check_data", lambda *_, **__: measured.append(1))
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "out"):
        assert_refused(explorer("calibrate", "--task", space_file, "--out", path), "out", str(path), "cannot be written: ")
        assert_refused(explorer("data", space_file, "--sheet", path), "sheet", str(path), "cannot be written: ")
    assert not measured


def test_what_cannot_be_written_is_refused_in_one_line(explorer, sweep, space_file, schedule_file, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "out"
    assert_refused(explorer("init", "--out", tmp_path / ("x" * 300)), "out", "cannot be written: File name too long")
    train = ("train", "--schedule", schedule_file, "--task", space_file, "--budget", "25%", "--out", path)
    for field, command in (
        ("out", ("init", "--out", path)),
        ("out", ("init", "--data", "digits", "--gpus", 0, "--out", path)),
        ("out", ("best", sweep.location, "--budget", "25%", "--out", path)),
        ("out", ("report", sweep.location, "--out", path)),
        ("out", ("report", sweep.location, sweep.location, "--out", path)),
        ("out", ("schedules", "paper", "--out", path)),
        ("out", train),
        ("sheet", ("data", space_file, "--sheet", path)),
    ):
        assert_refused(explorer(*command), field, str(path), "cannot be written: ")


@pytest.fixture
def folder_task(tmp_path, image_folder, monkeypatch) -> Path:
    """A task on a folder of 60 training and 12 test images, of which one is empty and one a text."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(image_folder, tmp_path / "images")
    (root / "train" / "dark" / "003.png").write_bytes(b"")
    (root / "train" / "dark" / "labels.txt").write_text("dark")
    data = {"name": "folder", "root": str(root), "image_size": 16}
    recipe = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "augmentation": {"mixup": 0.5}}
    model = {"name": "vit_tiny_patch16_224", "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}}
    path = tmp_path / "shades.yaml"
    path.write_text(yaml.safe_dump({"model": model, "data": data, "recipe": recipe}))
    return path


def test_data_prints_what_is_in_a_folder_and_draws_what_the_model_sees(explorer, folder_task, schedule_file, tmp_path):
    refused = explorer("data", folder_task, cwd=tmp_path)
    assert_refused(refused, "data.unreadable", "1 of 72 images cannot be read: train/dark/003.png (the file is empty)")
    train = ("train", "--schedule", schedule_file, "--task", folder_task, "--budget", "50%", "--out", tmp_path / "run")
    assert_refused(explorer(*train), "data.unreadable", "train/dark/003.png")
    folder_task.write_text(folder_task.read_text().replace("data:\n", "data:\n  unreadable: skip\n"))
    done = explorer("data", folder_task, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "  train      53 images, 26 to 27 per class, RGB, 20x20"  # 6 of 59 are set aside
    assert lines[3] == "  test       12 images (validation), 6 per class, RGB, 20x20"
    assert lines[4].split() == ["label", "class", "train", "validation", "test"]
    assert "train left out: train/dark/003.png" in lines
    assert "explorer: warning: train: 1 files not read: 1 .txt: not an image format" in done.stderr
    assert lines[-1] == "training images as the model sees them: reports/shades-images.png"
    with Image.open(tmp_path / "reports" / "shades-images.png") as sheet:
        assert sheet.width > sheet.height > 500  # 48 images in six rows
        assert len(sheet.getcolors(1 << 20)) > 1000
    trained = explorer(*train)
    assert trained.returncode == 0, trained.stderr
    inventory = json.loads((tmp_path / "run" / "result.json").read_text())["inventory"]
    assert (inventory["train"]["images"], inventory["checked"]) == (53, True)
    assert inventory["train"]["unreadable"] == ["train/dark/003.png"]


def test_data_in_memory_is_drawn_as_well(explorer, space_file, tmp_path):
    done = explorer("data", space_file, "--sheet", tmp_path / "digits.png")
    assert done.returncode == 0, done.stderr
    assert "modes" not in done.stdout
    assert (tmp_path / "digits.png").stat().st_size > 1000


@pytest.mark.parametrize(("option", "value"), [("--trials", 0), ("--parallel-trials", 0)])
def test_counts_below_one_are_refused(explorer, space_file, option, value):
    assert explorer("sweep", space_file, "--dry-run", option, value).returncode == 2


def test_train_says_where_it_trains_and_warns_of_a_missing_gpu(explorer, space_file, schedule_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    wanted = write_space(tmp_path / "gpu.yaml", space_file, resources={"cpus": 1, "gpus": 1})
    done = explorer("train", "--schedule", schedule_file, "--task", wanted, "--budget", "10%", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[4] == "training on the CPU, 1 thread"  # below the inventory
    warning = "explorer: warning: resources.gpus is 1, but the GPU cannot be used, training on the CPU: "
    assert done.stderr.startswith(warning), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_that_diverges_ends_in_one_line_and_exit_code_1(explorer, space_file, schedule_file, tmp_path):
    wild = write_space(tmp_path / "wild.yaml", space_file, recipe__learning_rate=1e12, recipe__optimizer="sgd")
    done = explorer("train", "--schedule", schedule_file, "--task", wild, "--budget", "50%", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("explorer: the loss is not finite by step ")
    assert done.stderr.endswith("; train with a lower recipe.learning_rate, or with recipe.clip_grad, into another --out\n")
    assert done.stderr.count("\n") == 1


def test_a_resume_with_something_else_is_refused_in_one_line(explorer, space_file, schedule_file, tmp_path):
    arguments = ("train", "--schedule", schedule_file, "--task", space_file, "--out", tmp_path / "run", "--budget")
    assert explorer(*arguments, "20%").returncode == 0
    refused = explorer(*arguments, "10%")
    values = "it was '20%' and is now '10%'"
    assert_refused(refused, "checkpoint.pt: 'budget'", values, "remove the checkpoint to start from the beginning")
    assert "training on" not in refused.stdout
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK")
    assert_refused(explorer(*arguments, "20%"), "cannot be read", "remove it to start from the beginning")


@pytest.fixture
def task_file(tmp_path, space_file) -> Path:
    """The sections that a training needs, without those of a sweep."""
    content = yaml.safe_load(space_file.read_text())
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({name: content[name] for name in ("model", "data", "recipe")} | {"resources": {"cpus": 1}}))
    return path


def test_a_task_file_without_a_search_is_enough_to_plan_calibrate_and_train(
    explorer, space_file, task_file, schedule_file, tmp_path
):
    plan = ("plan", "--schedule", schedule_file, "--budget", "50%", "--task")
    done = explorer(*plan, task_file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == explorer(*plan, space_file).stdout
    measured = explorer("calibrate", "--task", task_file, "--schedule", schedule_file, "--out", tmp_path / "steps.json")
    assert measured.returncode == 0, measured.stderr
    assert_refused(explorer("calibrate", "--task", task_file), "schedule", "is required")
    trained = explorer("train", "--schedule", schedule_file, "--task", task_file, "--budget", "10%", "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    assert_refused(explorer("sweep", task_file), "task.yaml: ", "this key is required")


def test_the_version_is_that_of_the_package(explorer):
    done = explorer("--version")
    assert (done.returncode, done.stdout.strip()) == (0, version("vit-budget-explorer"))


def test_the_help_groups_commands_by_purpose(explorer):
    printed = explorer("--help").stdout
    assert printed.index("find schedules") < printed.index("sweep") < printed.index("use a schedule") < printed.index("train  ")


def test_a_ray_address_that_leads_nowhere_is_refused(explorer, space_file, tmp_path):
    done = explorer("sweep", space_file, "--storage", tmp_path / "sweeps", "--address", "127.0.0.1:1")
    assert_refused(done, "address", "127.0.0.1:1")


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_cluster_that_this_machine_belonged_to_and_that_is_gone_is_refused(
    explorer, space_file, tmp_path, monkeypatch, variable
):
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    note = tmp_path / "ray" / "ray_current_cluster"
    note.parent.mkdir()
    note.write_text("127.0.0.1:1")
    done = explorer("sweep", space_file, "--storage", tmp_path / "sweeps", "--address", "auto")
    assert_refused(done, "address", "auto", "no Ray cluster answers at 127.0.0.1:1", f"from {note}", "delete")


def test_an_unknown_logger_is_refused(explorer, space_file, schedule_file):
    train = ("train", "--schedule", schedule_file, "--task", space_file, "--budget", "10%")
    assert_refused(explorer(*train, "--logger", "nonsense"), "logger", "nonsense", "mlflow, wandb")

"""What the launcher depends on in timm and its train.py, against the installed timm and the record of the train.py that was tried.

With TIMM_TRAIN=/path/to/train.py, that file is compared with the record, and what differs is said.
"""

import argparse
import ast
import difflib
import inspect
import itertools
import json
import os
import runpy
from pathlib import Path

import pytest
import timm.data
import timm.layers
import timm.loss
import timm.models
import timm.optim
import timm.scheduler
import timm.scheduler.scheduler
import timm.task
import timm.utils
import torch
from torch import distributed

from tests.examples.timm_calls import calls, digest, name, options, root

HERE = Path(__file__).parent
LAUNCHER = Path("examples/timm_train.py")
RECORD = json.loads((HERE / "timm_calls.json").read_text())
CLASSES = {
    "task": timm.task.ClassificationTask,
    "saver": timm.utils.CheckpointSaver,
    "lr_scheduler": timm.scheduler.scheduler.Scheduler,
    "loss_scaler": timm.utils.NativeScaler,
}
MODULES = (timm.utils, timm.data, timm.layers, timm.loss, timm.models, timm.optim, timm.scheduler, timm.task)
OF_TORCH = ("optimizer", "loader", "trainable_module")


def function(call):
    """The function or method of the installed timm that a recorded call calls, and the number of arguments it has already."""
    if root(call) not in CLASSES:
        return next(getattr(module, name(call)) for module in MODULES if hasattr(module, name(call))), 0
    of_class = CLASSES[root(call)]
    called_itself = root(call) == name(call)
    method = name(call) if not called_itself else "forward" if issubclass(of_class, torch.nn.Module) else "__call__"
    return getattr(of_class, method), 1


def recorded():
    return [call for each in RECORD["calls"].values() for call in each]


@pytest.mark.parametrize("call", sorted({call for call in recorded() if root(call) not in OF_TORCH}))
def test_installed_timm_accepts_the_calls_of_train_py(call):
    called, bound = function(call)
    arguments = call.partition("(")[2][:-1].split(", ")
    keywords = {argument[:-1]: None for argument in arguments if argument.endswith("=")}
    inspect.signature(called).bind_partial(*[None] * (arguments.count("_") + bound), **keywords)


def test_our_script_makes_calls_of_train_py_in_its_order():
    launched = runpy.run_path(str(LAUNCHER))["CALLS"]
    for caller, ours in calls((HERE / "timm_script.py").read_text()).items():
        theirs = iter(RECORD["calls"][caller])
        for call in ours:
            same = next((other for other in theirs if name(other) == name(call) and root(other) == root(call)), None)
            assert same, f"{caller}: {call} is not called by train.py, or earlier"
            if name(call) in launched:
                assert call == same


def test_the_launcher_depends_on_what_train_py_has():
    launcher = runpy.run_path(str(LAUNCHER))
    assert tuple(name(call) for call in recorded() if name(call) in launcher["CALLS"]) == launcher["CALLS"]
    create_scheduler = next(
        node
        for node in ast.walk(ast.parse(LAUNCHER.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "create_scheduler"
    )
    used = {
        node.attr
        for node in ast.walk(create_scheduler)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "options"
    }
    assert {"epochs", "batch_size", "seed"} < used
    args = argparse.Namespace(device="cpu")
    timm.utils.init_distributed_device(args)
    assert {*launcher["REFUSED"], "resume", "start_epoch", *used} <= {*RECORD["options"], *vars(args)}


def test_a_script_with_other_calls_is_told(tmp_path):
    other_calls = runpy.run_path(str(LAUNCHER))["other_calls"]
    assert other_calls(HERE / "timm_script.py") == ""
    source = (HERE / "timm_script.py").read_text()
    older = tmp_path / "train.py"
    older.write_text(source.replace("resume_task_checkpoint(task", "resume_checkpoint(model"))
    assert other_calls(older) == "it does not call resume_task_checkpoint"
    older.write_text(source.replace("def main", "saver = utils.CheckpointSaver()\n\n\ndef main"))
    assert other_calls(older).startswith("it calls CheckpointSaver, init_distributed_device, create_optimizer_v2")


def test_every_checkpoint_is_written_by_the_method_that_the_launcher_replaces(tmp_path):
    """And what the launcher stores in the optimizer's parameter group comes back, with the epoch after the saved one."""
    written = []

    class Saver(timm.utils.CheckpointSaver):
        def _save(self, save_path, epoch, *args, **kwargs):
            written.append((Path(save_path).name, epoch))
            self.optimizer.param_groups[0]["of the launcher"] = {"epoch": epoch}
            super()._save(save_path, epoch, *args, **kwargs)

    model = torch.nn.Linear(2, 2)
    task = timm.task.ClassificationTask(model=model, criterion=torch.nn.CrossEntropyLoss(), verbose=False)
    assert task.get_trainable_module() is model
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3)
    saver = Saver(model=model, optimizer=optimizer, checkpoint_dir=tmp_path, recovery_dir=tmp_path, decreasing=True, task=task)
    assert saver.decreasing
    saver.save_recovery(4, batch_idx=1)
    saver.save_checkpoint(5, metric=float("inf"))
    saver.save_checkpoint(6, metric=1.0)
    assert [epoch for _, epoch in written] == [4, 5, 6]
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"{each}.pth.tar" for each in ("checkpoint-5", "checkpoint-6", "last", "model_best", "recovery-4-1")]
    for file, epoch in (("recovery-4-1", 4), ("model_best", 6)):
        fresh = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3)
        path = str(tmp_path / f"{file}.pth.tar")
        assert timm.task.resume_task_checkpoint(task, path, optimizer=fresh, loss_scaler=None, log_info=False) == epoch + 1
        assert fresh.param_groups[0]["of the launcher"] == {"epoch": epoch}


def order(loader, epoch):
    """Numbers of the images in an epoch, as train.py's `_set_loader_epoch` begins it."""
    for each in (loader.dataset, loader.batch_sampler, loader.sampler):
        if hasattr(each, "set_epoch"):
            each.set_epoch(epoch)
            break
    return list(itertools.chain.from_iterable(loader.batch_sampler))


def test_several_processes_resume_the_order_of_images_and_a_single_one_does_not(image_folder, tmp_path):
    def loader(**several):
        dataset = timm.data.create_dataset("", root=image_folder, split="train", is_training=True)
        return timm.data.create_loader(
            dataset, input_size=(3, 16, 16), batch_size=8, is_training=True, num_workers=0, **several
        )

    torch.manual_seed(0)
    single = loader(use_prefetcher=False)
    orders = [order(single, epoch) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    torch.manual_seed(0)
    assert order(loader(use_prefetcher=False), 1) == orders[0]  # the number of the epoch does not matter

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/processes", rank=0, world_size=1)
    try:
        straight = loader(use_prefetcher=False, distributed=True)
        orders = [order(straight, epoch) for epoch in range(3)]
        assert len({tuple(each) for each in orders}) == 3
        assert order(loader(use_prefetcher=False, distributed=True), 2) == orders[2]
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif("TIMM_TRAIN" not in os.environ, reason="needs TIMM_TRAIN=/path/to/train.py, from timm's repository")
def test_the_given_train_py_is_the_one_that_was_tried():
    source = Path(os.environ["TIMM_TRAIN"]).read_text(encoding="utf-8")
    found = {"calls": calls(source), "options": options(source)}
    before, now = (json.dumps({key: each[key] for key in found}, indent=1).splitlines() for each in (RECORD, found))
    differences = "\n".join(difflib.unified_diff(before, now, "recorded", "given", lineterm="", n=0))
    assert digest(source) == RECORD["sha256"], differences or "another file with the same calls and options"

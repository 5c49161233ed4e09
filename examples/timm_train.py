"""Run timm's own training script, unchanged, with a schedule.

    python examples/timm_train.py --schedule best.json --budget 20% train.py --data-dir images --model deit_small_patch16_224

Options before the script's name are this launcher's, and those after it are the script's own. The script's `--epochs` is the
length of full training, of which the budget is a share; the script trains for as many epochs as the budget needs, which
`--mixup-off-epoch` counts. The learning rates of the script's scheduler are replaced: the learning rate decays over the budget,
from the script's `--lr`. Several devices work as usual: `torchrun --nproc-per-node 8 examples/timm_train.py ...`.

All checkpoints contain the full model. One of them is called the best only after the last stage has begun: evaluations in
earlier stages are those of smaller models. A script that ends before the schedule does makes this one end with exit code 1.

With `--export FOLDER`, a finished training is handed over as a folder that plain timm opens, with a model card; its accuracy is
measured on the folder, with the script's evaluation images. `--resume` with the last checkpoint does this afterwards, too.

train.py is part of timm's repository, not of its package: https://github.com/huggingface/pytorch-image-models
"""

import argparse
import ast
import math
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import timm.data
import timm.optim
import timm.scheduler
import timm.utils
from timm.data import resolve_data_config
from timm.utils import is_primary
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import IterableDataset

from explorer import InvalidInput, Schedule, StagedTraining
from explorer.errors import validated
from explorer.production import check_export, export
from explorer.production.arguments import timm_model_in
from explorer.spec.lr_schedule import LearningRateSchedule

REFUSED = {
    "model_ema": "its average of the weights would keep the first stage's size",
    "torchcompile": "a compiled model is made for one size",
    "kd_model_name": "a teacher's cost is not counted",
    "naflex_loader": "the cost of a step is counted for images of one size",
    "train_img_sizes": "the cost of a step is counted for images of one size",
    "no_resume_opt": "the position in the schedule is stored in a checkpoint's optimizer state",
}
"""Options of train.py that cannot be used with a schedule, and why."""
CALLS = (
    "init_distributed_device",
    "create_optimizer_v2",
    "resume_task_checkpoint",
    "prepare_distributed",
    "CheckpointSaver",
    "create_scheduler_v2",
    "save_checkpoint",
    "save_recovery",
)
"""What train.py calls, in the order of its source, in the version with which this launcher was tried."""
STATE = "staged_training"
"""Key of the schedule's state in the optimizer's first parameter group, in checkpoints."""

_create_dataset = timm.data.create_dataset
_create_optimizer, _create_scheduler = timm.optim.create_optimizer_v2, timm.scheduler.create_scheduler_v2
_init_distributed_device, _CheckpointSaver = timm.utils.init_distributed_device, timm.utils.CheckpointSaver


class Launcher:
    """Replaces the functions of timm with which train.py creates optimizer, scheduler and checkpoints.

    Args:
        schedule: the schedule to execute.
        budget: a share of full training, or FLOPs.
        lr_schedule: learning-rate schedule over budget time.
        export_to: folder for the finished model; `None` writes none.
        class_names: names of the classes; `None` takes those of the data set.
    """

    def __init__(
        self,
        schedule: Schedule,
        budget: str,
        lr_schedule: LearningRateSchedule,
        export_to: Path | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        self.schedule, self.budget, self.lr_schedule = schedule, budget, lr_schedule
        self.export_to, self.class_names = export_to, class_names
        self.training_images: Any = None
        self.evaluation_images: Any = None
        self.model: nn.Module | None = None
        self.arguments = argparse.Namespace()
        self.training: StagedTraining | None = None

    def install(self) -> None:
        """Replace timm's functions before the script imports them."""
        launcher = self

        class FullSizeSaver(_CheckpointSaver):
            """Saves the full model in every stage, with the position in the schedule."""

            def save_checkpoint(self, epoch: int, metric: float | None = None) -> Any:
                if metric is not None and not launcher.running.in_last_stage:
                    metric = math.inf if self.decreasing else -math.inf  # never the best one once the last stage has begun
                return super().save_checkpoint(epoch, metric)

            def _save(self, save_path: str, epoch: int, *args: Any, **kwargs: Any) -> None:
                with launcher.running.at_full_size():
                    self.optimizer.param_groups[0][STATE] = {"epoch": epoch, **launcher.running.state_dict()}
                    super()._save(save_path, epoch, *args, **kwargs)

        timm.utils.init_distributed_device = self.init_distributed_device
        timm.data.create_dataset = self.create_dataset
        timm.optim.create_optimizer_v2 = self.create_optimizer
        timm.scheduler.create_scheduler_v2 = self.create_scheduler
        timm.utils.CheckpointSaver = FullSizeSaver

    def create_dataset(self, *args: Any, is_training: bool = False, **kwargs: Any) -> Any:
        """Call timm's function, and keep the data set."""
        dataset = _create_dataset(*args, is_training=is_training, **kwargs)
        if is_training:
            self.training_images = dataset
        else:
            self.evaluation_images = dataset
        return dataset

    def create_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> Optimizer:
        """Call timm's function, and keep the model."""
        self.model = timm_model_in(model)
        return _create_optimizer(model, *args, **kwargs)

    @property
    def running(self) -> StagedTraining:
        """The schedule, once the script has created its scheduler."""
        assert self.training is not None
        return self.training

    def init_distributed_device(self, args: argparse.Namespace) -> Any:
        """Keep the script's options, refuse those that cannot be used, and call timm's function: the script's first call."""
        for name, reason in REFUSED.items():
            if getattr(args, name, None):
                raise InvalidInput(f"--{name.replace('_', '-')}", getattr(args, name), f"must be left out: {reason}")
        self.arguments = args
        return _init_distributed_device(args)

    def create_scheduler(self, optimizer: Optimizer, *args: Any, updates_per_epoch: int, **kwargs: Any) -> tuple[Any, int]:
        """Call timm's function; return its scheduler, and the epoch with which the plan ends."""
        scheduler, _ = _create_scheduler(optimizer, *args, updates_per_epoch=updates_per_epoch, **kwargs)
        options = self.arguments
        assert self.model is not None
        pixels = resolve_data_config(vars(options), model=self.model)
        saved = optimizer.param_groups[0].pop(STATE, None)
        begun_anew = getattr(options, "resume", "") in ("", "auto") and not optimizer.state
        if saved is None and not begun_anew:
            raise InvalidInput("--resume", options.resume, "was saved without a schedule")
        self.training = StagedTraining(
            self.model,
            optimizer,
            self.schedule,
            budget=self.budget,
            full_steps=options.epochs * updates_per_epoch,
            batch_size=options.batch_size * max(1, options.grad_accum_steps) * options.world_size,
            lr_schedule=self.lr_schedule,
            image_shape=pixels["input_size"],
            seed=options.seed,
        )
        first_epoch = 0
        if saved is not None:  # also in mid-epoch: the script goes on with the next one
            first_epoch = saved.pop("epoch") + 1
            self.training.load_state_dict(saved)
        if self.export_to is not None:  # before training: what cannot be handed over is then known in time
            names = self.class_names or _names_of_classes(self.training_images)
            check_export(self.model, self.training, self.export_to, class_names=names, preprocessing=pixels)
        plan, begun = self.training.plan, self.training.begun
        self.training.follow_optimizer()
        first_epoch = first_epoch if getattr(options, "start_epoch", None) is None else options.start_epoch
        epochs = math.ceil((plan.steps - begun) / updates_per_epoch)
        if is_primary(options):
            left = f"{plan.steps - begun} of {plan.steps}" if begun else plan.steps
            print(f"schedule: {left} updates in {epochs} epochs, {plan.cost:.3%} of full training", flush=True)
        return scheduler, first_epoch + epochs

    def export(self) -> None:
        """Hand the finished model over, measured with the images of the script's evaluation."""
        options, dataset = self.arguments, self.evaluation_images
        if self.export_to is None or self.model is None or not is_primary(options):
            return
        pixels, loader = resolve_data_config(vars(options), model=self.model), None
        divided = options.world_size > 1 and isinstance(dataset, IterableDataset)  # its processes have a part of it each
        if dataset is not None and not divided:
            batch_size = getattr(options, "validation_batch_size", None) or options.batch_size
            settings = {**pixels, "num_workers": options.workers, "use_prefetcher": False}
            loader = timm.data.create_loader(dataset, batch_size=batch_size, is_training=False, **settings)
        exported = export(
            self.model,
            self.running,
            self.export_to,
            class_names=self.class_names or _names_of_classes(self.training_images),
            preprocessing=pixels,
            loader=loader,
            split=getattr(options, "val_split", None) or "validation",
            data=getattr(options, "dataset", None) or Path(options.data_dir or "").name or None,
        )
        measured = exported.measured if exported else None
        result = "not measured"
        if measured:
            result = f"accuracy {measured.value:.3%}: {measured.correct} of {measured.images} images"
        print(f"model: {self.export_to}, {result}", flush=True)


def _names_of_classes(dataset: Any) -> list[str]:
    """The names of a data set's classes in the order of their numbers."""
    numbers = getattr(dataset, "class_to_idx", None) or getattr(getattr(dataset, "reader", None), "class_to_idx", None)
    if not isinstance(numbers, dict) or sorted(numbers.values()) != list(range(len(numbers))):
        raise InvalidInput("--class-names", None, "is required: the data set does not say the names of its classes")
    return [str(name) for name in sorted(numbers, key=lambda name: numbers[name])]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--class-names", str(path), f"must be a text file with one name per line: {error}") from None


def other_calls(script: str) -> str:
    """In what the calls of a script differ from those of the train.py that was tried, or nothing."""
    nodes = [node for node in ast.walk(ast.parse(Path(script).read_bytes())) if isinstance(node, ast.Call)]
    names = [getattr(node.func, "attr", getattr(node.func, "id", "")) for node in sorted(nodes, key=lambda node: node.lineno)]
    called = [name for name in names if name in CALLS]
    missing = [name for name in CALLS if name not in called]
    if missing:
        return f"it does not call {', '.join(missing)}"
    return "" if tuple(called) == CALLS else f"it calls {', '.join(called)}, in this order"


def main() -> None:
    """Parse the launcher's options, and run the script with its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedule", required=True, help="schedule file (JSON or YAML)")
    parser.add_argument("--budget", required=True, help="25%%, 0.25 (of full training) or 3e17 FLOPs")
    parser.add_argument(
        "--lr-schedule",
        default="wsd",
        choices=["linear", "cosine", "rex", "wsd"],
        help="learning-rate schedule over budget time",
    )
    parser.add_argument("--warmup", type=float, default=0.05, help="share of the budget over which the learning rate rises")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the finished model as a folder for plain timm")
    parser.add_argument(
        "--class-names", type=Path, metavar="FILE", help="names of the classes, one per line; default: those of the data set"
    )
    parser.add_argument("script", help="timm's train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of train.py")
    options = parser.parse_args()
    try:
        if not Path(options.script).is_file():
            raise InvalidInput("script", options.script, "there is no such file; train.py is part of timm's repository")
        settings = {"kind": options.lr_schedule, "warmup": options.warmup}
        lr_schedule = validated(LearningRateSchedule, settings, "--lr-schedule")
        names = _lines(options.class_names) if options.class_names else None
        launcher = Launcher(Schedule.load(options.schedule), options.budget, lr_schedule, options.export, names)
        launcher.install()
        if (difference := other_calls(options.script)) and os.environ.get("RANK", "0") == "0":
            print(f"timm_train: warning: not the train.py that this launcher was tried with: {difference}", file=sys.stderr)
        sys.argv = [options.script, *options.arguments]
        runpy.run_path(options.script, run_name="__main__")
        training = launcher.training
        if training is None:
            sys.exit(
                "timm_train: the script ended without the scheduler of timm's create_scheduler_v2: no schedule was executed"
            )
        if not training.done:
            sys.exit(
                f"timm_train: the script ended after {training.begun} of the {training.plan.steps} updates of the schedule; "
                "resume it with --resume"
            )
        launcher.export()
    except InvalidInput as error:
        print(f"timm_train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

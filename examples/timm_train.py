"""Run timm's own training script, unchanged, with a schedule.

    python examples/timm_train.py --schedule best.json --budget 20% train.py --data-dir images --model deit_small_patch16_224

Options before the script's name are this launcher's, and those after it are the script's own. The script's `--epochs` is the
length of full training, of which the budget is a share; the script trains for as many epochs as the budget needs, which
`--mixup-off-epoch` counts. The learning rates of the script's scheduler are replaced: the learning rate decays over the budget,
from the script's `--lr`. Several devices work as usual: `torchrun --nproc-per-node 8 examples/timm_train.py ...`.

All checkpoints contain the full model. One of them is called the best only after the last stage has begun: evaluations in
earlier stages are those of smaller models. A script that ends before the schedule does makes this one end with exit code 1.

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

import timm.optim
import timm.scheduler
import timm.utils
from timm.data import resolve_data_config
from timm.utils import is_primary
from torch import nn
from torch.optim import Optimizer

from explorer import InvalidInput, Schedule, StagedTraining
from explorer.errors import validated
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

_create_optimizer, _create_scheduler = timm.optim.create_optimizer_v2, timm.scheduler.create_scheduler_v2
_init_distributed_device, _CheckpointSaver = timm.utils.init_distributed_device, timm.utils.CheckpointSaver


class Launcher:
    """Replaces the functions of timm with which train.py creates optimizer, scheduler and checkpoints.

    Args:
        schedule: the schedule to execute.
        budget: a share of full training, or FLOPs.
        lr_schedule: learning-rate schedule over budget time.
    """

    def __init__(self, schedule: Schedule, budget: str, lr_schedule: LearningRateSchedule) -> None:
        self.schedule, self.budget, self.lr_schedule = schedule, budget, lr_schedule
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
        timm.optim.create_optimizer_v2 = self.create_optimizer
        timm.scheduler.create_scheduler_v2 = self.create_scheduler
        timm.utils.CheckpointSaver = FullSizeSaver

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
            image_shape=resolve_data_config(vars(options), model=self.model)["input_size"],
            seed=options.seed,
        )
        first_epoch = 0
        if saved is not None:  # also in mid-epoch: the script goes on with the next one
            first_epoch = saved.pop("epoch") + 1
            self.training.load_state_dict(saved)
        plan, begun = self.training.plan, self.training.begun
        self.training.follow_optimizer()
        first_epoch = first_epoch if getattr(options, "start_epoch", None) is None else options.start_epoch
        epochs = math.ceil((plan.steps - begun) / updates_per_epoch)
        if is_primary(options):
            left = f"{plan.steps - begun} of {plan.steps}" if begun else plan.steps
            print(f"schedule: {left} updates in {epochs} epochs, {plan.cost:.3%} of full training", flush=True)
        return scheduler, first_epoch + epochs


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
    parser.add_argument("script", help="timm's train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of train.py")
    options = parser.parse_args()
    try:
        if not Path(options.script).is_file():
            raise InvalidInput("script", options.script, "there is no such file; train.py is part of timm's repository")
        settings = {"kind": options.lr_schedule, "warmup": options.warmup}
        lr_schedule = validated(LearningRateSchedule, settings, "--lr-schedule")
        launcher = Launcher(Schedule.load(options.schedule), options.budget, lr_schedule)
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
    except InvalidInput as error:
        print(f"timm_train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

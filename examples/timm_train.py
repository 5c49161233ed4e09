"""Run timm's own training script, unchanged, with a schedule.

    python examples/timm_train.py --schedule best.json --budget 20% train.py --data-dir images --model deit_small_patch16_224

Options before the script's name are this launcher's, and those after it are the script's own. The script's `--epochs` is the
length of full training, of which the budget is a share. The learning rates of the script's scheduler are replaced: the learning
rate decays over the budget, from the script's `--lr`.

train.py is part of timm's repository, not of its package: https://github.com/huggingface/pytorch-image-models
"""

import argparse
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import timm.optim
import timm.scheduler
import timm.utils
from timm.data import resolve_data_config
from torch import nn
from torch.optim import Optimizer

from explorer import InvalidInput, Schedule, StagedTraining
from explorer.errors import validated
from explorer.production.arguments import timm_model_in
from explorer.spec.lr_schedule import LearningRateSchedule

REFUSED = {
    "model_ema": "its average of the weights would keep the first stage's size",
    "distributed": "the wrapper for several devices is made for one size of the model",
    "torchcompile": "a compiled model is made for one size",
    "kd_model_name": "a teacher's cost is not counted",
    "naflex_loader": "the cost of a step is counted for images of one size",
    "train_img_sizes": "the cost of a step is counted for images of one size",
    "no_resume_opt": "the position in the schedule is stored in a checkpoint's optimizer state",
}
"""Options of train.py that cannot be used with a schedule, and why."""
STATE = "staged_training"
"""Key of the schedule's state in the optimizer's first parameter group, in checkpoints."""

_create_optimizer, _create_scheduler = timm.optim.create_optimizer_v2, timm.scheduler.create_scheduler_v2
_scheduler_kwargs, _CheckpointSaver = timm.scheduler.scheduler_kwargs, timm.utils.CheckpointSaver


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

            def _save(self, *args: Any, **kwargs: Any) -> None:
                assert launcher.training is not None
                with launcher.training.at_full_size():
                    self.optimizer.param_groups[0][STATE] = launcher.training.state_dict()
                    super()._save(*args, **kwargs)

        timm.optim.create_optimizer_v2 = self.create_optimizer
        timm.scheduler.scheduler_kwargs = self.scheduler_kwargs
        timm.scheduler.create_scheduler_v2 = self.create_scheduler
        timm.utils.CheckpointSaver = FullSizeSaver

    def create_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> Optimizer:
        """Call timm's function, and keep the model."""
        self.model = timm_model_in(model)
        return _create_optimizer(model, *args, **kwargs)

    def scheduler_kwargs(self, cfg: argparse.Namespace, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call timm's function, and keep the script's options."""
        self.arguments = cfg
        return _scheduler_kwargs(cfg, *args, **kwargs)

    def create_scheduler(self, optimizer: Optimizer, *args: Any, updates_per_epoch: int, **kwargs: Any) -> tuple[Any, int]:
        """Call timm's function; return its scheduler, and the number of epochs that the plan needs."""
        scheduler, _ = _create_scheduler(optimizer, *args, updates_per_epoch=updates_per_epoch, **kwargs)
        options = self.arguments
        for name, reason in REFUSED.items():
            if getattr(options, name, None):
                raise InvalidInput(f"--{name.replace('_', '-')}", getattr(options, name), f"must be left out: {reason}")
        assert self.model is not None
        saved = optimizer.param_groups[0].pop(STATE, None)
        if getattr(options, "resume", "") and saved is None:
            raise InvalidInput("--resume", options.resume, "was saved without a schedule")
        self.training = StagedTraining(
            self.model,
            optimizer,
            self.schedule,
            budget=self.budget,
            full_steps=options.epochs * updates_per_epoch,
            batch_size=options.batch_size * max(1, options.grad_accum_steps),
            lr_schedule=self.lr_schedule,
            image_shape=resolve_data_config(vars(options), model=self.model)["input_size"],
            seed=options.seed,
        )
        if saved is not None:
            self.training.load_state_dict(saved)
        self.training.follow_optimizer()
        plan = self.training.plan
        epochs = math.ceil(plan.steps / updates_per_epoch)
        print(f"schedule: {plan.steps} updates in {epochs} epochs, {plan.cost:.3%} of full training", flush=True)
        return scheduler, epochs


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
        Launcher(Schedule.load(options.schedule), options.budget, lr_schedule).install()
        sys.argv = [options.script, *options.arguments]
        runpy.run_path(options.script, run_name="__main__")
    except InvalidInput as error:
        print(f"timm_train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""Run timm's own training script, unchanged, by a schedule.

    python examples/timm_train.py --schedule best.json --budget 20% train.py --data-dir images --model deit_small_patch16_224

What stands before the script is read here; what follows is the script's own. `--epochs` there stays the length of full
training: it says what the budget is a share of. The script's schedulers are asked and not obeyed: the learning rate is decayed
over the budget, from the script's `--lr`.

train.py is in timm's repository, not in its package: https://github.com/huggingface/pytorch-image-models
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
    "distributed": "the wrapper of several devices is made for one size of the model",
    "torchcompile": "a compiled model is made for one size",
    "kd_model_name": "a teacher's cost is not counted",
    "naflex_loader": "the cost of a step is counted for images of one size",
    "train_img_sizes": "the cost of a step is counted for images of one size",
    "no_resume_opt": "a checkpoint's optimizer holds its place in the schedule",
}
"""Options of train.py that do not go together with a schedule, and why."""
STATE = "staged_training"
"""Entry of the optimizer's first group, in checkpoints."""

_create_optimizer, _create_scheduler = timm.optim.create_optimizer_v2, timm.scheduler.create_scheduler_v2
_scheduler_kwargs, _CheckpointSaver = timm.scheduler.scheduler_kwargs, timm.utils.CheckpointSaver


class Launcher:
    """Stands in for the functions of timm by which train.py makes optimizer, scheduler and checkpoints.

    Args:
        schedule: to execute.
        budget: a share of full training, or FLOPs.
        curve: the learning rate over budget time.
    """

    def __init__(self, schedule: Schedule, budget: str, curve: LearningRateSchedule) -> None:
        self.schedule, self.budget, self.curve = schedule, budget, curve
        self.model: nn.Module | None = None
        self.arguments = argparse.Namespace()
        self.training: StagedTraining | None = None

    def install(self) -> None:
        """Replace timm's functions, before the script imports them."""
        launcher = self

        class FullSizeSaver(_CheckpointSaver):
            """Saves the full model at any time, and the place in the schedule with it."""

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
        """timm's optimizer; the model is remembered."""
        self.model = timm_model_in(model)
        return _create_optimizer(model, *args, **kwargs)

    def scheduler_kwargs(self, cfg: argparse.Namespace, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """timm's; the script's options are remembered."""
        self.arguments = cfg
        return _scheduler_kwargs(cfg, *args, **kwargs)

    def create_scheduler(self, optimizer: Optimizer, *args: Any, updates_per_epoch: int, **kwargs: Any) -> tuple[Any, int]:
        """timm's scheduler, and as many epochs as the plan needs."""
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
            curve=self.curve,
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
    """Read the launcher's options, and run the script with its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedule", required=True, help="schedule file (JSON or YAML)")
    parser.add_argument("--budget", required=True, help="25%%, 0.25 (of full training) or 3e17 FLOPs")
    parser.add_argument("--curve", default="wsd", choices=["linear", "cosine", "wsd"], help="learning rate over the budget")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of the budget")
    parser.add_argument("script", help="timm's train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what train.py is called with")
    options = parser.parse_args()
    try:
        if not Path(options.script).is_file():
            raise InvalidInput("script", options.script, "there is no such file; train.py is in timm's repository")
        curve = validated(LearningRateSchedule, {"kind": options.curve, "warmup": options.warmup}, "curve")
        Launcher(Schedule.load(options.schedule), options.budget, curve).install()
        sys.argv = [options.script, *options.arguments]
        runpy.run_path(options.script, run_name="__main__")
    except InvalidInput as error:
        print(f"timm_train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

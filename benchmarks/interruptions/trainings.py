"""The trainings that are interrupted: the same schedule in five trainers, each as users write it, with checkpoints.

    python benchmarks/interruptions/trainings.py TRAINER FOLDER [--stop UPDATE --how HOW]

Trains in a folder from the latest checkpoint there, and notes each update that was made. `--stop` interrupts the training after
an update, in a way that `HOWS` lists.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from explorer import Rates, Schedule, Stage, StagedTraining

SCHEDULE = Schedule(
    stages=(Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=10
)
BATCH, SAVE_EVERY = 8, 3
SETTINGS: dict[str, Any] = {"budget": "50%", "full_steps": 32, "batch_size": BATCH, "image_shape": (3, 16, 16)}
MODEL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
NAME = "vit_tiny_patch16_224"
ROOT = Path(__file__).parents[2]
TIMM = "timm's train.py"
TIMM_TRAIN = os.environ.get("TIMM_TRAIN") or ROOT / "tests" / "examples" / "timm_script.py"
"""timm's train.py, which is in no package. If it is not given, the script of our tests takes its place."""


class InterruptedTrainingError(Exception):
    """The error of a user's code."""


def _raise() -> None:
    raise InterruptedTrainingError("stopped")


HOWS: dict[str, Callable[[], None]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminated": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "ctrl-c": lambda: os.kill(os.getpid(), signal.SIGINT),
    "error": _raise,
}


class Interruption:
    """Counts the updates of a training in a file, and interrupts it after one of them."""

    def __init__(self, folder: Path, stop: int | None, how: str) -> None:
        self.log, self.stop, self.how = folder / "updates", stop, how
        self.made = 0

    def updated(self, *_: Any) -> None:
        """To be called after each update of this process."""
        self.made += 1
        with self.log.open("a") as file:
            file.write(".")
        if self.made == self.stop:
            HOWS[self.how]()


class Images(Dataset[dict[str, Any]]):
    """One batch."""

    def __len__(self) -> int:
        return BATCH

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"pixel_values": torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(number)), "labels": number % 5}


def new_model() -> nn.Module:
    """The model, from a fixed seed."""
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=5, **MODEL)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, whose state a checkpoint must hold."""
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross entropy of a batch."""
    return functional.cross_entropy(model(batch["pixel_values"]), batch["labels"])


def own_loop(folder: Path, interruption: Interruption) -> nn.Module:
    """A loop of one's own, which writes its checkpoints atomically."""
    model = new_model()
    optimizer = optimizer_of(model)
    training = StagedTraining(model, optimizer, SCHEDULE, **SETTINGS)
    file = folder / "checkpoint.pt"
    if file.exists():
        for each, state in zip((model, optimizer, training), torch.load(file, weights_only=True), strict=True):
            each.load_state_dict(state)
    (batch,) = DataLoader(Images(), batch_size=BATCH)
    while training.step():
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        interruption.updated()
        if training.begun % SAVE_EVERY == 0:
            with training.at_full_size():
                torch.save([each.state_dict() for each in (model, optimizer, training)], folder / "new")
            (folder / "new").replace(file)
    return model


def lightning(folder: Path, interruption: Interruption) -> nn.Module:
    """Lightning's Trainer."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from explorer.production.lightning_callback import StagedTrainingCallback

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = new_model()

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            return loss_of(self.model, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self.model)

    class Watch(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            interruption.updated()

    keep = ModelCheckpoint(folder, every_n_train_steps=SAVE_EVERY, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[StagedTrainingCallback(SCHEDULE, **SETTINGS), Watch(), keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Classifier()
    latest = _latest(folder, "step=*.ckpt")
    trainer.fit(module, DataLoader(Images(), batch_size=BATCH), ckpt_path=latest and str(latest))
    return module.model


def transformers(folder: Path, interruption: Interruption) -> nn.Module:
    """Hugging Face's Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from explorer.production.transformers_callback import StagedTrainingCallback

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = new_model()

        def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.model(pixel_values)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    class Watch(TrainerCallback):
        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            interruption.updated()

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    model, callback = Net(), StagedTrainingCallback(SCHEDULE, **SETTINGS)
    arguments = TrainingArguments(
        str(folder),
        max_steps=callback.steps_for(model),
        per_device_train_batch_size=BATCH,
        max_grad_norm=0,
        save_steps=SAVE_EVERY,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    optimizers = (optimizer_of(model), None)
    trainer = InOrder(model, arguments, train_dataset=Images(), optimizers=optimizers, callbacks=[callback, Watch()])
    complete = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    trainer.train(resume_from_checkpoint=str(max(complete, key=_number)) if complete else None)
    return model.model


def explorer_train(folder: Path, interruption: Interruption) -> nn.Module:
    """`explorer train`, on scikit-learn's digits."""
    from rich.console import Console
    from safetensors.torch import load_file

    from explorer import Budget, compile_plan
    from explorer.production.run import WEIGHTS, Run, train_to_folder
    from explorer.spec.task import TaskSpec
    from explorer.training.task import Task
    from explorer.training.training_state import TrainingState

    options = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4}
    recipe = {"epochs": 1, "batch_size": 36, "learning_rate": 2e-3}
    spec = TaskSpec.model_validate({"model": {"name": NAME, "options": options}, "data": {"name": "digits"}, "recipe": recipe})
    task, update = Task(spec), TrainingState.update

    def watched(state: TrainingState) -> None:
        update(state)
        interruption.updated()

    TrainingState.update = watched  # type: ignore[method-assign]
    plan = compile_plan(SCHEDULE, task, Budget.parse("50%"), task.step_cost)
    run = Run(task=spec, plan=plan, seed=0, threads=1, device="cpu", out=folder, checkpoint_every=0.0)
    train_to_folder(run, Console(quiet=True))
    model: nn.Module = task.build_model()
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model


def timm_train(folder: Path, interruption: Interruption) -> nn.Module:
    """timm's train.py, with four epochs of eight updates as full training; each update has the same batch, from files.

    The script resumes neither the order of images nor, in mid-epoch, the position within the epoch: here, the order is fixed.
    """
    from PIL import Image
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from torch.utils.data import RandomSampler

    def in_order(sampler: RandomSampler) -> Iterator[int]:
        return iter(sorted(range(len(sampler)), key=lambda index: sampler.data_source.filename(index, basename=True)))

    def updated(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer.param_groups[0]["lr"] > 0:  # the last epoch ends after the plan does
            interruption.updated()

    epoch_updates = 8
    for number, item in enumerate([Images()[number] for number in range(BATCH)] * epoch_updates):
        path = folder / "images" / "train" / str(item["labels"]) / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (40 * item["pixel_values"] + 128).clamp(0, 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    RandomSampler.__iter__ = in_order  # type: ignore[method-assign]
    register_optimizer_step_post_hook(updated)
    launcher = ["--schedule", SCHEDULE.save(folder / "schedule.json"), "--budget", SETTINGS["budget"]]
    script = f"--model {NAME} --num-classes 5 --input-size 3 16 16 -b {BATCH} --opt adamw --lr 1e-2 --device cpu -j 0 --no-aug"
    script += f" --no-prefetcher --epochs {SETTINGS['full_steps'] // epoch_updates} --recovery-interval {SAVE_EVERY}"
    model = [f"{name}={value}" for name, value in MODEL.items()]
    saved = [path for path in folder.glob("run/*.pth.tar") if path.name.startswith(("recovery-", "last"))]
    resume = ["--resume", max(saved, key=lambda path: path.stat().st_mtime_ns)] if saved else []
    folders = ["--data-dir", folder / "images", "--val-split", "", "--output", folder, "--experiment", "run"]
    arguments = [*script.split(), *folders, *resume, "--model-kwargs", *model]
    sys.argv = [str(each) for each in ("timm_train", *launcher, TIMM_TRAIN, *arguments)]
    runpy.run_path(str(ROOT / "examples" / "timm_train.py"), run_name="__main__")  # exits if training does not end
    trained = new_model()
    with torch.serialization.safe_globals([argparse.Namespace]):
        trained.load_state_dict(torch.load(folder / "run" / "last.pth.tar", weights_only=True)["state_dict"])
    return trained


TRAINERS = {
    "own loop": own_loop,
    "Lightning": lightning,
    "Hugging Face": transformers,
    "explorer train": explorer_train,
    TIMM: timm_train,
}


def _latest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=_number, default=None)


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[-1])


def main() -> None:
    """Train, and write the final weights."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer", choices=TRAINERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stop", type=int)
    parser.add_argument("--how", choices=HOWS, default="killed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    model = TRAINERS[given.trainer](given.folder, Interruption(given.folder, given.stop, given.how))
    torch.save(model.state_dict(), given.folder / "final.pt")


if __name__ == "__main__":
    sys.exit(main())

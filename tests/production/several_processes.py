"""Trainings in several processes as users write them, for torchrun: `several_processes.py OUT TRAINING...`.

All are the same training: a step's batches are the same images, whoever divides them among processes.
"""

import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from accelerate import Accelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import Trainer, TrainingArguments

from explorer import Rates, Schedule, Stage, StagedTraining
from explorer.production import export, lightning_callback, transformers_callback
from tests.production.conftest import SETTINGS, tiny_model

STAGES = Schedule(
    stages=(
        Stage(rates=Rates(heads=0.5, mlp=0.5, depth=0.5), duration_ratio=0.4),
        Stage(rates=Rates(heads=0.5), duration_ratio=0.3),
        Stage(rates=Rates(), duration_ratio=0.3),
    ),
    grid=10,
)
BATCH = SETTINGS["batch_size"]
SAVED_AT = 4
"""Step after which a checkpoint is written, in mid-stage."""


class Images(Dataset):
    """The images of a single batch, over all processes."""

    def __len__(self):
        return BATCH

    def __getitem__(self, number):
        image = torch.randn(SETTINGS["image_shape"], generator=torch.Generator().manual_seed(number))
        return {"pixel_values": image, "labels": number % 5}


def loss_of(model, batch):
    return functional.cross_entropy(model(batch["pixel_values"]), batch["labels"])


def optimizer_over(model):
    """SGD shows errors in the scale of gradients, which AdamW hides."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def world() -> tuple[int, int]:
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def own_loop(out: Path, *, wraps="before", hooks=False, accumulate=1, exports=False) -> nn.Module:
    """A loop of DistributedDataParallel, which wraps the model before or after the schedule is made.

    With `exports`, every process hands the model over, in mid-stage (`early`) and at the end (`model`).
    """
    rank, count = world()
    model = tiny_model()
    optimizer = optimizer_over(model)
    wrapped = DistributedDataParallel(model) if count > 1 and wraps == "before" else model
    training = StagedTraining(wrapped, optimizer, STAGES, **SETTINGS)
    if count > 1 and wraps == "after":
        wrapped = DistributedDataParallel(model)
    if hooks:
        training.follow_optimizer()
    each = BATCH // count // accumulate
    loader = list(DataLoader(Images(), batch_size=each))[rank::count]
    for number in range(1, training.plan.steps + 1):
        if not hooks:
            assert training.step()
        optimizer.zero_grad()
        for part, batch in enumerate(loader, start=1):
            if count > 1:
                wrapped.require_backward_grad_sync = part == len(loader)  # as within no_sync()
            (loss_of(wrapped, batch) / accumulate).backward()
        optimizer.step()
        if number == SAVED_AT and rank == 0:  # one process alone
            with training.at_full_size():
                torch.save(model.state_dict(), out / "checkpoint.pt")
        if exports and number == SAVED_AT:
            hand_over(wrapped, training, out / "early")
    if exports:
        hand_over(wrapped, training, out / "model")
    return model


def hand_over(model: nn.Module, training: StagedTraining, folder: Path) -> None:
    pixels = {"mean": [0.5], "std": [0.5], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    batches = DataLoader(Images(), batch_size=BATCH)
    exported = export(model, training, folder, class_names=list("abcde"), preprocessing=pixels, loader=batches)
    assert (exported is not None) == (world()[0] == 0)


def with_accelerate(out: Path) -> nn.Module:
    accelerator = Accelerator(cpu=True)
    model = tiny_model()
    optimizer = optimizer_over(model)
    training = StagedTraining(model, optimizer, STAGES, **SETTINGS)
    loader = DataLoader(Images(), batch_size=BATCH // accelerator.num_processes)
    wrapped, wrapped_optimizer, loader = accelerator.prepare(model, optimizer, loader)
    while training.step():
        (batch,) = loader
        wrapped_optimizer.zero_grad()
        accelerator.backward(loss_of(wrapped, batch))
        wrapped_optimizer.step()
        if training.begun == SAVED_AT:
            with training.at_full_size():
                accelerator.save(accelerator.unwrap_model(wrapped).state_dict(), out / "checkpoint.pt")
    return model


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = tiny_model()

    def training_step(self, batch, _):
        return loss_of(self.model, batch)

    def configure_optimizers(self):
        return optimizer_over(self)


def with_lightning(out: Path) -> nn.Module:
    _, count = world()
    callback = lightning_callback.StagedTrainingCallback(STAGES, **SETTINGS)
    keep = ModelCheckpoint(out, every_n_train_steps=SAVED_AT, save_top_k=-1, filename="{step}", save_weights_only=True)
    module = Classifier()
    trainer = pl.Trainer(
        max_epochs=-1,
        accelerator="cpu",
        devices=count,
        strategy="ddp" if count > 1 else "auto",
        callbacks=[callback, keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(Images(), batch_size=BATCH // count))
    if trainer.is_global_zero:
        content = torch.load(out / f"step={SAVED_AT}.ckpt", weights_only=True)["state_dict"]
        torch.save({name.removeprefix("model."): tensor for name, tensor in content.items()}, out / "checkpoint.pt")
    return module.model


class Wrapped(nn.Module):
    """A user's own model around timm's, in the form that the Trainer expects."""

    def __init__(self):
        super().__init__()
        self.model = tiny_model()

    def forward(self, pixel_values, labels):
        logits = self.model(pixel_values)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    @property
    def own_model(self) -> nn.Module:
        """timm's model in that of the user, which the trainer keeps without its wrapper for several processes."""
        return self.model.model


def transformers_trainer(out: Path) -> InOrder:
    """A trainer of Hugging Face with the staged training of this module, which saves at `SAVED_AT`."""
    _, count = world()
    model = Wrapped()
    callback = transformers_callback.StagedTrainingCallback(STAGES, **SETTINGS)
    arguments = TrainingArguments(
        str(out),
        max_steps=callback.steps_for(model),
        per_device_train_batch_size=BATCH // count,
        max_grad_norm=0,
        save_steps=SAVED_AT,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    optimizers = (optimizer_over(model), None)
    return InOrder(model, arguments, train_dataset=Images(), optimizers=optimizers, callbacks=[callback])


def with_transformers(out: Path) -> nn.Module:
    trainer = transformers_trainer(out)
    trainer.train()
    if trainer.is_world_process_zero():
        from safetensors.torch import load_file

        content = load_file(out / f"checkpoint-{SAVED_AT}" / "model.safetensors")
        torch.save({name.removeprefix("model."): tensor for name, tensor in content.items()}, out / "checkpoint.pt")
    return trainer.own_model


TRAININGS = {
    "before": lambda out: own_loop(out),
    "after": lambda out: own_loop(out, wraps="after"),
    "hooks": lambda out: own_loop(out, wraps="after", hooks=True),
    "accumulated": lambda out: own_loop(out, accumulate=2),
    "exporting": lambda out: own_loop(out, exports=True),
    "accelerate": with_accelerate,
    "lightning": with_lightning,
    "transformers": with_transformers,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo")
    for name in sys.argv[2:]:
        folder = Path(sys.argv[1]) / name
        folder.mkdir(exist_ok=True)
        trained = TRAININGS[name](folder)
        torch.save(trained.state_dict(), folder / f"{distributed.get_rank()}.pt")
        distributed.barrier()
